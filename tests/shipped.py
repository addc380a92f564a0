"""Parameters of tests that go through the files of `envs/` or `configs/`."""

from __future__ import annotations

from ctypes.util import find_library
from importlib.util import find_spec
from typing import Any

import pytest

from deltarl.library import names

# Families of which `make test` covers one task, or none where others are built the same way; the rest is slow.
FAMILIES = ("adroit_hand_", "ant_maze_", "dmc_", "franka_", "hand_", "metaworld_", "point_maze_")
COVERED = {"adroit_hand_door", "dmc_cheetah_run", "metaworld_reach", "point_maze_umaze"}
EXTRAS = {"dmc_": "dm_control", "metaworld_": "metaworld"}


def marks_of(name: str, *, slow: bool = True) -> list[pytest.MarkDecorator]:
    """Skip what needs a package that is missing; with `slow`, mark what only `make test-slow` covers."""
    marks = [pytest.mark.slow] if slow and name.startswith(FAMILIES) and name not in COVERED else []
    package = next((package for prefix, package in EXTRAS.items() if name.startswith(prefix)), None)
    if name.endswith("_pixels"):
        can_draw = any(find_library(library) for library in ("EGL", "OSMesa"))
        marks.append(pytest.mark.skipif(not can_draw, reason="there is no library to draw frames with"))
    if package is not None:
        marks.append(pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed"))
    return marks


def shipped(kind: str, *, slow: bool = True) -> list[Any]:
    return [pytest.param(name, marks=marks_of(name, slow=slow)) for name in names(kind)]

"""Parameters of tests that go through the files of `envs/` or `configs/`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from deltarl.library import names

# A task of each family that needs packages; the family's other tasks are tested by `make test-slow`.
DEFAULT = {"dmc_cheetah_run"}
EXTRAS = {"dmc_": "dm_control"}


def marks_of(name: str, *, slow: bool = True) -> list[pytest.MarkDecorator]:
    """Skip what needs a package that is missing; with `slow`, all but one task of such a family are slow."""
    package = next((package for prefix, package in EXTRAS.items() if name.startswith(prefix)), None)
    if package is None:
        return []
    missing = pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")
    return [missing, *([pytest.mark.slow] if slow and name not in DEFAULT else [])]


def shipped(kind: str, *, slow: bool = True) -> list[Any]:
    return [pytest.param(name, marks=marks_of(name, slow=slow)) for name in names(kind)]

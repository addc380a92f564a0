"""Keeps the packages of trackers away from Python's random generator, which an environment may draw from."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Collection
from types import ModuleType


def own_module() -> ModuleType:
    """A second module `random`, with a generator of its own."""
    spec = importlib.util.find_spec("random")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def separate(packages: Collection[str], own: ModuleType) -> None:
    """Let the imported modules of these packages draw from `own`.

    They draw whenever they wait before another attempt, at times that differ from run to run.
    """
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in packages and getattr(module, "__dict__", {}).get("random") is random:
            module.__dict__["random"] = own

"""Objects that the user's modules hold by name: tables of levels, constants, sentinels.

They belong to the module. An environment that holds one holds that very object; no copy ever takes its place.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from deltarl.checkpoints.state import kinds

_DEPTH, _LENGTH = 3, 1000


class Globals:
    """The objects of modules by their names, of those modules that have been looked at."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.found: dict[str, Any] = {}
        self._modules: set[str] = set()

    def look_at_module_of(self, kind: Any) -> None:
        """Look at the module of a class, if it is of none of the known packages."""
        name = getattr(kind, "__module__", None)
        if kinds.is_known(kind) or name in self._modules or name not in sys.modules:
            return
        self._modules.add(name)
        for path, value in _objects(vars(sys.modules[name]), name, _DEPTH):
            self.names.setdefault(id(value), path)
            self.found[self.names[id(value)]] = value

    def name_of(self, value: Any) -> str | None:
        """The name of an object that a module holds; None for any other."""
        return self.names.get(id(value))


def _objects(held: dict[Any, Any], path: str, depth: int) -> Iterator[tuple[str, Any]]:
    for key, value in list(held.items())[:_LENGTH]:
        if isinstance(key, str) and key.startswith("__"):
            continue
        if isinstance(value, dict | list | set | deque | np.ndarray) or kinds.is_plain_object(value):
            yield f"{path}:{key}", value
        if depth and isinstance(value, dict):
            yield from _objects(value, f"{path}:{key}", depth - 1)
        elif depth and isinstance(value, list | tuple):
            yield from _objects(dict(enumerate(value)), f"{path}:{key}", depth - 1)

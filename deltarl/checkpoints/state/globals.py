"""Global objects of the user's modules, such as tables of levels, constants and sentinels.

A reference to such an object is restored as a reference to the module's object, never as a copy.
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
    """The objects of the modules examined so far, by name."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.found: dict[str, Any] = {}
        self._modules: set[str] = set()

    def look_at_module_of(self, kind: Any) -> None:
        """Examine the module of a class, unless it belongs to a known package."""
        name = getattr(kind, "__module__", None)
        if kinds.is_known(kind) or name in self._modules or name not in sys.modules:
            return
        self._modules.add(name)
        for path, value in _objects(vars(sys.modules[name]), name, _DEPTH):
            self.names.setdefault(id(value), path)
            self.found[self.names[id(value)]] = value

    def name_of(self, value: Any) -> str | None:
        """The name of an object in an examined module; None if it is in none."""
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

"""Restores nodes in formats that only older snapshots use."""

from __future__ import annotations

import functools
import types
from enum import Enum
from typing import Any

import numpy as np

from deltarl.checkpoints.state import arrays, kinds
from deltarl.checkpoints.state.snapshot import MISSING, MisfitError, Walk

_CALLABLE = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)


def value(walk: Walk, old: Any, node: dict[str, Any], path: str) -> Any:
    """The object that replaces `old`, or `old` itself, filled.

    Raises:
        MisfitError: if no version so far has written such a node.
    """
    kind, content = next(iter(node.items()))
    match kind:
        case "scalar":
            return arrays.array(walk, content)[()]
        case "strings":
            return np.array(content)
        case "callable":
            return _put_callable(walk, old, content, node["held"], path)
        case _:
            raise MisfitError(f"{path}: '{kind}' was written by a newer version")


def _put_callable(walk: Walk, old: Any, name: str, nodes: list[Any], path: str) -> Any:
    if not isinstance(old, _CALLABLE) or _name_of(old) != name:
        return walk.miss(path)
    held = _held(old)
    filled = walk.items(held, nodes, path)
    if filled is MISSING or len(filled) != len(held):
        return MISSING if filled is MISSING else walk.miss(path)
    return old if all(map(_equal, filled, held)) else walk.miss(path)


def put_generator(old: Any, state: dict[str, Any]) -> np.random.Generator:
    kind = kinds.BITS[state["bit_generator"]]
    fits = isinstance(old, np.random.Generator) and type(old.bit_generator) is kind
    generator = old if fits else np.random.Generator(kind(0))
    generator.bit_generator.state = state
    return generator


def _name_of(value: Any) -> str:
    if isinstance(value, functools.partial):
        return f"partial {_name_of(value.func)}"
    return str(getattr(value, "__qualname__", type(value).__name__))


def _held(value: Any) -> list[Any]:
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.FunctionType):
        return [cell.cell_contents for cell in kinds.cells_of(value)]
    owner = getattr(value, "__self__", None)
    return [] if owner is None or isinstance(owner, types.ModuleType | type) else [owner]


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return type(one) is type(other) and isinstance(one, str | int | float | tuple | Enum) and one == other

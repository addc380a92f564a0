"""Restores functions, methods, partials and weak references."""

from __future__ import annotations

import functools
import types
import weakref
from contextlib import suppress
from typing import Any

from deltarl.checkpoints.state import kinds, objects
from deltarl.checkpoints.state.snapshot import MISSING, Walk


def put_function(walk: Walk, old: Any, name: str, node: dict[str, Any], path: str) -> Any:
    if not callable(old) or kinds.name_of_function(old) != name:
        return walk.miss(path)
    if "code" not in node:
        return old
    if not isinstance(old, types.FunctionType) or kinds.digest_of(old.__code__) != node["code"]:
        return walk.miss(path)
    cells = kinds.cells_of(old)
    if len(cells) != len(node["cells"]):
        return walk.miss(path)
    for index, (cell, content) in enumerate(zip(cells, node["cells"], strict=True)):
        _put_cell(cell, walk.fill(cell.cell_contents, content, f"{path}/{index}"))
    walk.items(old.__defaults__ or (), node["defaults"], f"{path}/#defaults")
    walk.entries(old.__kwdefaults__ or {}, node["keywords"], f"{path}/#keywords")
    objects.put_extras(walk, old, node, path)
    return old


def _put_cell(cell: types.CellType, new: Any) -> None:
    if new is not MISSING and new is not cell.cell_contents:
        cell.cell_contents = new


def put_bound(walk: Walk, old: Any, node: dict[str, Any], path: str) -> Any:  # noqa: PLR0911
    kind, content = next(iter(node.items()))
    if kind == "partial":
        if type(old) is not functools.partial:
            return walk.miss(path)
        func = walk.fill(old.func, content, f"{path}/#func")
        args = walk.items(old.args, node["args"], path)
        keywords = walk.entries(old.keywords, node["keywords"], f"{path}/#keywords")
        if any(each is MISSING for each in (func, args, keywords)):
            return MISSING
        if func is not old.func and not kinds.may_be_called(func):
            return walk.miss(path)
        old.__setstate__((func, tuple(args), dict(keywords), vars(old)))  # type: ignore[attr-defined]
        objects.put_extras(walk, old, node, path)
        return old
    owner = walk.fill(getattr(old, "__self__", None), node["owner"], f"{path}/#owner")
    if owner is MISSING:
        return MISSING
    if kind == "bound":
        function = walk.fill(getattr(old, "__func__", None), content, f"{path}/#function")
        if function is MISSING:
            return MISSING
        if isinstance(old, types.MethodType) and old.__self__ is owner and old.__func__ is function:
            return old
        is_own = isinstance(function, types.FunctionType) and kinds.may_be_called(function)
        return types.MethodType(function, owner) if is_own else walk.miss(path)
    if getattr(old, "__self__", None) is owner and getattr(old, "__name__", None) == content:
        return old
    found = kinds.method_of(owner, content)
    return found if found is not None and kinds.may_be_called(found) else walk.miss(path)


def put_weakref(walk: Walk, old: Any, node: Any, path: str) -> Any:
    known = old() if type(old) is weakref.ref else None
    target = walk.fill(known, node, f"{path}/#target")
    if target is MISSING:
        return MISSING
    if type(old) is weakref.ref and known is target:
        return old
    with suppress(TypeError):
        return weakref.ref(target)
    return walk.miss(path)

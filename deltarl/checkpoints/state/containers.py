"""Restores containers."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from deltarl.checkpoints.state import kinds, values


def immutable(old: Any, base: type, filled: list[Any], node: dict[str, Any]) -> Any:
    """A tuple or frozenset of the class of `old`; None if that class is not available."""
    if "class" not in node:
        is_it = base is frozenset and old is not None and is_set(old, filled, node)
        return old if is_it else base(filled)
    kind = type(old) if old is not None else kinds.loaded(node["class"], base)
    return None if kind is None else base.__new__(kind, filled)


def is_set(old: Any, items: list[Any], node: dict[str, Any]) -> bool:
    """Whether a set has these items in the order in which it was captured."""
    return list(old) == items and values.table_of(old) == node.get("table")


def refill(old: Any, base: type, items: list[Any]) -> None:
    """Give a container exactly these items, bypassing methods that its class overrides."""
    if base is dict:
        put = OrderedDict.__setitem__ if isinstance(old, OrderedDict) else dict.__setitem__
        (OrderedDict if isinstance(old, OrderedDict) else dict).clear(old)
        for key, value in items:
            put(old, key, value)
        return
    kind: Any = base
    kind.clear(old)
    for item in items:
        (kind.add if base is set else kind.append)(old, item)

"""Restores the attributes of objects, the state of classes, and members of enums."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
from typing import Any

import gymnasium as gym
import torch

from deltarl.checkpoints.state import kinds
from deltarl.checkpoints.state.kinds import class_of
from deltarl.checkpoints.state.snapshot import MISSING, Walk, below


def put_attributes(walk: Walk, old: Any, nodes: dict[str, Any], path: str) -> None:
    """Give an object exactly these attributes, in this order."""
    known = kinds.attributes_of(old)
    slots = kinds.slots_of(type(old))
    for index, (name, node) in enumerate(nodes.items()):
        if name not in known and kinds.hides_a_method(old, name):
            walk.miss(below(path, index, name))
            continue
        new = walk.fill(known.get(name), node, below(path, index, name))
        if new is MISSING or (name in known and new is known[name]):
            continue
        if name in slots:
            slots[name].__set__(old, new)
        else:
            vars(old)[name] = new
    if isinstance(old, gym.Space) and walk.version < 2:  # version 1 does not record the attributes of spaces
        return
    if type(old).__module__.startswith("deltarl."):  # an option that a later version added
        return
    for name in known.keys() - nodes.keys():
        if isinstance(old, torch.nn.Module) and name.endswith("_hooks"):
            continue
        if name in slots:
            slots[name].__delete__(old)
        else:
            del vars(old)[name]
    _order(getattr(old, "__dict__", {}), nodes)


def put_extras(walk: Walk, old: Any, node: dict[str, Any], path: str) -> None:
    """Give an object attributes that its type usually does not have."""
    if "attributes" in node or (walk.version >= 2 and getattr(old, "__dict__", None)):
        put_attributes(walk, old, node.get("attributes", {}), f"{path}/#attributes")


def put_object(walk: Walk, old: Any, nodes: dict[str, Any], node: dict[str, Any], path: str) -> Any:
    if class_of(old) != node["class"] or not walk.is_free(old):
        return walk.miss(path)
    put_class(walk, type(old), node, path)
    if kinds.is_frozen(old):  # it may be shared, for example with a module
        walk.done[path] = new = object.__new__(type(old))
        _put_frozen(walk, new, old, nodes, path)
        return old if _equals(old, new) else new
    put_attributes(walk, old, nodes, path)
    return old


def _put_frozen(walk: Walk, new: Any, old: Any, nodes: dict[str, Any], path: str) -> None:
    """Fill `new`, an empty object of the class of `old`, which is frozen."""
    known, slots = kinds.attributes_of(old), kinds.slots_of(type(old))
    for index, (name, node) in enumerate(nodes.items()):
        value = walk.fill(known.get(name), node, below(path, index, name))
        if value is not MISSING:
            slots[name].__set__(new, value) if name in slots else vars(new).__setitem__(name, value)


def put_class(walk: Walk, kind: type, node: dict[str, Any], path: str) -> None:
    """Restore the state of a user's class; functions keep their code and get only their state."""
    walk.globals.look_at_module_of(kind)
    if "held" not in node or kinds.is_known(kind) or not walk.is_free(kind):
        return
    path = f"{path}/#class"
    walk.items(kinds.bases_of(kind), node["held"]["bases"], f"{path}/#bases")
    for index, (name, member) in enumerate(node["held"]["members"].items()):
        old = vars(kind).get(name, MISSING)
        new = walk.fill(None if old is MISSING else old, member, below(path, index, name))
        if new is not MISSING and new is not old:
            type.__setattr__(kind, name, new)


def put_enum(walk: Walk, old: Any, name: str | None, node: dict[str, Any], path: str) -> Any:
    fits = isinstance(old, Enum) and class_of(old) == node["class"]
    kind = type(old) if fits else kinds.loaded(node["class"], Enum)
    if kind is None:
        return walk.miss(path)
    put_class(walk, kind, node, path)
    found = kind.__members__.get(name)
    if found is None and "number" in node:
        found = kind._value2member_map_.get(node["number"])
    if found is None:
        return walk.miss(path)
    if "attributes" in node:
        walk.done[path] = found
        for index, (key, each) in enumerate(node["attributes"].items()):
            new = walk.fill(vars(found).get(key), each, below(f"{path}/#attributes", index, key))
            if new is not MISSING:
                vars(found)[key] = new
    return found


def _order(attributes: dict[str, Any], names: Iterable[str]) -> None:
    """Sort attributes in the order of `names`; others come last."""
    order = [name for name in names if name in attributes]
    if order != [name for name in attributes if name in set(order)]:
        for name in order + [name for name in attributes if name not in set(order)]:
            attributes[name] = attributes.pop(name)


def _equals(one: Any, other: Any) -> bool:
    with suppress(Exception):
        return bool(one == other)
    return False

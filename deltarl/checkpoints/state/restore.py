"""Restore a snapshot into objects that were built like the captured ones."""

from __future__ import annotations

import base64
import random
import re
import struct
import types
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from deltarl.checkpoints import physics
from deltarl.checkpoints.state import (
    arrays,
    before,
    containers,
    functions,
    generators,
    kinds,
    memory,
    objects,
    values,
)
from deltarl.checkpoints.state.capture import shared_by_all
from deltarl.checkpoints.state.globals import Globals
from deltarl.checkpoints.state.kinds import class_of
from deltarl.checkpoints.state.snapshot import MISSING, Arrays, Snapshot, below

# Kinds of objects that a module may hold as globals and share with others.
_OF_MODULES = {"object", "dict", "list", "packed", "set", "deque", "array", "tensor"}


class Restore:
    """One walk along a snapshot.

    Args:
        snapshot: the captured state.
        elsewhere: the arrays that the snapshot only refers to.
    """

    def __init__(self, snapshot: Snapshot, elsewhere: Arrays) -> None:
        self.tensors, self.version = snapshot.tensors, snapshot.version
        self.missing: list[str] = []
        self.done: dict[str, Any] = {f"elsewhere/{name}": array for name, array in elsewhere.items()} | shared_by_all()
        # Two places of the new object may share what were two separate objects when captured.
        self.taken: dict[int, Any] = {}
        self.globals = Globals()

    def fill(self, old: Any, node: Any, path: str) -> Any:
        """The object that replaces `old`, or `old` itself, filled; `MISSING` if it cannot be restored."""
        if not isinstance(node, dict):
            return node
        kind, content = next(iter(node.items()))
        if kind == "same":
            return self.done[content] if content in self.done else self.miss(path)
        old = self.of_module(old, node)
        # A container may contain itself, so it is registered before it is filled.
        self.done[path] = old
        self.done[path] = new = self.value(old, kind, content, node, path)
        return new

    def of_module(self, old: Any, node: dict[str, Any]) -> Any:
        """The module's object with the captured object's name; `old` if it had no name."""
        if self.version < 2 or next(iter(node)) not in _OF_MODULES:
            return old
        if "global" in node:
            return self.globals.found.get(node["global"])
        return old if self.globals.name_of(old) is None else None

    def miss(self, path: str) -> Any:
        self.missing.append(path)
        return MISSING

    def value(self, old: Any, kind: str, content: Any, node: dict[str, Any], path: str) -> Any:  # noqa: PLR0911, PLR0912, PLR0915
        match kind:
            case "made_anew":
                return old
            case "constant":
                return self.miss(path) if old is None else old
            case "float":
                return float(content)
            case "int":
                return int(content, 16)
            case "nan":
                return struct.unpack("<d", bytes.fromhex(content))[0]
            case "value":
                with suppress(KeyError, ValueError, TypeError, ArithmeticError, AttributeError, re.error):
                    return values.decoded(node)
                return self.miss(path)
            case "number":
                dtype = memory.dtype_of(node["dtype"])
                return np.frombuffer(base64.b64decode(content), dtype, count=1)[0]
            case "enum":
                return objects.put_enum(self, old, content, node, path)
            case "bytes":
                return base64.b64decode(content)
            case "bytearray":
                return self.put_bytearray(old, base64.b64decode(content))
            case "range" | "slice":
                return {"range": range, "slice": slice}[kind](*(self.fill(None, each, path) for each in content))
            case "array":
                return arrays.put_array(self, old, node)
            case "view":
                return arrays.put_view(self, old, content, node, path)
            case "objects":
                items = self.items((), content, path)
                return items if items is MISSING else arrays.of_objects(items, node)
            case "tensor":
                return arrays.put_tensor(self, old, self.tensors[content], node, path)
            case "tensor_view":
                return arrays.put_tensor_view(self, old, content, node, path)
            case "packed":
                return self.put_list(old, self.tensors[content].tolist())
            case "list" | "tuple" | "set" | "frozenset" | "deque" | "dict":
                return self.put_container(old, kind, content, node, path)
            case "module":
                return old if isinstance(old, types.ModuleType) and old.__name__ == content else self.miss(path)
            case "type":
                if not isinstance(old, type) or kinds.name_of_class(old) != content:
                    return kinds.DATA[content] if content in kinds.DATA else self.miss(path)
                objects.put_class(self, old, node, path)
            case "wrapped":
                if class_of(old) != node["class"]:
                    return self.miss(path)
                inside = kinds.inside_of(old)
                if len(inside) != len(content) or self.items(inside, content, path) is MISSING:
                    return self.miss(path)
            case "function" | "builtin":
                return functions.put_function(self, old, content, node, path)
            case "method" | "bound" | "partial":
                return functions.put_bound(self, old, node, path)
            case "weakref":
                return functions.put_weakref(self, old, content, path)
            case "bits":
                return generators.put_bits(self, old, content, node, path)
            case "seed_sequence":
                state = self.fill({}, content, f"{path}/state")
                is_it = type(old) is np.random.SeedSequence and repr(old.state) == repr(state)
                return old if is_it else np.random.SeedSequence(**state)
            case "generator":
                if next(iter(content)) == "dict":
                    return before.put_generator(old, self.fill({}, content, f"{path}/state"))
                fits = type(old) is np.random.Generator
                bits = self.fill(old.bit_generator if fits else None, content, f"{path}/bits")
                return old if fits and old.bit_generator is bits else np.random.Generator(bits)
            case "random_state":
                return generators.put_random_state(self, old, content, node, path)
            case "random":
                state = self.fill((), content, f"{path}/state")
                generator = old if type(old) is random.Random else random.Random()
                generator.setstate(state)
                return generator
            case "torch_generator":
                if not isinstance(old, torch.Generator) or str(old.device) != node["device"]:
                    if node["device"] != "cpu":
                        return self.miss(path)
                    old = torch.Generator()
                old.set_state(self.tensors[content])
            case "optimizer":
                if not isinstance(old, torch.optim.Optimizer):
                    return self.miss(path)
                old.load_state_dict(self.fill({}, content, f"{path}/state"))
                if self.version >= 2:
                    objects.put_attributes(self, old, node.get("attributes", {}), f"{path}/#attributes")
            case "mjdata":
                if not physics.is_data(old):
                    return self.miss(path)
                arrays.simulation(self, lambda arrays: physics.write_data(old.model, old, arrays), content, path)
            case "mjmodel":
                if not physics.is_model(old):
                    return self.miss(path)
                arrays.simulation(self, lambda arrays: physics.write_model(old, arrays), content, path)
            case "object":
                return objects.put_object(self, old, content, node, path)
            case _:
                return before.value(self, old, node, path)
        return old

    def items(self, old: Iterable[Any], nodes: list[Any], path: str) -> Any:
        """All items, or `MISSING` if any is missing."""
        known = list(old)
        known += [None] * (len(nodes) - len(known))
        filled = [self.fill(known[index], node, f"{path}/{index}") for index, node in enumerate(nodes)]
        return MISSING if any(item is MISSING for item in filled) else filled

    def entries(self, old: dict[Any, Any], nodes: list[list[Any]], path: str) -> Any:
        filled: list[tuple[Any, Any]] = []
        for index, (key_node, node) in enumerate(nodes):
            key = self.fill(None, key_node, f"{path}/#key{index}")
            if key is MISSING:
                return MISSING
            known = dict.get(old, key)
            filled.append((key, self.fill(known, node, below(path, index, key))))
        return MISSING if any(value is MISSING for _, value in filled) else filled

    def is_free(self, old: Any) -> bool:
        """Whether `old` has not been filled yet; it then counts as filled."""
        if id(old) in self.taken:
            return False
        self.taken[id(old)] = old
        return True

    def put_list(self, old: Any, items: list[Any]) -> list[Any]:
        if type(old) is not list or not self.is_free(old):
            return items
        old[:] = items
        return old

    def put_container(self, old: Any, kind: str, nodes: list[Any], node: dict[str, Any], path: str) -> Any:
        base = {each.__name__: each for each in kinds.CONTAINERS}[kind]
        name = node.get("class", f"{base.__module__}.{base.__qualname__}")
        fits = isinstance(old, base) and class_of(old) == name
        if fits:
            objects.put_class(self, type(old), node, path)
        new = self.empty(old if fits else None, base, name, node)
        self.done[path] = new  # it may contain itself
        if base is dict:
            filled = self.entries(old if fits else {}, nodes, path)
        else:
            filled = self.items(old if fits and base not in {set, frozenset} else (), nodes, path)
        if filled is MISSING:
            return MISSING
        if base in {tuple, frozenset}:
            new = containers.immutable(old if fits else None, base, filled, node)
            return self.miss(path) if new is None else new
        if new is None:
            return self.miss(path)
        if base is set and new is not old and fits and containers.is_set(old, filled, node):
            return old
        if "factory" in node:
            factory = self.fill(getattr(old, "default_factory", None), node["factory"], f"{path}/#factory")
            if factory is MISSING:
                return MISSING
            new.default_factory = factory
        containers.refill(new, base, filled)
        if "attributes" in node:
            objects.put_attributes(self, new, node["attributes"], f"{path}/#attributes")
        return new

    def empty(self, old: Any, base: type, name: str, node: dict[str, Any]) -> Any:
        """The object to fill: `old` if it is free, otherwise a new one if its class is only data."""
        is_replaced = "class" not in node and base in {set, deque} and "global" not in node
        if old is not None and not is_replaced and base not in {tuple, frozenset} and self.is_free(old):
            return old
        if base is deque:
            return deque(maxlen=node["maxlen"]) if "class" not in node else None
        return base() if "class" not in node else kinds.MAKEABLE.get(name, lambda: None)()

    def put_bytearray(self, old: Any, content: bytes) -> bytearray:
        if type(old) is not bytearray or not self.is_free(old):
            return bytearray(content)
        old[:] = content
        return old

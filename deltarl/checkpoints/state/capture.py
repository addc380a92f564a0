"""Walk through live objects and record their state."""

from __future__ import annotations

import base64
import functools
import math
import random
import struct
import sys
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import Enum
from typing import Any

import numpy as np
import torch

from deltarl.checkpoints import physics
from deltarl.checkpoints.state import kinds, memory, values
from deltarl.checkpoints.state.capture_memory import MemoryCapture
from deltarl.checkpoints.state.globals import Globals
from deltarl.checkpoints.state.kinds import class_of
from deltarl.checkpoints.state.snapshot import Arrays, Snapshot, below

_PACKED_LENGTH = 64
_LONGEST_INT = 10_000  # bits; Python limits the length of the decimals that it writes and reads


def shared_by_all() -> dict[str, Any]:
    """The random generators that every process starts with; references to them are restored as references."""
    return {
        "process/numpy": np.random.mtrand._rand,
        "process/python": random.random.__self__,  # type: ignore[attr-defined]
        "process/torch": torch.default_generator,
    }


class Capture(MemoryCapture):
    """One walk through an object graph.

    Args:
        elsewhere: arrays, by name, that are stored separately; the snapshot only refers to them.
    """

    def __init__(self, elsewhere: Arrays) -> None:
        super().__init__()
        known = {f"elsewhere/{name}": array for name, array in elsewhere.items()} | shared_by_all()
        self.paths = {id(value): name for name, value in known.items()}
        self.alive: list[Any] = list(known.values())  # an id is unique only while its object is alive
        self.classes: set[type] = set()
        self.globals = Globals()
        for name, array in elsewhere.items():
            self.extents.append((memory.address(array), array.nbytes, f"elsewhere/{name}"))

    def run(self, root: object) -> Snapshot:
        self.snapshot.tree = self.node(root, "")
        self.name_overlaps()
        return self.snapshot

    def node(self, value: Any, path: str) -> Any:  # noqa: PLR0911 - one case a kind
        if value is None or type(value) in {bool, str} or (type(value) is int and value.bit_length() <= _LONGEST_INT):
            return value
        if type(value) is int:
            return {"int": hex(value)}
        if type(value) is float and not math.isnan(value):
            return value if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, Enum):
            return self.member(value, path)
        if isinstance(value, np.generic):
            return self.scalar(value, path)
        if type(value) is bytes:
            return {"bytes": base64.b64encode(value).decode()}
        if isinstance(value, range | slice):
            return {type(value).__name__: [self.node(x, path) for x in (value.start, value.stop, value.step)]}
        if kinds.is_made_anew(value):
            return {"made_anew": type(value).__name__}
        if (encoded := values.encoded(value)) is not None:
            return encoded
        if isinstance(value, type):
            return {"type": kinds.name_of_class(value), **self.type_of(value, path)}
        return self.once(value, path) or self.compound(value, path)

    def once(self, value: Any, path: str) -> dict[str, str] | None:
        """The path at which an object was first met, or None if this is the first time, which is then recorded."""
        if id(value) in self.paths:
            return {"same": self.paths[id(value)]}
        self.paths[id(value)] = path
        self.alive.append(value)
        return None

    def compound(self, value: Any, path: str) -> Any:  # noqa: PLR0911, PLR0912 - one case a kind
        match value:
            case float() if type(value) is float:  # NaN, which does not equal itself
                return {"nan": struct.pack("<d", value).hex()}
            case torch.Tensor():
                return self.tensor(value, path)
            case np.ndarray():
                return self.array(value, path)
            case list() if type(value) is list and (packed := _packed(value)) is not None:
                return {"packed": self.put(packed, path), **self.name_of(value)}
            case torch.optim.Optimizer():
                state, own = self.node(value.state_dict(), f"{path}/state"), kinds.attributes_of(value)
                return {"optimizer": state, "attributes": self.named(own, f"{path}/#attributes")}
            case np.random.BitGenerator() if type(value).__name__ in kinds.BITS and kinds.is_known(type(value)):
                return {
                    "bits": self.node(value.state, f"{path}/state"),
                    "class": type(value).__name__,
                    "seed": self.node(value.seed_seq, f"{path}/seed"),
                }
            case np.random.SeedSequence():
                return {"seed_sequence": self.node(value.state, f"{path}/state")}
            case np.random.Generator() if type(value) is np.random.Generator:
                return {"generator": self.node(value.bit_generator, f"{path}/bits")}
            case np.random.RandomState() if type(value) is np.random.RandomState:
                state = self.node(value.get_state(legacy=False), f"{path}/state")
                return {"random_state": state, "bits": self.node(value._bit_generator, f"{path}/bits")}
            case torch.Generator():
                state = self.put(value.get_state(), path)
                return {"torch_generator": state, "device": str(value.device)}
            case random.Random() if type(value) is random.Random:
                return {"random": self.node(value.getstate(), f"{path}/state")}
            case bytearray() if type(value) is bytearray:
                if value:
                    self.extents.append((memory.address(np.frombuffer(value, np.uint8)), len(value), path))
                return {"bytearray": base64.b64encode(value).decode()}
            case weakref.ref() if type(value) is weakref.ref and value.__callback__ is None:
                return {"weakref": self.node(value(), f"{path}/#target")}
            case types.ModuleType() if sys.modules.get(value.__name__) is value:
                return {"module": value.__name__}
            case _ if physics.is_data(value):
                return {"mjdata": self.arrays(physics.read_data(value.model, value), path)}
            case _ if physics.is_model(value):
                return {"mjmodel": self.arrays(physics.read_model(value), path)}
        if callable(value) and (node := self.callable(value, path)) is not None:
            return node
        if isinstance(value, kinds.WRAPPED):
            return {"wrapped": self.items(kinds.inside_of(value), path), "class": class_of(value)}
        if type(value) is not object and (_hides(value) or not _has_attributes(value)):
            return self.unsupported(path, class_of(value))
        if isinstance(value, kinds.CONTAINERS):
            return self.container(value, path)
        of_class = self.type_of(type(value), path)  # first: shared objects belong to the class
        named = self.name_of(value)
        if type(value) is object and not named:  # a bare object() has only its identity, which cannot be restored
            return self.unsupported(path, class_of(value))
        attributes = self.named(kinds.attributes_of(value), path)
        return {"object": attributes, "class": class_of(value), **of_class, **named}

    def name_of(self, value: Any) -> dict[str, str]:
        """The name of an object in a module, if it has one."""
        name = self.globals.name_of(value)
        return {} if name is None else {"global": name}

    def type_of(self, kind: type, path: str) -> dict[str, Any]:
        """The state of a class, recorded when it is first met; classes of known packages are skipped."""
        if kinds.is_known(kind) or kind in self.classes:
            return {}
        self.globals.look_at_module_of(kind)
        self.classes.add(kind)
        path = f"{path}/#class"
        bases = self.items(kinds.bases_of(kind), f"{path}/#bases")
        return {"held": {"bases": bases, "members": self.named(kinds.members_of(kind), path)}}

    def container(self, value: Any, path: str) -> dict[str, Any]:
        kind: Any = next(base for base in kinds.CONTAINERS if isinstance(value, base))
        of_class = self.type_of(type(value), path)
        node: dict[str, Any] = {}
        if kind is dict:
            node["dict"] = self.entries(value, path)
        elif kind in {set, frozenset}:
            items = list(kind.__iter__(value))
            is_in_order = values.is_in_order(items)
            node[kind.__name__] = self.items(items if is_in_order else sorted(items, key=repr), path)
            if is_in_order:
                node["table"] = values.table_of(value)
        else:
            node[kind.__name__] = self.items(kind.__iter__(value), path)
        if kind is deque:
            node["maxlen"] = value.maxlen
        if type(value) is not kind:
            node["class"] = class_of(value)
        if hasattr(value, "default_factory"):
            node["factory"] = self.node(value.default_factory, f"{path}/#factory")
        if attributes := kinds.attributes_of(value):
            node["attributes"] = self.named(attributes, f"{path}/#attributes")
        return node | of_class | self.name_of(value)

    def callable(self, value: Any, path: str) -> dict[str, Any] | None:  # noqa: PLR0911 - one case a kind
        match value:
            case functools.partial() if type(value) is functools.partial:
                keywords = self.entries(value.keywords, f"{path}/#keywords")
                func = self.node(value.func, f"{path}/#func")
                node = {"partial": func, "args": self.items(value.args, path), "keywords": keywords}
                return node | self.extras(value, path)
            case types.MethodType():
                owner = self.node(value.__self__, f"{path}/#owner")
                name = value.__func__.__name__
                if getattr(kinds.method_of(value.__self__, name), "__func__", None) is value.__func__:
                    return {"method": name, "owner": owner}
                return {"bound": self.node(value.__func__, f"{path}/#function"), "owner": owner}
            case types.BuiltinFunctionType() | types.MethodWrapperType():
                owner = getattr(value, "__self__", None)
                if owner is None or isinstance(owner, types.ModuleType | type):
                    return {"builtin": kinds.name_of_function(value)}
                return {"method": value.__name__, "owner": self.node(owner, f"{path}/#owner")}
            case types.FunctionType():
                return {"function": kinds.name_of_function(value), **self.inside(value, path)}
            case functools._lru_cache_wrapper():
                if value.cache_info().currsize:
                    return self.unsupported(path, "what a cache remembers")
                return {"wrapped": [self.node(value.__wrapped__, f"{path}/0")], "class": class_of(value)}
            case np.ufunc() if value.__name__.endswith("(vectorized)"):  # of `frompyfunc`
                return self.unsupported(path, class_of(value))
            case np.ufunc() | types.MethodDescriptorType() | types.WrapperDescriptorType():
                return {"builtin": kinds.name_of_function(value)}
            case _ if kinds.is_top_level(value):
                return {"builtin": kinds.name_of_function(value)}
            case _:
                return None

    def inside(self, function: types.FunctionType, path: str) -> dict[str, Any]:
        """The code of a function, and its state."""
        if kinds.is_top_level(function):
            return {}
        cells = [cell.cell_contents for cell in kinds.cells_of(function)]
        return {
            "code": kinds.digest_of(function.__code__),
            "cells": self.items(cells, path),
            "defaults": self.items(function.__defaults__ or (), f"{path}/#defaults"),
            "keywords": self.entries(function.__kwdefaults__ or {}, f"{path}/#keywords"),
            **self.extras(function, path),
        }

    def extras(self, value: Any, path: str) -> dict[str, Any]:
        """Attributes of an object whose type usually has none."""
        own = getattr(value, "__dict__", {})
        return {"attributes": self.named(own, f"{path}/#attributes")} if own else {}

    def member(self, value: Enum, path: str) -> dict[str, Any]:
        node = {"enum": value.name, "class": class_of(value), **self.type_of(type(value), path)}
        own = {name: held for name, held in vars(value).items() if name not in kinds.OF_EVERY_MEMBER}
        if value.name is None or value.name not in type(value).__members__:
            node["number"] = value.value  # a combination of flags
        if own and self.once(value, path) is None:
            node["attributes"] = self.named(own, f"{path}/#attributes")
        return node

    def named(self, held: Mapping[str, Any], path: str) -> dict[str, Any]:
        return {name: self.node(value, below(path, index, name)) for index, (name, value) in enumerate(held.items())}

    def entries(self, held: Mapping[Any, Any], path: str) -> list[list[Any]]:
        kind: Any = OrderedDict if isinstance(held, OrderedDict) else dict
        return [
            [self.node(key, f"{path}/#key{index}"), self.node(value, below(path, index, key))]
            for index, (key, value) in enumerate(kind.items(held))
        ]

    def items(self, held: Iterable[Any], path: str) -> list[Any]:
        return [self.node(value, f"{path}/{index}") for index, value in enumerate(held)]


def _has_attributes(value: Any) -> bool:
    return hasattr(value, "__dict__") or bool(kinds.slots_of(type(value))) or isinstance(value, kinds.CONTAINERS)


def _hides(value: Any) -> bool:
    if hasattr(value, "_fields") and isinstance(value, tuple):
        return False
    is_makeable = class_of(value) in kinds.MAKEABLE
    return not is_makeable and kinds.hides_state(value)


def _packed(items: list[Any]) -> torch.Tensor | None:
    """A long list of floats or ints, such as Monitor's list of episodes, as one tensor."""
    if len(items) < _PACKED_LENGTH or len(found := set(map(type, items))) > 1:
        return None
    kind = found.pop()
    if kind is float and not any(map(math.isnan, items)):
        return torch.tensor(items, dtype=torch.float64)
    if kind is int:
        with suppress(OverflowError, ValueError, RuntimeError):
            return torch.tensor(items, dtype=torch.int64)
    return None

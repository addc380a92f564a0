"""The state of living Python objects as data: JSON and tensors, without pickle.

`capture` walks everything that can be reached from an object, an SB3 algorithm with its environments for instance,
and `restore` fills an object that was built in the same way. No list of attributes has to be kept: what a wrapper, an
environment or an algorithm of somebody else's holds is stored because it is there. Nothing is ever constructed from
what a file says but numbers, strings, containers, arrays and random generators; an object that was not built already
is reported, and left out.
"""

from __future__ import annotations

import base64
import functools
import logging
import math
import random
import sys
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, EnumMeta
from pathlib import PurePath
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

from deltarl import fast
from deltarl.training import physics

Arrays = Mapping[str, np.ndarray[Any, Any]]

# Made from the config, the same in every process.
_CONSTANT = (
    types.ModuleType,
    type,
    PurePath,
    EnvSpec,
    torch.device,
    torch.dtype,
    np.dtype,
    np.ufunc,
    property,
)
# Made anew before it is read again, or of this process alone.
_MADE_ANEW = (RolloutBuffer, torch.distributions.Distribution, weakref.ReferenceType, Logger, logging.Logger)
# What passes: infos of the last step, which hold anything and have been read; clocks, which do not go on between
# processes; the budget, which a resumed run may be given anew; what is hooked into an algorithm while it learns, or is
# made of its networks.
_PASSING: tuple[tuple[type, set[str]], ...] = (
    (BaseAlgorithm, {"start_time", "_total_timesteps", "collect_rollouts", "dump_logs", "_lean"}),
    (DummyVecEnv, {"buf_infos", "reset_infos"}),
    (VecEnvWrapper, {"class_attributes"}),
    (Monitor, {"t_start"}),
    (torch.nn.Module, set(vars(torch.nn.Module())) - {"_parameters", "_buffers", "_modules", "training"}),
)
# With the state of another class, whose name stands in files, those of before among them.
_NAMED: Mapping[type, type] = {fast.DummyVecEnv: DummyVecEnv}
_CALLABLE = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)
_PACKED_LENGTH = 64
_MISSING: Any = object()


class MisfitError(Exception):
    """The object is not of the shape that the snapshot was taken of; the message says where."""


@dataclass
class Snapshot:
    """The state of an object.

    Attributes:
        tree: JSON.
        tensors: what is no JSON, by the path at which it was found.
        unsupported: path and type of what could not be stored.
    """

    tree: Any
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    unsupported: dict[str, str] = field(default_factory=dict)


def capture(root: object, elsewhere: Arrays | None = None) -> Snapshot:
    """A copy of everything that can be reached from `root`.

    Args:
        root: an object, or a dict of them.
        elsewhere: arrays, by a name of their own, that are stored in another way and only referred to here.

    Raises:
        RecursionError: if objects hold each other some hundred levels deep.
    """
    return _Capture(elsewhere or {}).run(root)


def restore(root: object, snapshot: Snapshot, elsewhere: Arrays | None = None) -> tuple[Any, list[str]]:
    """Fill `root`, built as the captured object was, from a snapshot.

    Returns:
        `root` itself, or what takes its place if it is a number, a string or a tuple; and the paths of what has no
        place to go to in `root`, and was left as it is.

    Raises:
        MisfitError: if `root` has another shape; it may then be filled in part.
    """
    restoring = _Restore(snapshot, elsewhere or {})
    filled = restoring.fill(root, snapshot.tree, "")
    return (root if filled is _MISSING else filled), restoring.missing


class _Capture:
    def __init__(self, elsewhere: Arrays) -> None:
        self.snapshot = Snapshot(tree=None)
        self.paths = {id(array): f"elsewhere/{name}" for name, array in elsewhere.items()}
        self.alive: list[Any] = []  # an id is an object's own only while it lives
        self.views: dict[str, Any] = {}

    def run(self, root: object) -> Snapshot:
        self.snapshot.tree = self.node(root, "")
        for path, base in self.views.items():
            if id(base) in self.paths:
                self.snapshot.unsupported[path] = f"a view of {self.paths[id(base)]}"
        return self.snapshot

    def node(self, value: Any, path: str) -> Any:  # noqa: PLR0911 - one case a kind
        if isinstance(value, Enum):
            return {"enum": value.name, "class": _class_of(value)}
        if value is None or isinstance(value, bool | str) or type(value) is int:
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, np.generic) and _is_storable(value.dtype):
            return {"scalar": self.array(np.asarray(value), path)}
        if isinstance(value, bytes):
            return {"bytes": base64.b64encode(value).decode()}
        if isinstance(value, range | slice):
            return {type(value).__name__: [self.node(x, path) for x in (value.start, value.stop, value.step)]}
        if isinstance(value, _MADE_ANEW) or _draws(value):
            return {"made_anew": type(value).__name__}
        if isinstance(value, _CONSTANT):
            return {"constant": type(value).__name__}
        if id(value) in self.paths:
            return {"same": self.paths[id(value)]}
        self.paths[id(value)] = path
        self.alive.append(value)
        return self.compound(value, path)

    def compound(self, value: Any, path: str) -> Any:  # noqa: PLR0911, PLR0912 - one case a kind
        match value:
            case torch.Tensor():
                return {"tensor": self.tensor(value, path)}
            case np.ndarray() if type(value) is np.ndarray and _is_storable(value.dtype):
                if not value.flags.owndata and not _is_window(value):
                    self.views[path] = _root(value)
                return {"array": self.array(value, path)}
            case np.ndarray() if type(value) is np.ndarray and value.dtype.kind == "U":
                return {"strings": value.tolist()}
            case list() if type(value) is list and (packed := _packed(value)) is not None:
                return {"packed": self.tensor(packed, path)}
            case list() if type(value) is list:
                return {"list": self.items(value, path)}
            case tuple() if type(value) is tuple or hasattr(value, "_fields"):
                return {"tuple": self.items(value, path), **_class_unless(value, tuple)}
            case set() | frozenset() if type(value) in {set, frozenset}:
                return {type(value).__name__: self.items(sorted(value, key=repr), path)}
            case deque() if type(value) is deque:
                return {"deque": self.items(value, path), "maxlen": value.maxlen}
            case torch.optim.Optimizer():
                return {"optimizer": self.node(value.state_dict(), f"{path}/state")}
            case dict() if type(value).__module__ in {"builtins", "collections"}:
                return {"dict": self.entries(value, path), **_class_unless(value, dict)}
            case np.random.Generator():
                return {"generator": self.node(value.bit_generator.state, f"{path}/state")}
            case np.random.RandomState():
                return {"random_state": self.node(value.get_state(legacy=False), f"{path}/state")}
            case random.Random() if type(value) is random.Random:
                return {"random": self.node(value.getstate(), f"{path}/state")}
            case _ if physics.is_data(value):
                return {"mjdata": self.arrays(physics.read_data(value.model, value), path)}
            case _ if physics.is_model(value):
                return {"mjmodel": self.arrays(physics.read_model(value), path)}
            case gym.Space():
                # What a space allows is the config's; what it draws from is state.
                own = {k: v for k, v in vars(value).items() if k in {"_np_random", "spaces"}}
                return {"object": self.named(own, path), "class": _class_of(value)}
        if isinstance(value, _CALLABLE):
            return {"callable": _name_of(value), "held": self.items(_held(value), path)}
        if not hasattr(value, "__dict__") or _hides_state(value):
            self.snapshot.unsupported[path] = _class_of(value)
            return {"constant": type(value).__name__}
        return {"object": self.named(attributes_of(value), path), "class": _class_of(value)}

    def named(self, values: Mapping[str, Any], path: str) -> dict[str, Any]:
        return {name: self.node(value, _below(path, index, name)) for index, (name, value) in enumerate(values.items())}

    def entries(self, values: Mapping[Any, Any], path: str) -> list[list[Any]]:
        return [
            [self.node(key, f"{path}/#key{index}"), self.node(value, _below(path, index, key))]
            for index, (key, value) in enumerate(values.items())
        ]

    def items(self, values: Iterable[Any], path: str) -> list[Any]:
        return [self.node(value, f"{path}/{index}") for index, value in enumerate(values)]

    def arrays(self, arrays: physics.Arrays, path: str) -> list[str]:
        for name, array in arrays.items():
            self.array(array, f"{path}/{name}")
        return list(arrays)

    def array(self, array: np.ndarray[Any, Any], path: str) -> str:
        return self.tensor(torch.from_numpy(np.array(array, order="C")), path)

    def tensor(self, tensor: torch.Tensor, path: str) -> str:
        self.snapshot.tensors[path] = tensor.detach().cpu().contiguous().clone()
        return path


class _Restore:
    def __init__(self, snapshot: Snapshot, elsewhere: Arrays) -> None:
        self.tensors = snapshot.tensors
        self.missing: list[str] = []
        self.done: dict[str, Any] = {f"elsewhere/{name}": array for name, array in elsewhere.items()}
        # Two places may share an object in a fresh build that were two objects in the captured one.
        self.taken: dict[int, Any] = {}

    def fill(self, old: Any, node: Any, path: str) -> Any:
        """What is to stand in the place of `old`; `_MISSING` where that cannot be had."""
        if not isinstance(node, dict):
            return node
        kind, content = next(iter(node.items()))
        if kind == "same":
            return self.done[content] if content in self.done else self.miss(path)
        # A container may hold itself: it is known before it is filled.
        self.done[path] = old
        self.done[path] = new = self.value(old, kind, content, node, path)
        return new

    def miss(self, path: str) -> Any:
        self.missing.append(path)
        return _MISSING

    def value(self, old: Any, kind: str, content: Any, node: dict[str, Any], path: str) -> Any:  # noqa: PLR0911, PLR0912
        match kind:
            case "made_anew":
                return old
            case "constant":
                return self.miss(path) if old is None else old
            case "float":
                return float(content)
            case "enum":
                return self.put_enum(old, content, node["class"], path)
            case "bytes":
                return base64.b64decode(content)
            case "range" | "slice":
                return {"range": range, "slice": slice}[kind](*(self.fill(None, each, path) for each in content))
            case "scalar":
                return self.array(content)[()]
            case "array":
                return self.put_array(old, self.array(content))
            case "strings":
                return np.array(content)
            case "tensor":
                return self.put_tensor(old, self.tensors[content], path)
            case "packed":
                return self.put_list(old, self.tensors[content].tolist())
            case "list":
                items = self.items(old if isinstance(old, list) else (), content, path)
                return _MISSING if items is _MISSING else self.put_list(old, items)
            case "tuple":
                return self.put_tuple(old, content, node.get("class"), path)
            case "set" | "frozenset":
                items = self.items((), content, path)
                return items if items is _MISSING else {"set": set, "frozenset": frozenset}[kind](items)
            case "deque":
                items = self.items(old if isinstance(old, deque) else (), content, path)
                return items if items is _MISSING else deque(items, node["maxlen"])
            case "dict":
                return self.put_dict(old, content, node.get("class"), path)
            case "callable":
                return self.put_callable(old, content, node["held"], path)
            case "generator":
                return self.put_generator(old, self.fill({}, content, f"{path}/state"))
            case "random_state":
                state = self.fill({}, content, f"{path}/state")
                return self.seeded(old, np.random.RandomState, lambda generator: generator.set_state(state))
            case "random":
                state = self.fill((), content, f"{path}/state")
                return self.seeded(old, random.Random, lambda generator: generator.setstate(state))
            case "optimizer":
                if not isinstance(old, torch.optim.Optimizer):
                    return self.miss(path)
                old.load_state_dict(self.fill({}, content, f"{path}/state"))
            case "mjdata":
                if not physics.is_data(old):
                    return self.miss(path)
                self.simulation(lambda arrays: physics.write_data(old.model, old, arrays), content, path)
            case "mjmodel":
                if not physics.is_model(old):
                    return self.miss(path)
                self.simulation(lambda arrays: physics.write_model(old, arrays), content, path)
            case "object":
                return self.put_object(old, content, node["class"], path)
            case _:
                raise MisfitError(f"{path}: '{kind}' is of a newer version")
        return old

    def array(self, key: str) -> np.ndarray[Any, Any]:
        return self.tensors[key].numpy().copy()

    def items(self, old: Iterable[Any], nodes: list[Any], path: str) -> Any:
        """All of them, or `_MISSING`: a list with holes is of no use to anybody."""
        known = list(old)
        known += [None] * (len(nodes) - len(known))
        filled = [self.fill(known[index], node, f"{path}/{index}") for index, node in enumerate(nodes)]
        return _MISSING if any(item is _MISSING for item in filled) else filled

    def is_free(self, old: Any) -> bool:
        """Whether nothing else has been put into `old` yet; from now on something has."""
        if id(old) in self.taken:
            return False
        self.taken[id(old)] = old
        return True

    def put_list(self, old: Any, items: list[Any]) -> list[Any]:
        if type(old) is not list or not self.is_free(old):
            return items
        old[:] = items
        return old

    def put_tuple(self, old: Any, nodes: list[Any], name: str | None, path: str) -> Any:
        items = self.items(old if isinstance(old, tuple) else (), nodes, path)
        if items is _MISSING or name is None:
            return items if items is _MISSING else tuple(items)
        kind = type(old) if _class_of(old) == name else _loaded(name, tuple)
        return self.miss(path) if kind is None else tuple.__new__(kind, items)

    def put_dict(self, old: Any, nodes: list[list[Any]], name: str | None, path: str) -> Any:
        fits = isinstance(old, dict) and _class_of(old) == (name or "builtins.dict")
        known = old if fits else {}
        filled: list[tuple[Any, Any]] = []
        for index, (key_node, node) in enumerate(nodes):
            key = self.fill(None, key_node, f"{path}/#key{index}")
            if key is _MISSING:
                return _MISSING
            filled.append((key, self.fill(known.get(key), node, _below(path, index, key))))
        if any(value is _MISSING for _, value in filled):
            return _MISSING
        if not fits or not self.is_free(old):
            if name is not None and name != _class_of(OrderedDict()):
                return self.miss(path)
            return dict(filled) if name is None else OrderedDict(filled)
        old.clear()
        old.update(filled)
        return old

    def put_object(self, old: Any, nodes: dict[str, Any], name: str, path: str) -> Any:
        if _class_of(old) != name or not hasattr(old, "__dict__") or not self.is_free(old):
            return self.miss(path)
        attributes = vars(old)
        for index, (attribute, node) in enumerate(nodes.items()):
            new = self.fill(attributes.get(attribute), node, _below(path, index, attribute))
            if new is not _MISSING and (attribute not in attributes or new is not attributes[attribute]):
                attributes[attribute] = new
        if not isinstance(old, gym.Space):
            for attribute in attributes_of(old).keys() - nodes.keys():
                del attributes[attribute]
        return old

    def put_callable(self, old: Any, name: str, nodes: list[Any], path: str) -> Any:
        if not isinstance(old, _CALLABLE) or _name_of(old) != name:
            return self.miss(path)
        held = _held(old)
        filled = self.items(held, nodes, path)
        if filled is _MISSING or len(filled) != len(held):
            return _MISSING if filled is _MISSING else self.miss(path)
        # What a callable holds is filled where it is; another number or array cannot be put there.
        return old if all(map(_equal, filled, held)) else self.miss(path)

    def put_enum(self, old: Any, member: str, name: str, path: str) -> Any:
        kind = type(old) if isinstance(old, Enum) and _class_of(old) == name else _loaded(name, Enum)
        found = None if kind is None else kind.__members__.get(member)
        return self.miss(path) if found is None else found

    def put_array(self, old: Any, new: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        # A window on memory that is not NumPy's, MuJoCo's for instance, stays a window. Anything else is replaced:
        # two arrays that happen to be one in a fresh object need not be one in the captured one.
        if _is_window(old) and old.shape == new.shape and old.dtype == new.dtype and old.flags.writeable:
            old[...] = new
            return old  # type: ignore[no-any-return]
        return new

    def put_tensor(self, old: Any, new: torch.Tensor, path: str) -> torch.Tensor:
        if not isinstance(old, torch.Tensor):
            return new.clone()
        # Optimizers and modules hold parameters and buffers by identity.
        if isinstance(old, torch.nn.Parameter) or (old.requires_grad and old.is_leaf) or "/_buffers/" in path:
            if old.shape != new.shape or old.dtype != new.dtype:
                raise MisfitError(f"{path}: {tuple(new.shape)} there and {tuple(old.shape)} here")
            with torch.no_grad():
                old.copy_(new)
            return old
        return new.to(old.device, copy=True)

    def put_generator(self, old: Any, state: dict[str, Any]) -> np.random.Generator:
        generator = old if isinstance(old, np.random.Generator) else np.random.Generator(np.random.PCG64(0))
        if generator.bit_generator.state["bit_generator"] != state["bit_generator"]:
            raise MisfitError(f"random numbers come from {state['bit_generator']} there")
        generator.bit_generator.state = state
        return generator

    def seeded(self, old: Any, kind: type, put: Callable[[Any], None]) -> Any:
        generator = old if type(old) is kind else kind()
        put(generator)
        return generator

    def simulation(self, write: Callable[[physics.Arrays], None], names: list[str], path: str) -> None:
        arrays = {name: self.array(f"{path}/{name}") for name in names}
        try:
            write(arrays)
        except (KeyError, ValueError, TypeError) as error:
            raise MisfitError(f"{path}: the simulation has another model: {error}") from error


def attributes_of(thing: Any) -> dict[str, Any]:
    """The attributes of an object that hold state."""
    passing = set().union(*(names for kind, names in _PASSING if isinstance(thing, kind)))
    return {name: value for name, value in vars(thing).items() if name not in passing}


def _below(path: str, index: int, key: Any) -> str:
    """The path of an entry: by its name where that is one, by its place where names could meet."""
    return f"{path}/{key}" if type(key) is str and "/" not in key and not key.startswith("#") else f"{path}/#{index}"


def _class_of(value: Any) -> str:
    kind = _NAMED.get(type(value), type(value))
    return f"{kind.__module__}.{kind.__qualname__}"


def _class_unless(value: Any, plain: type) -> dict[str, str]:
    return {} if type(value) is plain else {"class": _class_of(value)}


def _loaded(name: str, base: type) -> Any:
    """A class by its name, if it has been imported already and is an Enum or a named tuple: data, and nothing else."""
    module, _, attribute = name.rpartition(".")
    found = getattr(sys.modules.get(module), attribute, None)
    if not isinstance(found, type) or not (isinstance(found, EnumMeta) or hasattr(found, "_fields")):
        return None
    return found if issubclass(found, base) else None


def _name_of(value: Any) -> str:
    if isinstance(value, functools.partial):
        return f"partial {_name_of(value.func)}"
    return str(getattr(value, "__qualname__", type(value).__name__))


def _held(value: Any) -> list[Any]:
    """What a callable holds: its object, its arguments, its closure."""
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.FunctionType):
        return [cell.cell_contents for cell in value.__closure__ or () if _is_set(cell)]
    owner = getattr(value, "__self__", None)
    return [] if owner is None or isinstance(owner, types.ModuleType | type) else [owner]


def _is_set(cell: types.CellType) -> bool:
    with suppress(ValueError):
        return cell.cell_contents is not _MISSING
    return False


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return type(one) is type(other) and isinstance(one, str | int | float | tuple | Enum) and one == other


def _draws(value: object) -> bool:
    """Whether this only draws pictures: the renderers and contexts of MuJoCo and Gymnasium."""
    module = type(value).__module__
    is_simulation = physics.is_data(value) or physics.is_model(value)
    return module == "gymnasium.envs.mujoco.mujoco_rendering" or (module.startswith("mujoco") and not is_simulation)


def _hides_state(value: object) -> bool:
    """Whether a class of C or C++ is among an object's own, which may hold what no attribute shows."""
    # Such a class makes its own instances, and Python's classes leave that to `object` or to a function of Python's.
    own = (vars(base).get("__new__") for base in type(value).__mro__ if base is not object)
    return any(isinstance(new, types.BuiltinFunctionType) for new in own)


def _is_storable(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biuf" and dtype.isnative and dtype.itemsize <= 8


def _packed(values: list[Any]) -> torch.Tensor | None:
    """Long lists of Python's own floats or ints, as Monitor's of all episodes, as one tensor."""
    if len(values) < _PACKED_LENGTH or len(kinds := set(map(type, values))) > 1:
        return None
    kind = kinds.pop()
    if kind is float:
        return torch.tensor(values, dtype=torch.float64)
    if kind is int:
        with suppress(OverflowError, ValueError, RuntimeError):
            return torch.tensor(values, dtype=torch.int64)
    return None


def _root(array: np.ndarray[Any, Any]) -> Any:
    """The array, or other memory, that an array is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array if array.base is None else array.base


def _is_window(array: Any) -> bool:
    """Whether an array shows memory that is not NumPy's own."""
    return isinstance(array, np.ndarray) and not array.flags.owndata and not isinstance(_root(array), np.ndarray)

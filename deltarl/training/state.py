"""The state of living Python objects as data: JSON and tensors, without pickle.

`capture` walks everything that can be reached from an object, an SB3 algorithm with its environments for instance,
and `restore` fills an object that was built in the same way. No list of attributes has to be kept: what a wrapper, an
environment or an algorithm of somebody else's holds is stored because it is there. Nothing is ever constructed from
what a file says but numbers, strings, containers and arrays.
"""

from __future__ import annotations

import functools
import logging
import math
import random
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePath
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger

from deltarl.training import physics

# Made from the config, the same in every process; or, as a rollout buffer, made anew before it is read again.
_CONSTANT = (
    types.ModuleType,
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    functools.partial,
    type,
    Enum,
    PurePath,
    EnvSpec,
    torch.device,
    torch.dtype,
    np.dtype,
    np.ufunc,
    Logger,
    logging.Logger,
    RolloutBuffer,
    torch.distributions.Distribution,
    weakref.ReferenceType,
)
# The infos of the last step, which hold anything and have been read; clocks, which do not go on between processes;
# the budget, which a resumed run may be given anew.
_PASSING = {"buf_infos", "reset_infos", "t_start", "start_time", "_total_timesteps", "class_attributes"}
_TORCH_MODULE = set(vars(torch.nn.Module())) - {"_parameters", "_buffers", "_modules", "training"}
_ARRAY_KINDS = "biuf"
_PACKED_LENGTH = 64


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


def capture(root: object, elsewhere: Mapping[str, np.ndarray[Any, Any]] | None = None) -> Snapshot:
    """A copy of everything that can be reached from `root`.

    Args:
        root: an object, or a dict of them.
        elsewhere: arrays, by a name of their own, that are stored in another way and only referred to here.
    """
    return _Capture(elsewhere or {}).run(root)


def restore(
    root: object, snapshot: Snapshot, elsewhere: Mapping[str, np.ndarray[Any, Any]] | None = None
) -> tuple[Any, list[str]]:
    """Fill `root`, built as the captured object was, from a snapshot.

    Returns:
        `root` itself, or what takes its place if it is a number, a string or a tuple; and the paths of objects that
        `root` has not (yet), which nothing could be put into.

    Raises:
        MisfitError: if `root` has another shape; it may then be filled in part.
    """
    restoring = _Restore(snapshot, elsewhere or {})
    return restoring.fill(root, snapshot.tree, ""), restoring.missing


def named_attributes(thing: Any) -> dict[str, Any]:
    """The attributes of an object that hold state."""
    skipped = _PASSING | _TORCH_MODULE if isinstance(thing, torch.nn.Module) else _PASSING
    return {name: value for name, value in vars(thing).items() if name not in skipped}


class _Capture:
    def __init__(self, elsewhere: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.snapshot = Snapshot(tree=None)
        self.paths = {id(array): f"elsewhere/{name}" for name, array in elsewhere.items()}
        self.alive: list[Any] = []  # an id is an object's own only while it lives

    def run(self, root: object) -> Snapshot:
        self.snapshot.tree = self.node(root, "")
        return self.snapshot

    def node(self, value: Any, path: str) -> Any:
        if value is None or isinstance(value, bool | str) or type(value) is int:
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, _CONSTANT) or _is_renderer(value):
            return {"constant": type(value).__name__}
        if isinstance(value, np.generic) and value.dtype.kind in _ARRAY_KINDS:
            return {"scalar": self.array(np.asarray(value), path)}
        if id(value) in self.paths:
            return {"same": self.paths[id(value)]}
        self.paths[id(value)] = path
        self.alive.append(value)
        return self.compound(value, path)

    def compound(self, value: Any, path: str) -> Any:  # noqa: PLR0911, PLR0912 - one case a kind
        match value:
            case torch.Tensor():
                return {"tensor": self.tensor(value, path)}
            case np.ndarray() if value.dtype.kind in _ARRAY_KINDS:
                return {"array": self.array(value, path)}
            case np.ndarray() if value.dtype.kind == "U":
                return {"strings": value.tolist()}
            case list() if (packed := _packed(value)) is not None:
                return {"packed": self.tensor(packed, path)}
            case list():
                return {"list": self.items(value, path)}
            case tuple():
                return {"tuple": self.items(value, path)}
            case set() | frozenset():
                return {"set": self.items(sorted(value, key=repr), path)}
            case deque():
                return {"deque": self.items(value, path), "maxlen": value.maxlen}
            case torch.optim.Optimizer():
                return {"optimizer": self.node(value.state_dict(), f"{path}/state")}
            case dict():
                return {"dict": [[self.node(k, f"{path}/key"), self.node(v, f"{path}/{k}")] for k, v in value.items()]}
            case np.random.Generator():
                return {"generator": self.node(value.bit_generator.state, f"{path}/state")}
            case random.Random():
                return {"random": self.node(value.getstate(), f"{path}/state")}
            case _ if physics.is_data(value):
                return {"mjdata": self.arrays(physics.read_data(value.model, value), path)}
            case _ if physics.is_model(value):
                return {"mjmodel": self.arrays(physics.read_model(value), path)}
            case gym.Space():
                # What a space allows is the config's; what it draws from is state.
                own = {k: v for k, v in vars(value).items() if k in {"_np_random", "spaces"}}
                return {"object": {k: self.node(v, f"{path}/{k}") for k, v in own.items()}}
        if not hasattr(value, "__dict__"):
            self.snapshot.unsupported[path] = f"{type(value).__module__}.{type(value).__qualname__}"
            return {"constant": type(value).__name__}
        return {"object": {k: self.node(v, f"{path}/{k}") for k, v in named_attributes(value).items()}}

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
    def __init__(self, snapshot: Snapshot, elsewhere: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.tensors = snapshot.tensors
        self.missing: list[str] = []
        self.done: dict[str, Any] = {f"elsewhere/{name}": array for name, array in elsewhere.items()}

    def fill(self, old: Any, node: Any, path: str) -> Any:
        if not isinstance(node, dict):
            return node
        kind, content = next(iter(node.items()))
        if kind == "same":
            return self.done[content]
        if kind in {"constant", "float", "scalar"}:
            return old if kind == "constant" else self.value(old, kind, content, node, path)
        # A container may hold itself: it is known before it is filled.
        self.done[path] = old
        self.done[path] = new = self.value(old, kind, content, node, path)
        return new

    def value(self, old: Any, kind: str, content: Any, node: dict[str, Any], path: str) -> Any:  # noqa: PLR0911, PLR0912
        match kind:
            case "float":
                return float(content)
            case "scalar":
                return self.array(content)[()]
            case "array":
                return self.put_array(old, self.array(content))
            case "strings":
                return np.array(content)
            case "tensor":
                return self.put_tensor(old, self.tensors[content], path)
            case "packed":
                return self.tensors[content].tolist()
            case "list":
                return self.put_list(old, content, path)
            case "tuple":
                return self.put_tuple(old, content, path)
            case "set":
                return (frozenset if isinstance(old, frozenset) else set)(self.items((), content, path))
            case "deque":
                return deque(self.items(old if isinstance(old, deque) else (), content, path), node["maxlen"])
            case "dict":
                return self.put_dict(old, content, path)
            case "generator":
                return self.put_generator(old, self.fill({}, content, f"{path}/state"))
            case "random":
                self.wanted(old, random.Random, path).setstate(self.fill((), content, f"{path}/state"))
            case "optimizer":
                self.wanted(old, torch.optim.Optimizer, path).load_state_dict(self.fill({}, content, f"{path}/state"))
            case "mjdata":
                self.simulation(lambda arrays: physics.write_data(old.model, old, arrays), content, path)
            case "mjmodel":
                self.simulation(lambda arrays: physics.write_model(old, arrays), content, path)
            case "object":
                self.put_object(old, content, path)
            case _:
                raise MisfitError(f"{path}: '{kind}' is of a newer version")
        return old

    def array(self, key: str) -> np.ndarray[Any, Any]:
        return self.tensors[key].numpy().copy()

    def items(self, old: Iterable[Any], nodes: list[Any], path: str) -> list[Any]:
        known = list(old)
        known += [None] * (len(nodes) - len(known))
        return [self.fill(known[index], node, f"{path}/{index}") for index, node in enumerate(nodes)]

    def put_list(self, old: Any, nodes: list[Any], path: str) -> list[Any]:
        items = self.items(old if isinstance(old, list) else (), nodes, path)
        if not isinstance(old, list):
            return items
        old[:] = items
        return old

    def put_tuple(self, old: Any, nodes: list[Any], path: str) -> tuple[Any, ...]:
        items = self.items(old if isinstance(old, tuple) else (), nodes, path)
        return old._make(items) if hasattr(old, "_make") else tuple(items)

    def put_dict(self, old: Any, nodes: list[list[Any]], path: str) -> dict[Any, Any]:
        known = old if isinstance(old, dict) else {}
        items = {}
        for key_node, node in nodes:
            key = self.fill(None, key_node, f"{path}/key")
            items[key] = self.fill(known.get(key), node, f"{path}/{key}")
        known.clear()
        known.update(items)
        return known

    def put_object(self, old: Any, nodes: dict[str, Any], path: str) -> None:
        if not hasattr(old, "__dict__"):
            self.missing.append(path)
            return
        attributes = vars(old)
        for name, node in nodes.items():
            if name not in attributes and isinstance(node, dict) and "constant" in node:
                continue
            new = self.fill(attributes.get(name), node, f"{path}/{name}")
            if name not in attributes or new is not attributes[name]:
                attributes[name] = new

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

    def simulation(self, write: Callable[[physics.Arrays], None], names: list[str], path: str) -> None:
        arrays = {name: self.array(f"{path}/{name}") for name in names}
        try:
            write(arrays)
        except (AttributeError, KeyError, ValueError, TypeError) as error:
            raise MisfitError(f"{path}: the simulation has another model: {error}") from error

    def wanted(self, old: Any, kind: type, path: str) -> Any:
        if not isinstance(old, kind):
            raise MisfitError(f"{path}: a {kind.__name__} is wanted, there is {type(old).__name__}")
        return old


def _is_renderer(value: object) -> bool:
    return type(value).__module__ == "gymnasium.envs.mujoco.mujoco_rendering"


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


def _is_window(array: Any) -> bool:
    if not isinstance(array, np.ndarray) or array.flags.owndata:
        return False
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.base is not None

"""Decides which parts of an object are state, and names objects so that two processes can compare them."""

from __future__ import annotations

import functools
import hashlib
import logging
import random
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from contextlib import suppress
from enum import Enum, EnumMeta
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

from deltarl.fast.override import Override
from deltarl.task_packages import PACKAGES, TRANSIENT

# Packages whose versions checkpoints record: their classes and functions are the same wherever a run resumes.
_KNOWN = sys.stdlib_module_names | {
    *PACKAGES,
    "deltarl",
    "gymnasium",
    "mujoco",
    "numpy",
    "sb3_contrib",
    "stable_baselines3",
    "torch",
}
# Transient attributes of other libraries' classes, which cannot name them in `__transient__` as ours do: infos of the
# last step, which hold anything and have been read; clocks, which stop with the process; the budget, which a resumed
# run may be given anew; what an algorithm shows its callbacks.
_TRANSIENT: tuple[tuple[type, set[str]], ...] = (
    (BaseAlgorithm, {"start_time", "_total_timesteps"}),
    (DummyVecEnv, {"buf_infos", "reset_infos"}),
    (VecEnvWrapper, {"class_attributes"}),
    (Monitor, {"t_start"}),
    (BaseCallback, {"model", "locals", "globals", "parent"}),
    (torch.nn.Module, set(vars(torch.nn.Module())) - {"_parameters", "_buffers", "_modules", "training"}),
)
BITS: dict[str, type[np.random.BitGenerator]] = {
    kind.__name__: kind
    for kind in (np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64, np.random.MT19937)
}
CONTAINERS: tuple[type, ...] = (dict, list, tuple, set, frozenset, deque)
# Containers, besides the plain ones, that may be created from a snapshot.
MAKEABLE: dict[str, type] = {f"collections.{kind.__name__}": kind for kind in (Counter, OrderedDict, defaultdict)}
# Classes written in C whose attributes show their whole state.
_OPEN = (types.SimpleNamespace, *CONTAINERS)
# Classes that may replace another one as an attribute's value: they only construct data.
DATA: dict[str, type] = {
    f"builtins.{kind.__name__}": kind
    for kind in (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)
}
# Attributes of every Enum member.
OF_EVERY_MEMBER = {"_value_", "_name_", "_sort_order_", "__objclass__"}
WRAPPED = (staticmethod, classmethod, property, functools.cached_property)


def is_known(kind: Any) -> bool:
    """Whether a class or function belongs to a package whose version checkpoints record."""
    return str(getattr(kind, "__module__", None) or "builtins").partition(".")[0] in _KNOWN


def is_made_anew(value: object) -> bool:
    """Whether an object is rebuilt on resume or process-local, so that it is never stored."""
    return (isinstance(value, Logger | logging.Logger | RolloutBuffer) and is_known(type(value))) or _draws(value)


# Of MuJoCo and Gymnasium; anything else in MuJoCo may change a simulation.
_DRAWING_MODULES = ("gymnasium.envs.mujoco.mujoco_rendering", "mujoco.renderer", "mujoco.viewer", "mujoco._render")
_DRAWING_CLASSES = {
    "MjvCamera",
    "MjvFigure",
    "MjvGLCamera",
    "MjvGeom",
    "MjvLight",
    "MjvOption",
    "MjvScene",
    "GLContext",
}


def _draws(value: object) -> bool:
    """Whether an object only renders: the renderers and contexts of MuJoCo and Gymnasium."""
    module, name = type(value).__module__, type(value).__name__
    return module in _DRAWING_MODULES or (module.partition(".")[0] == "mujoco" and name in _DRAWING_CLASSES)


def hides_state(value: object) -> bool:
    """Whether an object has a base class written in C or C++, which may hold state that no attribute shows."""
    # Such a class allocates its instances itself; Python classes use `object.__new__` or a Python function.
    own = (vars(base).get("__new__") for base in type(value).__mro__ if base is not object and base not in _OPEN)
    return any(isinstance(new, types.BuiltinFunctionType) for new in own)


def slots_of(kind: type) -> dict[str, types.MemberDescriptorType]:
    """The attributes that a class keeps in slots, by name."""
    members = [vars(base) for base in reversed(kind.__mro__) if "__slots__" in vars(base)]
    return {k: v for names in members for k, v in names.items() if isinstance(v, types.MemberDescriptorType)}


def attributes_of(thing: Any) -> dict[str, Any]:
    """The attributes of an object that are state: all but those that its class lists in `__transient__`."""
    bases = type(thing).__mro__
    transient = {name for base in bases for name in vars(base).get("__transient__", ())}
    transient.update(*(TRANSIENT.get(name_of_class(base), ()) for base in bases))
    transient.update(*(names for kind, names in _TRANSIENT if isinstance(thing, kind)))
    if isinstance(thing, torch.optim.Optimizer):
        transient |= _of_every_optimizer()
    found = {
        name: value
        for name, value in getattr(thing, "__dict__", {}).items()
        if name not in transient and type(value) is not Override
    }
    for name, slot in slots_of(type(thing)).items():
        with suppress(AttributeError):
            found[name] = slot.__get__(thing)
    if isinstance(thing, torch.nn.Module):
        found |= {name: hooks for name, hooks in vars(thing).items() if name.endswith("_hooks") and hooks}
    if isinstance(thing, Distribution):  # rebuilt from the network's outputs before it is read
        return {name: _detached(value) for name, value in found.items() if not _is_distribution(value)}
    return found


@functools.cache
def _of_every_optimizer() -> frozenset[str]:
    """Attributes that every optimizer has. Cached, because creating an optimizer imports PyTorch's compiler."""
    return frozenset(vars(torch.optim.Optimizer([torch.zeros(1)], {})))


def _is_distribution(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, torch.distributions.Distribution)


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) and value.grad_fn is not None else value


def members_of(kind: type) -> dict[str, Any]:
    """The members of a class that may change while a process runs: data, and functions."""
    return {name: value for name, value in vars(kind).items() if not _is_fixed(kind, name, value)}


def _is_fixed(kind: type, name: str, value: Any) -> bool:
    if isinstance(value, (types.FunctionType, *WRAPPED)):
        return False
    if name.startswith("__") and name.endswith("__"):  # Python's own names, among which a user may keep counters
        return type(value) not in {bool, int, float} or name == "__firstlineno__"
    fields = types.MemberDescriptorType | types.GetSetDescriptorType | types.DynamicClassAttribute
    is_member = isinstance(value, kind) and isinstance(kind, EnumMeta)
    return is_member or name == "_abc_impl" or isinstance(value, fields) or type(value).__name__ == "_tuplegetter"


def bases_of(kind: type) -> list[type]:
    """The user's classes that a class inherits from, and its metaclass if that is the user's."""
    return [*kind.__bases__, *(() if is_known(type(kind)) else (type(kind),))]


def class_of(value: Any) -> str:
    """The name under which an object's class is stored: its own, or that of the class in `__stored_as__`."""
    return name_of_class(vars(type(value)).get("__stored_as__", type(value)))


def name_of_class(kind: type) -> str:
    """The name of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def loaded(name: str, base: type) -> Any:
    """A class by name, if it is already imported and is an Enum or a named tuple, which are only data."""
    module, _, attribute = name.rpartition(".")
    found = getattr(sys.modules.get(module), attribute, None)
    if not isinstance(found, type) or not (isinstance(found, EnumMeta) or hasattr(found, "_fields")):
        return None
    return found if issubclass(found, base) else None


def name_of_function(function: Any) -> str:
    """The qualified name of a function, including its module."""
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", type(function).__name__)
    return f"{getattr(function, '__module__', None) or 'builtins'}.{name}"


def is_top_level(function: Any) -> bool:
    """Whether a function belongs to a known package and is found in its module under its name."""
    module, name = getattr(function, "__module__", None), getattr(function, "__name__", None)
    if not (isinstance(module, str) and isinstance(name, str) and is_known(function)):
        return False
    return getattr(sys.modules.get(module), name, None) is function


def digest_of(code: types.CodeType) -> str:
    """A digest of a function's code, comparable only within one version of Python."""
    constants = [digest_of(each) if isinstance(each, types.CodeType) else repr(each) for each in code.co_consts]
    parts = (code.co_code, code.co_names, code.co_varnames, code.co_freevars, constants)
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def method_of(owner: Any, name: str) -> Any:
    """The method of an object, or of a class, with this name; None if there is none."""
    for base in (owner if isinstance(owner, type) else type(owner)).__mro__:
        found: Any = vars(base).get(name)
        if (
            found is not None
            and isinstance(found, classmethod) == isinstance(owner, type)
            and hasattr(found, "__get__")
        ):
            bound = found.__get__(None, owner) if isinstance(owner, type) else found.__get__(owner, type(owner))
            return bound if isinstance(bound, types.MethodType | types.BuiltinFunctionType) else None
    return None


def cells_of(function: types.FunctionType) -> list[types.CellType]:
    """The non-empty cells of a closure."""
    return [cell for cell in function.__closure__ or () if _is_set(cell)]


def _is_set(cell: types.CellType) -> bool:
    with suppress(ValueError):
        cell.cell_contents  # noqa: B018 - raises if it is empty
        return True
    return False


# Types whose methods affect only the object itself.
_HARMLESS = (*CONTAINERS, bytearray, random.Random, np.random.Generator, np.random.RandomState)


def may_be_called(function: Any) -> bool:
    """Whether a file may replace another callable of the new object by this one.

    Those of known packages may not, because some are dangerous: `Path.unlink`, or a policy's `load`, which unpickles.
    """
    owner = getattr(function, "__self__", None)
    if type(owner) in _HARMLESS:
        return True
    function = getattr(function, "__func__", function)
    return isinstance(function, types.FunctionType) and not is_known(function)


def hides_a_method(thing: Any, name: str) -> bool:
    """Whether an attribute of this name would shadow a method of a known package's class."""
    found = next((vars(base)[name] for base in type(thing).__mro__ if name in vars(base)), None)
    return is_known(type(thing)) and (callable(found) or isinstance(found, classmethod))


def inside_of(wrapper: Any) -> list[Any]:
    """The functions inside a property or another wrapper in a class."""
    if isinstance(wrapper, property):
        return [wrapper.fget, wrapper.fset, wrapper.fdel]
    if isinstance(wrapper, functools.cached_property):
        return [wrapper.func]
    return [wrapper.__wrapped__]


def is_plain_object(value: object) -> bool:
    """Whether this is an ordinary object, neither a function nor a part of the language."""
    if isinstance(value, (type, Enum, types.ModuleType, types.FunctionType, *WRAPPED)) or is_made_anew(value):
        return False
    return type(value) is object or hasattr(value, "__dict__") or bool(slots_of(type(value)))


def is_frozen(value: object) -> bool:
    """Whether this is an instance of a frozen dataclass."""
    return bool(getattr(getattr(type(value), "__dataclass_params__", None), "frozen", False))

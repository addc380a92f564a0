"""Tells the libraries' own code from code that has been replaced.

A lean step stands in for many methods. They are not listed here: `is_theirs` checks all functions that a class or a
module of the libraries holds, and a function whose code is in another place is a user's.
"""

from __future__ import annotations

import builtins
import sys
import sysconfig
from abc import ABC
from collections.abc import Iterable, Mapping
from operator import attrgetter
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Generic, Protocol

import sb3_contrib  # noqa: F401 - its modules are remembered below
import stable_baselines3  # noqa: F401
import torch
from torch.nn import functional

LIBRARIES = ("stable_baselines3", "sb3_contrib", "torch", "deltarl")
_STDLIB = (f"{sysconfig.get_path('stdlib')}/", "<frozen ")
_ROOTS = tuple(f"{Path(str(sys.modules[name].__file__)).parent}/" for name in LIBRARIES)
# Modules of types without Python code: values, annotations and functions written in C.
_CODELESS = {"builtins", "typing", "types", "collections", "collections.abc", "abc", "_abc", "torch._jit_internal"}
# The names by which the libraries' functions call each other, and their constants, before anyone could have replaced
# them. Modules of layers and optimizers also hold counters and switches, so only their functions are remembered.
_OF_TORCH = ("torch.nn.modules.", "torch.optim.", "torch.distributions.")
AT_IMPORT: Mapping[ModuleType, Mapping[str, Any]] = {
    module: {each: value for each, value in vars(module).items() if not name.startswith(_OF_TORCH) or callable(value)}
    for name, module in list(sys.modules.items())
    if name.partition(".")[0] in LIBRARIES[:2]
    or name.startswith(_OF_TORCH)
    or module in {functional, torch.nn.utils, torch.optim}
}
# The same for their classes; some have a method under two names.
_CLASSES_AT_IMPORT: Mapping[type, Mapping[str, Any]] = {
    value: dict(vars(value)) for module in AT_IMPORT.values() for value in module.values() if isinstance(value, type)
}
# Attributes that every class has.
_ABOUT_A_CLASS = set(vars(type("", (), {}))) | {
    "__annotations__", "__qualname__", "__abstractmethods__", "_abc_impl", "__orig_bases__", "__parameters__",
}  # fmt: skip
BARE = {object, ABC, Generic, Protocol}


def is_theirs(space: type | ModuleType) -> bool:
    """Whether all functions that a class or a module of the libraries holds are the libraries' own.

    This is decided by the file of their code, and of the code that they wrap, because a name can be copied. A function
    that replaced another one is not the libraries' own, nor is one written in C that was added after import.
    """
    remembered = AT_IMPORT.get(space, {}) if isinstance(space, ModuleType) else _CLASSES_AT_IMPORT.get(space, {})
    # PyTorch's compiler replaces functions of PyTorch with its own, under the same names.
    is_fixed = isinstance(space, ModuleType) and not space.__name__.startswith(_OF_TORCH)
    for name, value in vars(space).items():
        if name.startswith("__") and not callable(value):
            continue
        if isinstance(space, ModuleType) and remembered and name not in remembered and not hasattr(builtins, name):
            continue  # a new name, which nothing in the module calls: PyTorch's compiler leaves some in others' modules
        is_known = remembered.get(name) is value
        if is_fixed and name in remembered and not is_known:
            return False
        homes = [space]
        if space in _CLASSES_AT_IMPORT and name not in remembered:
            # PyTorch wraps the `step` of the first optimizer of a process, inherited or not.
            assert isinstance(space, type)
            homes += [base for base in space.__mro__[1:] if name in vars(base)][:1]
        if not any(all(_is_at_home(each, home, name, is_known) for each in _functions(value)) for home in homes):
            return False
    return True


def _functions(value: Any) -> list[Any]:
    if isinstance(value, staticmethod | classmethod):
        return [value.__func__]
    if isinstance(value, property):
        return [each for each in (value.fget, value.fset, value.fdel) if each is not None]
    return [value] if callable(value) and not isinstance(value, type) else []


def _is_at_home(function: Any, space: type | ModuleType, name: str, is_known: bool) -> bool:
    """Whether a function belongs in a class or module under this name; `is_known` says that it was there at import."""
    while isinstance(function, FunctionType):
        file = function.__code__.co_filename
        in_stdlib = file.startswith(_STDLIB) and "-packages" not in file
        if not (file.startswith(_ROOTS) or in_stdlib or file == sys.modules["typing_extensions"].__file__):
            return False
        if (inner := getattr(function, "__wrapped__", None)) is None:
            within = function.__module__, function.__qualname__.rpartition(".")[0]
            is_named = is_known or function.__name__ == name
            # PyTorch's compiler replaces PyTorch's functions with generated ones, for the whole process.
            made = within[1].endswith("<locals>")
            if isinstance(space, ModuleType):
                return is_named or made
            return made or not within[1] or (is_named and within == (space.__module__, space.__qualname__))
        function = inner
    if isinstance(function, BuiltinFunctionType):
        # Some names in `functional` differ in their underscores.
        return is_known if isinstance(space, type) else function.__name__.replace("_", "") == name.replace("_", "")
    return type(function).__module__ in _CODELESS


def is_of_a_library(kind: type) -> bool:
    """Whether a module of the libraries holds this very class under its name; the name alone can be copied."""
    if kind.__module__.partition(".")[0] not in LIBRARIES:
        return False
    try:
        return attrgetter(kind.__qualname__)(sys.modules[kind.__module__]) is kind
    except (AttributeError, KeyError):
        return False


def overrides(kind: type, allowed: Iterable[str]) -> bool:
    """Whether `kind`, or a base that is not the libraries' own, overrides any name that is not `allowed`."""
    for place, base in enumerate(kind.__mro__):
        if base not in BARE and not is_of_a_library(base):
            inherited = {name for other in kind.__mro__[place + 1 :] for name in vars(other)}
            if (vars(base).keys() - _ABOUT_A_CLASS) & inherited - set(allowed):
                return True
    return False


def callables(kind: type) -> frozenset[str]:
    """Names of the methods of a class."""
    return frozenset(name for name in dir(kind) if callable(getattr(kind, name, None)))

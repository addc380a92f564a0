"""Whether code is the libraries' own, and nobody has replaced it.

A lean step stands in for many methods. None of them is listed here: `is_theirs` looks at all functions that a class or
a module of the libraries holds, and a function whose code lies elsewhere is a user's.
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

import sb3_contrib  # noqa: F401 - whose modules are remembered, too
import stable_baselines3  # noqa: F401
import torch
from torch.nn import functional

LIBRARIES = ("stable_baselines3", "sb3_contrib", "torch", "deltarl")
_STDLIB = (f"{sysconfig.get_path('stdlib')}/", "<frozen ")
_ROOTS = tuple(f"{Path(str(sys.modules[name].__file__)).parent}/" for name in LIBRARIES)
# What has no code of its own: values, annotations and what is written in C.
_CODELESS = {"builtins", "typing", "types", "collections", "collections.abc", "abc", "_abc", "torch._jit_internal"}
# What the libraries' functions call each other by, and the constants beside them, before anyone could have replaced
# them. Modules of layers and optimizers also keep counts and switches of their own: of these, functions alone.
_OF_TORCH = ("torch.nn.modules.", "torch.optim.", "torch.distributions.")
AT_IMPORT: Mapping[ModuleType, Mapping[str, Any]] = {
    module: {each: value for each, value in vars(module).items() if not name.startswith(_OF_TORCH) or callable(value)}
    for name, module in list(sys.modules.items())
    if name.partition(".")[0] in LIBRARIES[:2]
    or name.startswith(_OF_TORCH)
    or module in {functional, torch.nn.utils, torch.optim}
}
# The same for their classes: some have a method under two names.
_CLASSES_AT_IMPORT: Mapping[type, Mapping[str, Any]] = {
    value: dict(vars(value)) for module in AT_IMPORT.values() for value in module.values() if isinstance(value, type)
}
# What every class has.
_ABOUT_A_CLASS = set(vars(type("", (), {}))) | {
    "__annotations__", "__qualname__", "__abstractmethods__", "_abc_impl", "__orig_bases__", "__parameters__",
}  # fmt: skip
BARE = {object, ABC, Generic, Protocol}


def is_theirs(space: type | ModuleType) -> bool:
    """Whether all functions that a class or a module of the libraries holds are the libraries' own.

    That is decided by where their code lies, and the code that they wrap, since a name can be copied. A function in the
    place of another one is not their own, nor is one written in C that was not there at import.
    """
    remembered = AT_IMPORT.get(space, {}) if isinstance(space, ModuleType) else _CLASSES_AT_IMPORT.get(space, {})
    # PyTorch's compiler replaces functions of PyTorch by its own, under the same names.
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
            # PyTorch puts a wrapper around the `step` that the first optimizer of a process has, inherited or not.
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
    """Whether a function belongs in a class or module under that name; it was there at import if `is_known`."""
    while isinstance(function, FunctionType):
        file = function.__code__.co_filename
        in_stdlib = file.startswith(_STDLIB) and "-packages" not in file
        if not (file.startswith(_ROOTS) or in_stdlib or file == sys.modules["typing_extensions"].__file__):
            return False
        if (inner := getattr(function, "__wrapped__", None)) is None:
            within = function.__module__, function.__qualname__.rpartition(".")[0]
            is_named = is_known or function.__name__ == name
            # PyTorch's compiler puts functions that it makes in the place of its own, for all of the process.
            made = within[1].endswith("<locals>")
            if isinstance(space, ModuleType):
                return is_named or made
            return made or not within[1] or (is_named and within == (space.__module__, space.__qualname__))
        function = inner
    if isinstance(function, BuiltinFunctionType):
        # Some are in `functional` under a name with other underscores.
        return is_known if isinstance(space, type) else function.__name__.replace("_", "") == name.replace("_", "")
    return type(function).__module__ in _CODELESS


def is_of_a_library(kind: type) -> bool:
    """Whether a class is what a module of the libraries holds under its name; the name alone proves nothing."""
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

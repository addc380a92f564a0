"""Whether an algorithm runs Stable-Baselines3's own code, which nobody has changed, and whether it still does.

A lean step stands for a lot of methods, and for the modules, tensors and optimizers that they reach. None of them is
listed here. `is_theirs` looks at all that a class or a module of the libraries holds: a function whose code lies
elsewhere is a user's. `Seal` remembers, by identity, everything that a step was made of, and tells when any of it is
another: then all is looked at anew.
"""

from __future__ import annotations

import sys
import sysconfig
from abc import ABC
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from operator import attrgetter, eq, is_, itemgetter
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Generic, Protocol

import torch
from stable_baselines3.common import distributions, preprocessing, utils
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional
from torch.nn.modules import module as torch_modules
from torch.nn.modules.dropout import _DropoutNd
from torch.optim import Optimizer

LIBRARIES = ("stable_baselines3", "sb3_contrib", "torch", "deltarl")
# Extractors that give every network the same features, and learn nothing if they hold no weights.
EXTRACTORS: set[type[nn.Module]] = {FlattenExtractor, CombinedExtractor}
_DRAWS = (_DropoutNd, nn.RReLU)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL_HOOKS = [getattr(torch_modules, f"_global{name}") for name in _HOOKS]
_STDLIB = (f"{sysconfig.get_path('stdlib')}/", "<frozen ")
_ROOTS = tuple(f"{Path(str(sys.modules[name].__file__)).parent}/" for name in LIBRARIES)
# What has no code of its own: values, annotations and what is written in C.
_CODELESS = {"builtins", "typing", "types", "collections", "collections.abc", "abc", "_abc", "torch._jit_internal"}
# What the libraries' functions call each other by, and the constants beside them, before anybody could have replaced
# them. Layers and optimizers keep counts and switches of their own beside their functions.
_OF_TORCH = ("torch.nn.modules.", "torch.optim.", "torch.distributions.")
_AT_IMPORT: Mapping[ModuleType, Mapping[str, Any]] = {
    module: {each: value for each, value in vars(module).items() if not name.startswith(_OF_TORCH) or callable(value)}
    for name, module in list(sys.modules.items())
    if name.partition(".")[0] in LIBRARIES[:2]
    or name.startswith(_OF_TORCH)
    or module in {functional, torch.nn.utils, torch.optim}
}
# The same of their classes: some have a method under two names.
_CLASSES_AT_IMPORT: Mapping[type, Mapping[str, Any]] = {
    value: dict(vars(value)) for module in _AT_IMPORT.values() for value in module.values() if isinstance(value, type)
}
_ALWAYS: tuple[type | ModuleType, ...] = (
    utils,
    distributions,
    preprocessing,
    functional,
    torch.nn.utils,
    *Normal.__mro__[:2],
)
# What a user's class may have of its own: what makes a policy, and what a lean step calls or leaves alone.
_ABOUT_A_CLASS = set(vars(type("", (), {}))) | {
    "__annotations__", "__qualname__", "__abstractmethods__", "_abc_impl", "__orig_bases__", "__parameters__",
}  # fmt: skip
_MAKES = {
    "__init__", "_build", "_build_mlp_extractor", "make_actor", "make_critic", "make_features_extractor", "save",
    "_get_constructor_parameters",
}  # fmt: skip
AROUND = {
    "__init__", "_setup_model", "_setup_learn", "_create_aliases", "_init_callback", "learn", "train", "save", "load",
    "collect_rollouts", "_sample_action", "_store_transition", "_on_step", "_update_learning_rate", "dump_logs",
    "_update_info_buffer", "_update_current_progress_remaining", "_excluded_save_params", "_get_torch_save_params",
}  # fmt: skip
# These are called where somebody else has made them.
STEPS = {"__init__", "__setstate__", "_init_group", "step"}
_BARE = {object, ABC, Generic, Protocol}


class InPlace:
    """Stands for a method of a policy during a rollout, on the instance; afterwards it is the class's own again.

    Whoever has wrapped it in the meantime keeps a method that works.
    """

    def __init__(self, policy: nn.Module, name: str, instead: Callable[..., Any]) -> None:
        self.policy, self.name = policy, name
        self.instead: Callable[..., Any] | None = instead
        vars(policy)[name] = self

    def __call__(self, *args: Any, **options: Any) -> Any:
        """What stands for the method, or the method."""
        if self.instead is not None:
            return self.instead(*args, **options)
        return getattr(type(self.policy), self.name)(self.policy, *args, **options)

    def end(self) -> None:
        """Leave the policy."""
        self.instead = None
        if vars(self.policy).get(self.name) is self:
            del vars(self.policy)[self.name]

    def __reduce__(self) -> Any:
        # A copy of the policy, made in the rollout, is on its own.
        return getattr, (self.policy, self.name)


def is_theirs(space: type | ModuleType) -> bool:
    """Whether all functions that a class or a module of the libraries holds are the libraries' own.

    By where their code lies, and that of what they wrap: a name can be copied. One in the place of another is not, nor
    is one written in C that was not there before.
    """
    remembered = _AT_IMPORT.get(space, {}) if isinstance(space, ModuleType) else _CLASSES_AT_IMPORT.get(space, {})
    # PyTorch's compiler replaces functions of PyTorch by its own, of the same names.
    is_fixed = isinstance(space, ModuleType) and not space.__name__.startswith(_OF_TORCH)
    for name, value in vars(space).items():
        if name.startswith("__") and not callable(value):
            continue
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
    """Whether a function belongs into a class or module under that name, where it was before if `is_known`."""
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


def _is_libraries_own(kind: type) -> bool:
    """Whether a class is one that a module of the libraries has: names can be anything."""
    if kind.__module__.partition(".")[0] not in LIBRARIES:
        return False
    try:
        return attrgetter(kind.__qualname__)(sys.modules[kind.__module__]) is kind
    except (AttributeError, KeyError):
        return False


def overrides(kind: type, allowed: Iterable[str]) -> bool:
    """Whether a class of a user's, among the bases of `kind` and itself, overrides anything but what is allowed."""
    for place, base in enumerate(kind.__mro__):
        if base not in _BARE and not _is_libraries_own(base):
            inherited = {name for other in kind.__mro__[place + 1 :] for name in vars(other)}
            if (vars(base).keys() - _ABOUT_A_CLASS) & inherited - set(allowed):
                return True
    return False


def callables(kind: type) -> frozenset[str]:
    """Names of the methods of a class."""
    return frozenset(name for name in dir(kind) if callable(getattr(kind, name, None)))


def is_unchanged(policy: nn.Module) -> bool:
    """Whether a policy and all of its modules are as their classes made them.

    Not so with methods that a class of the user's or an instance has of its own, hooks, compiled modules, frozen
    parameters, a parameter in two places, or layers that draw random numbers, which they do in the order in which they
    are called.
    """
    parameters = [parameter for _, parameter in policy.named_parameters(remove_duplicate=False)]
    return (
        not overrides(type(policy), _MAKES)
        and not any(_GLOBAL_HOOKS)
        and not any(_is_changed(module) for module in policy.modules())
        and len({id(parameter) for parameter in parameters}) == len(parameters)
        and all(is_learned(parameter) for parameter in parameters)
    )


def same_features(models: Iterable[Any]) -> bool:
    """Whether the extractors of models give the same features: of one known class, without weights or statistics."""
    extractors = [model.features_extractor for model in models]
    kinds = {type(extractor) for extractor in extractors}
    return len(kinds) == 1 and kinds <= EXTRACTORS and not any(extractor.state_dict() for extractor in extractors)


def _is_changed(module: nn.Module) -> bool:
    own = vars(module)
    return (
        isinstance(module, _DRAWS)
        or any(own[name] for name in _HOOKS)
        or own.get("_compiled_call_impl") is not None
        or any(callable(getattr(type(module), name, None)) and type(own[name]) is not InPlace for name in own)
    )


def is_learned(parameter: Any) -> bool:
    """Whether a parameter, if there is one, is neither frozen nor hooked into."""
    if parameter is None:
        return True
    hooked = parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None)
    return bool(parameter.requires_grad) and not hooked


_PLAIN_MODULE = vars(nn.Module()).keys()
_WATCHED = (nn.Module, Tensor, Optimizer, BaseBuffer, list, bool, type(None))
_flags = attrgetter("requires_grad", "dtype", "_backward_hooks", "_post_accumulate_grad_hooks")


class Seal:
    """Everything that a lean step of an algorithm is made of, remembered by identity.

    That is what the algorithm holds of modules, tensors, optimizers and buffers; the modules of its policy, with their
    attributes, children, parameters and hooks; what the optimizers step; what the classes of all of these hold, and the
    modules that these classes were written in. Numbers are read when they are used, and are not in it; nor is what
    optimizers keep, which comes to be in the first step, and which `Step` looks at itself.

    Args:
        model: an algorithm.

    Attributes:
        objects: what has methods among all this.
    """

    def __init__(self, model: Any) -> None:
        policy = model.policy
        self._model, self._policy = vars(model), vars(policy)
        self._pick = _picker(
            name for name, value in self._model.items() if isinstance(value, _WATCHED) and name != "_lean"
        )
        modules = list(dict.fromkeys(chain(*(each.modules() for each in _held(model, nn.Module)))))
        owns = [vars(module) for module in modules]
        self._picks = [
            (_picker(names), own)
            for own in owns
            if (names := [key for key, value in own.items() if key not in _PLAIN_MODULE and type(value) is not InPlace])
        ]
        self._inner = [own[name] for own in owns for name in ("_modules", "_parameters", "_buffers")]
        held = [value for own in owns for value in own.values()]
        optimizers = [each for each in chain(held, self._model.values()) if isinstance(each, Optimizer)]
        self._optimizers = optimizers = list(dict.fromkeys(optimizers))
        self._lists = [each for each in chain(held, self._model.values()) if type(each) is list]
        self._distributions = list({id(each): each for each in held if isinstance(each, Distribution)}.values())
        self._numbers = [
            (_picker(names), own)
            for own in map(vars, self._distributions)
            if (names := [key for key, value in own.items() if isinstance(value, int | float)])
        ]
        self.objects = [model, *modules, *self._distributions, *optimizers, *_held(model, BaseBuffer)]
        self._tensors = [each for module in modules for each in module._parameters.values() if each is not None]
        self._tensors += _held(model, Tensor)
        self._sized = [
            *(own for own in owns if own is not self._policy),
            *_GLOBAL_HOOKS,
            *(own[name] for own in owns for name in _HOOKS),
        ]
        self._methods = [(vars(each).keys(), callables(type(each))) for each in self._distributions]
        self._methods += [(vars(each).keys(), callables(type(each)) - STEPS) for each in optimizers]
        self._methods.append((self._model.keys(), callables(type(model)) - AROUND))

        classes = {kind for each in self.objects for kind in type(each).__mro__}
        theirs: set[type | ModuleType] = {kind for kind in classes if _is_libraries_own(kind)}
        sources = {sys.modules[kind.__module__] for kind in theirs} & _AT_IMPORT.keys()
        self._spaces: list[type | ModuleType] = list(theirs | sources | {*_ALWAYS})
        self._maps = [vars(space) for space in {*self._spaces, *classes} - _BARE]
        self._snapshots = [dict(each) for each in self._maps]
        self._found, self._sizes = self._look(), self._count()

    def is_theirs(self) -> bool:
        """Whether all that the algorithm would run is the libraries' own."""
        is_own = any(overrides(type(optimizer), STEPS) for optimizer in self._optimizers)
        return not is_own and all(map(is_theirs, self._spaces)) and self._has_methods_of_its_classes()

    def holds(self) -> bool:
        """Whether all is what it was."""
        try:
            found = self._look()
            return (
                len(found) == len(self._found)
                and all(map(is_, found, self._found))
                and self._count() == self._sizes
                and self._has_methods_of_its_classes()
                and all(map(eq, self._maps, self._snapshots))
            )
        except (KeyError, RuntimeError, ValueError):  # gone; or compared with tensors or arrays, which have no truth
            return False

    def _look(self) -> list[Any]:
        found = [*self._pick(self._model), *map(type, self.objects)]
        for pick, own in self._picks:
            found += pick(own)
        found += chain.from_iterable(map(dict.values, self._inner))
        found += chain.from_iterable(self._lists)
        for optimizer in self._optimizers:
            found += chain.from_iterable(group["params"] for group in optimizer.param_groups)
        for pick, own in self._numbers:
            found += pick(own)
        found += chain.from_iterable(map(_flags, self._tensors))
        return found

    def _count(self) -> list[int]:
        in_place = sum(type(self._policy.get(name)) is InPlace for name in ("forward", "set_training_mode"))
        return [*map(len, self._sized), len(self._policy) - in_place, torch.is_anomaly_enabled()]

    def _has_methods_of_its_classes(self) -> bool:
        return all(keys.isdisjoint(methods) for keys, methods in self._methods)


def _picker(names: Iterable[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """All values of these names; with one name, `itemgetter` gives no tuple."""
    names = list(names)
    return itemgetter(*names, names[0])


def _held(model: Any, kind: type) -> Iterator[Any]:
    return (value for value in vars(model).values() if isinstance(value, kind))

"""Tells whether an algorithm is as its classes made it, and whether it has changed since.

A lean step stands in for methods and for the modules, tensors and optimizers that they use. `Seal` remembers all of
these by identity and tells when any of them has been replaced; then everything is checked again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from operator import attrgetter, eq, is_, itemgetter
from types import ModuleType
from typing import Any

import torch
from stable_baselines3.common import distributions, preprocessing, utils
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.distributions import Distribution
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional
from torch.nn.modules import module as torch_modules
from torch.nn.modules.dropout import _DropoutNd
from torch.optim import Optimizer

from deltarl.fast.libraries import AT_IMPORT, BARE, callables, is_of_a_library, is_theirs, overrides
from deltarl.fast.override import Override

_DRAWS = (_DropoutNd, nn.RReLU)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL_HOOKS = [getattr(torch_modules, f"_global{name}") for name in _HOOKS]
_ALWAYS: tuple[type | ModuleType, ...] = (
    utils,
    distributions,
    preprocessing,
    functional,
    torch.nn.utils,
    *Normal.__mro__[:2],
)
# Methods that a user's class may override: those that build a policy, and those that a lean step calls or leaves alone.
_MAKES = {
    "__init__", "_build", "_build_mlp_extractor", "make_actor", "make_critic", "make_features_extractor", "save",
    "_get_constructor_parameters",
}  # fmt: skip
AROUND = {
    "__init__", "_setup_model", "_setup_learn", "_create_aliases", "_init_callback", "learn", "train", "save", "load",
    "collect_rollouts", "_sample_action", "_store_transition", "_on_step", "_update_learning_rate", "dump_logs",
    "_update_info_buffer", "_update_current_progress_remaining", "_excluded_save_params", "_get_torch_save_params",
}  # fmt: skip
# Optimizer methods that a user's class may override: the optimizer then takes its own steps.
STEPS = {"__init__", "__setstate__", "_init_group", "step"}


def is_unchanged(policy: nn.Module) -> bool:
    """Whether a policy and all of its modules are as their classes made them.

    It has changed if a user's class or an instance overrides methods, or if there are hooks, compiled modules, frozen
    parameters, a parameter in two places, or layers that draw random numbers, which depend on the order of calls.
    """
    parameters = [parameter for _, parameter in policy.named_parameters(remove_duplicate=False)]
    return (
        not overrides(type(policy), _MAKES)
        and not any(_GLOBAL_HOOKS)
        and not any(_is_changed(module) for module in policy.modules())
        and len({id(parameter) for parameter in parameters}) == len(parameters)
        and all(is_learned(parameter) for parameter in parameters)
    )


def _is_changed(module: nn.Module) -> bool:
    own = vars(module)
    return (
        isinstance(module, _DRAWS)
        or any(own[name] for name in _HOOKS)
        or own.get("_compiled_call_impl") is not None
        or any(callable(getattr(type(module), name, None)) and type(own[name]) is not Override for name in own)
    )


def is_learned(parameter: Any) -> bool:
    """Whether a parameter is neither frozen nor hooked; True for None."""
    if parameter is None:
        return True
    hooked = parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None)
    return bool(parameter.requires_grad) and not hooked


_PLAIN_MODULE = vars(nn.Module()).keys()
_WATCHED = (nn.Module, Tensor, Optimizer, BaseBuffer, list, bool, type(None))
_flags = attrgetter("requires_grad", "dtype", "_backward_hooks", "_post_accumulate_grad_hooks")


class Seal:
    """Everything that a lean step of an algorithm depends on, remembered by identity.

    This includes the algorithm's modules, tensors, optimizers and buffers; the modules of its policy with their
    attributes, children, parameters and hooks; the parameters of the optimizers; the members of all their classes, and
    the Python modules that define these classes. Numbers are not included, because they are read when used, nor is the
    optimizers' state, which appears in the first step and which `Step` checks itself.

    Args:
        model: an algorithm.

    Attributes:
        objects: those of the objects that have methods.
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
            if (
                names := [key for key, value in own.items() if key not in _PLAIN_MODULE and type(value) is not Override]
            )
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
        theirs: set[type | ModuleType] = {kind for kind in classes if is_of_a_library(kind)}
        sources = {sys.modules[kind.__module__] for kind in theirs} & AT_IMPORT.keys()
        self._spaces: list[type | ModuleType] = list(theirs | sources | {*_ALWAYS})
        self._maps = [vars(space) for space in {*self._spaces, *classes} - BARE]
        self._snapshots = [dict(each) for each in self._maps]
        self._found, self._sizes = self._look(), self._count()

    def is_theirs(self) -> bool:
        """Whether all code that the algorithm would run is the libraries' own."""
        is_own = any(overrides(type(optimizer), STEPS) for optimizer in self._optimizers)
        return not is_own and all(map(is_theirs, self._spaces)) and self._has_methods_of_its_classes()

    def holds(self) -> bool:
        """Whether nothing has changed."""
        try:
            found = self._look()
            return (
                len(found) == len(self._found)
                and all(map(is_, found, self._found))
                and self._count() == self._sizes
                and self._has_methods_of_its_classes()
                and all(map(eq, self._maps, self._snapshots))
            )
        except (
            KeyError,
            RuntimeError,
            ValueError,
        ):  # removed, or compared with tensors or arrays, whose truth is undefined
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
        in_place = sum(type(self._policy.get(name)) is Override for name in ("forward", "set_training_mode"))
        return [*map(len, self._sized), len(self._policy) - in_place, torch.is_anomaly_enabled()]

    def _has_methods_of_its_classes(self) -> bool:
        return all(keys.isdisjoint(methods) for keys, methods in self._methods)


def _picker(names: Iterable[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """Get the values of these names as a tuple, which `itemgetter` does not give for a single name."""
    names = list(names)
    return itemgetter(*names, names[0])


def _held(model: Any, kind: type) -> Iterator[Any]:
    return (value for value in vars(model).values() if isinstance(value, kind))

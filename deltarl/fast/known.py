"""Whether a policy computes what a lean update computes: Stable-Baselines3's own code, which nobody has changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

LIBRARIES = ("stable_baselines3", "sb3_contrib")
# Extractors that give every network the same features, and learn nothing if they hold no weights.
EXTRACTORS: set[type[nn.Module]] = {FlattenExtractor, CombinedExtractor}
# What a lean update does in the place of the policy's own.
_OF_POLICY = ("forward", "predict", "_predict", "evaluate_actions", "extract_features", "set_training_mode")
_DRAWS = (_DropoutNd, nn.RReLU)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_theirs(kind: type, names: Iterable[str]) -> bool:
    """Whether the methods of a class, those of the names that it has, are of Stable-Baselines3 or sb3-contrib."""
    methods = [getattr(kind, name) for name in names if hasattr(kind, name)]
    return all(method.__module__.split(".")[0] in LIBRARIES for method in methods)


def is_unchanged(policy: nn.Module) -> bool:
    """Whether a policy and all of its modules are as their classes made them.

    Not so with methods that its class or an instance has of its own, hooks, compiled modules, frozen parameters, a
    parameter in two places, or layers that draw random numbers, which they do in the order in which they are called.
    """
    parameters = [parameter for _, parameter in policy.named_parameters(remove_duplicate=False)]
    return (
        is_theirs(type(policy), _OF_POLICY)
        and not any(_is_changed(module) for module in policy.modules())
        and len({id(parameter) for parameter in parameters}) == len(parameters)
        and all(_is_learned(parameter) for parameter in parameters)
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
        or any(callable(getattr(type(module), name, None)) for name in own)
    )


def _is_learned(parameter: Any) -> bool:
    hooked = parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None)
    return bool(parameter.requires_grad) and not hooked

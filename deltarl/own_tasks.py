"""Checks of environments before training; most apply only to those that do not come with deltarl."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from deltarl import plugins
from deltarl.errors import suggestion
from deltarl.task_packages import PACKAGES

_RESETS = 3


def is_own(env_id: str) -> bool:
    """Whether a registered environment is neither Gymnasium's nor of a package that deltarl knows."""
    return plugins.home_of(gym.spec(env_id)).partition(".")[0] not in {"gymnasium", *PACKAGES}


def fault_in_spaces(make: Callable[[], gym.Env[Any, Any]], seed: int) -> str:
    """How an environment's spaces change between constructions, or its observations between resets; empty if neither.

    Args:
        make: builds the environment.
        seed: the first seed that it is reset with.
    """
    with closing(make()) as first, closing(make()) as second:
        for name in ("observation_space", "action_space"):
            one, other = getattr(first, name), getattr(second, name)
            if one != other:
                return f"its {name} changes between constructions: {one}, then {other}"
        if not _size(first.observation_space):
            return f"its observation_space is empty: {first.observation_space}"
        for reset in range(_RESETS):
            observation, _ = first.reset(seed=seed + reset)
            if fault := misfit(observation, second.observation_space):
                return f"reset {reset + 1} returns {fault}"
    return ""


def misfit(observation: Any, space: spaces.Space[Any], path: str = "an observation") -> str:
    """How the shape of an observation differs from its space; empty if it does not."""
    if isinstance(space, spaces.Dict):
        if not isinstance(observation, dict) or observation.keys() != space.keys():
            got = list(observation) if isinstance(observation, dict) else type(observation).__name__
            return f"{path} with {got}, its observation_space has {list(space)}"
        found = (misfit(observation[key], inner, f"{path}['{key}']") for key, inner in space.items())
        return next((fault for fault in found if fault), "")
    if isinstance(space, spaces.Box | spaces.MultiBinary | spaces.MultiDiscrete):
        shape = np.shape(observation)
        return "" if shape == space.shape else f"{path} of shape {shape}, its observation_space has {space.shape}"
    return ""


def scalar_in(space: spaces.Space[Any]) -> str | None:
    """The first entry of a Dict space with the shape `()`, which networks cannot take."""
    if not isinstance(space, spaces.Dict):
        return None
    return next((name for name, inner in space.items() if isinstance(inner, spaces.Box) and inner.shape == ()), None)


def fault_of_keys(space: spaces.Space[Any], keys: Sequence[str] | None) -> str:
    """Why these entries of an observation cannot be normalised; empty if they can. None means all of a Dict."""
    if not isinstance(space, spaces.Dict):
        return "" if keys is None else f"observations are no Dict: {space}; set it to null"
    for key in keys or space.spaces:
        if key not in space.spaces:
            return f"observations have no entry '{key}'{suggestion(key, space.spaces)}"
        if not isinstance(space[key], spaces.Box):
            numbers = [name for name, inner in space.items() if isinstance(inner, spaces.Box)]
            return f"'{key}' is not a Box: {space[key]}; give those that are normalised: {numbers}"
    return ""


def _size(space: spaces.Space[Any]) -> int:
    """Number of entries of an observation; at least 1 for spaces without a shape."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return sum(map(_size, space.values() if isinstance(space, spaces.Dict) else space))
    return 1 if space.shape is None else int(np.prod(space.shape))

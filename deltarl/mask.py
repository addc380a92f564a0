"""Tasks with hidden quantities: entries removed from the observation, by index or by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import Field, StrictInt

from deltarl.errors import ConfigError, Spec, suggestion

# The velocities of Gymnasium's tasks that do not describe their observation, by the id without its version.
_VELOCITIES = {"InvertedDoublePendulum": range(5, 8), "Pusher": range(7, 14), "Reacher": range(6, 8)}
# What `velocities` means in the tasks that describe their observation.
_QUANTITIES_OF_MOTION = {"qvel", "cvel", "ten_velocity"}


class MaskSpec(Spec):
    """Removes entries of the observation, such as the velocities of a MuJoCo task."""

    wrapper: Literal["mask"]
    hide: tuple[Annotated[StrictInt, Field(ge=0)] | str, ...] = Field(
        min_length=1,
        description="Entries to remove: indices from 0, `velocities`, or quantities that Gymnasium's task names, such "
        "as `qvel` and `cfrc_ext`.",
    )

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        return Mask(env, self.hide)


class Mask(gym.ObservationWrapper[Any, Any, Any]):
    """Removes entries of a vector.

    Args:
        env: observations are a Box `[d]`.
        hide: indices, or names of quantities.

    Raises:
        ConfigError: if observations are not vectors, there is no such entry, or none would be left.
    """

    def __init__(self, env: gym.Env[Any, Any], hide: tuple[int | str, ...]) -> None:
        super().__init__(env)
        space = env.observation_space
        if isinstance(space, spaces.Dict):
            raise ConfigError("env.wrappers: mask removes entries of a vector; for Dict take filter_observation")
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise ConfigError(f"env.wrappers: mask removes entries of a vector; the observation is {space}")
        known = named_entries(env)
        hidden: set[int] = set()
        for each in hide:
            hidden.update(_entries(each, known, space.shape[0]))
        self._kept = np.array([index for index in range(space.shape[0]) if index not in hidden], dtype=np.intp)
        if not len(self._kept):
            raise ConfigError(f"env.wrappers: mask would hide all {space.shape[0]} entries of the observation")
        self.observation_space = spaces.Box(space.low[self._kept], space.high[self._kept], dtype=space.dtype)

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        return observation[self._kept]


def named_entries(env: gym.Env[Any, Any]) -> dict[str, range | list[int]]:
    """The entries of a MuJoCo task's observation by name; empty if it is unknown where they are."""
    size = spaces.flatdim(env.observation_space)
    structure = getattr(env.unwrapped, "observation_structure", None)
    if not isinstance(structure, Mapping):
        name = "" if env.spec is None else env.spec.name
        velocities = _VELOCITIES.get(name)
        plain = env.unwrapped.observation_space.shape == env.observation_space.shape
        return {} if velocities is None or not plain else {"velocities": velocities}
    found: dict[str, range | list[int]] = {}
    end = 0
    for name, width in structure.items():
        if width and not name.startswith("skipped"):
            found[name] = range(end, end + width)
            end += width
    if end != size:  # another wrapper has changed the observation
        return {}
    moving = [index for name in found if name in _QUANTITIES_OF_MOTION for index in found[name]]
    return found | ({"velocities": moving} if moving else {})


def _entries(hidden: int | str, known: Mapping[str, range | list[int]], size: int) -> range | list[int]:
    if isinstance(hidden, int):
        if hidden >= size:
            raise ConfigError(f"env.wrappers: mask cannot hide entry {hidden}; the observation has {size}, from 0")
        return [hidden]
    if not known:
        raise ConfigError(f"env.wrappers: mask does not know where '{hidden}' is in this observation; give indices")
    if hidden not in known:
        raise ConfigError(f"env.wrappers: mask: the observation has no '{hidden}'{suggestion(hidden, known)}")
    return known[hidden]

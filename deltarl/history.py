"""The last observations of an episode as one observation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import gymnasium as gym
from gymnasium import spaces
from pydantic import Field

from deltarl.errors import ConfigError, Spec


class HistorySpec(Spec):
    """The last observations, oldest first, as one observation `[length, d]`; every episode starts a new one."""

    wrapper: Literal["history"]
    length: Annotated[int, Field(ge=1, le=10_000)] = Field(description="Number of observations.")
    padding: Literal["first", "zeros"] = Field(
        "first",
        description="What stands before the first observation of an episode: copies of it, as if the task had been at "
        "rest, or zeros.",
    )

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Wrap an environment.

        Raises:
            ConfigError: if observations are not vectors.
        """
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            hint = "; put flatten_observation before it" if isinstance(space, spaces.Dict) else ""
            raise ConfigError(f"env.wrappers: history takes vectors; the observation is {space}{hint}")
        padding = {"first": "reset", "zeros": "zero"}[self.padding]
        return gym.wrappers.FrameStackObservation(env, self.length, padding_type=padding)

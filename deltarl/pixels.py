"""Observations that are drawn: the last frames of a MuJoCo task as one image."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import Field

from deltarl import rendering
from deltarl.errors import ConfigError, Spec


class PixelsSpec(Spec):
    """The last frames of an episode as one image, uint8 `[3 stack, size, size]`, in place of the observation."""

    wrapper: Literal["pixels"]
    size: Annotated[int, Field(ge=16, le=512)] = Field(64, description="Height and width of a frame.")
    stack: Annotated[int, Field(ge=1, le=5)] = Field(
        3, description="Number of frames, oldest first; copies of the first one stand before it."
    )

    def options(self, render_mode: str | None) -> dict[str, Any]:
        """Options of `gymnasium.make`. If `MUJOCO_GL` is not set, find out how frames can be drawn here and set it.

        Raises:
            ConfigError: if a window is wanted, or nothing can be drawn here.
        """
        if render_mode == "human":
            raise ConfigError("env.wrappers: pixels draws the observations, so there is no window; give --video FILE")
        if "MUJOCO_GL" not in os.environ:
            rendering.set_up()
        return {"render_mode": "rgb_array", "width": self.size, "height": self.size}

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Wrap an environment that renders `rgb_array` frames of this size.

        Raises:
            ConfigError: if its frames have another size.
        """
        stacked = gym.wrappers.FrameStackObservation(Pixels(env, self.size), self.stack)
        return gym.wrappers.ReshapeObservation(stacked, (3 * self.stack, self.size, self.size))


class Pixels(gym.ObservationWrapper[Any, Any, Any]):
    """The frame that an environment draws as its observation, `[3, size, size]`.

    MuJoCo's tasks are drawn as in films: without shadows, and by the camera that follows the body, if there is one.
    """

    def __init__(self, env: gym.Env[Any, Any], size: int) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(0, 255, (3, size, size), np.uint8)
        if env.spec is None or "default_camera_config" not in env.spec.kwargs:
            rendering.follow_body(env.unwrapped)
        rendering.without_shadows(env.unwrapped)

    def observation(self, observation: Any) -> NDArray[np.uint8]:
        del observation
        rendering.make_current(self.env.unwrapped)
        frame: Any = self.env.render()
        _, size, _ = self.observation_space.shape or ()
        if getattr(frame, "shape", None) != (size, size, 3):
            raise ConfigError(
                f"env.wrappers: pixels needs frames [{size}, {size}, 3]; the environment draws "
                f"{list(frame.shape) if hasattr(frame, 'shape') else type(frame).__name__}"
            )
        return np.ascontiguousarray(frame.transpose(2, 0, 1))

    def close(self) -> None:
        rendering.release(self.env.unwrapped)
        super().close()

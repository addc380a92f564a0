"""Meta-World's tasks as single environments, registered under ids such as Meta-World/reach-v3."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium as gym
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

SIDE = 480  # pixels, as Gymnasium's frames
CAMERA = "corner2"  # shows the arm and the goal in every task
UPSIDE_DOWN = ("corner", "corner2", "corner3")


class MetaWorldTask(gym.Wrapper[Any, Any, Any, Any]):
    """A task of Meta-World whose goal is observed and drawn anew for each episode.

    Upstream's ids stand for benchmarks: `Meta-World/MT1` has fifty goals, chosen when it is made, and ignores the seed
    of `reset`. Here goals come from the same distribution, and the seed of `reset` decides them.

    Args:
        env_name: Meta-World's name of the task, such as reach-v3.
        render_mode: human, rgb_array, depth_array, or None for no frames.
        camera_name: name of the model's camera; frames of those that hang upside down are turned.
        width, height: size of a frame in pixels.
    """

    def __init__(
        self,
        env_name: str,
        render_mode: Literal["human", "rgb_array", "depth_array"] | None = None,
        camera_name: str = CAMERA,
        width: int = SIDE,
        height: int = SIDE,
    ) -> None:
        task = ALL_V3_ENVIRONMENTS[env_name](
            render_mode=render_mode, camera_name=camera_name, width=width, height=height
        )
        # What Meta-World's own classes with observable goals set, except that the goal is not fixed afterwards.
        task._set_task_called = True
        task._partially_observable = False
        task._freeze_rand_vec = False
        task.seeded_rand_vec = True
        vars(task).pop("sawyer_observation_space", None)  # cached, with a hidden goal
        super().__init__(task)
        self.observation_space = task.sawyer_observation_space
        self._turned = camera_name in UPSIDE_DOWN

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.unwrapped.seed(seed)  # type: ignore[attr-defined]
        observation, info = super().reset(options=options)
        # As `step` does: a mechanism's goal may lie outside the space.
        return np.clip(observation, self.observation_space.low, self.observation_space.high), info  # type: ignore[attr-defined]

    def render(self) -> Any:
        frame = super().render()
        return np.ascontiguousarray(frame[::-1, ::-1]) if self._turned and isinstance(frame, np.ndarray) else frame


for _name, _class in ALL_V3_ENVIRONMENTS.items():
    gym.register(
        f"Meta-World/{_name}",
        entry_point=f"{__name__}:{MetaWorldTask.__name__}",
        max_episode_steps=_class.max_path_length,
        kwargs={"env_name": _name},
    )

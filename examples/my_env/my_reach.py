"""An environment of your own: a MuJoCo arm of two links reaches for a goal.

Train it from the checkout with
`deltarl train quickstart --import examples/my_env/my_reach.py env.id=MyReach-v0 env.success.key=is_success name=reach`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box

FRAME_SKIP = 2
TOLERANCE = 0.05  # metres


class MyReach(MujocoEnv):
    """Observes angles, velocities and the vector from the tip to the goal; the reward is minus their distance."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["human", "rgb_array", "depth_array"], "render_fps": 50}

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(
            str(Path(__file__).with_name("reach.xml")),
            FRAME_SKIP,
            observation_space=Box(-np.inf, np.inf, (6,), np.float64),
            render_mode=render_mode,
            camera_name="above",
        )

    def reset_model(self) -> np.ndarray[Any, Any]:
        """Place the arm near its initial pose, and the goal within its reach."""
        angle, radius = self.np_random.uniform(-np.pi, np.pi), self.np_random.uniform(0.1, 0.35)
        self.data.mocap_pos[0] = radius * np.cos(angle), radius * np.sin(angle), 0
        self.set_state(self.init_qpos + self.np_random.uniform(-0.1, 0.1, 2), self.init_qvel)
        return self._observe()

    def step(self, action: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], float, bool, bool, dict[str, Any]]:
        """Apply torques to both joints for one control step."""
        self.do_simulation(action, self.frame_skip)
        observation = self._observe()
        distance = float(np.linalg.norm(observation[-2:]))
        if self.render_mode == "human":
            self.render()
        reward = -distance - 0.01 * float(np.square(action).sum())
        return observation, reward, False, False, {"is_success": distance < TOLERANCE}

    def _observe(self) -> np.ndarray[Any, Any]:
        offset = self.data.mocap_pos[0] - self.data.site("tip").xpos
        return np.concatenate([self.data.qpos, self.data.qvel, offset[:2]])


gym.register("MyReach-v0", entry_point=MyReach, max_episode_steps=100)

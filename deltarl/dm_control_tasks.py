"""Renders DeepMind Control's tasks in the same way as Gymnasium's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym

if TYPE_CHECKING:
    from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

SIDE = 480  # pixels, as Gymnasium's frames


class DmControlFrames(gym.Wrapper[Any, Any, Any, Any]):
    """Renders a task of DeepMind Control with Gymnasium's MuJoCo renderer, and reports its steps per second.

    Shimmy draws with DeepMind's renderer, which chooses its backend when it is imported, before `deltarl.rendering` has
    found one that works; and its `render_fps` is the number of milliseconds between two steps.

    Args:
        env: the environment, made without a render mode.
        render_mode: human, rgb_array, depth_array, or None for no frames.
        width, height: size of a frame in pixels.
        camera_id: number of the model's camera, -1 for a free one; default: the first, if the model has any.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        render_mode: str | None = None,
        width: int = SIDE,
        height: int = SIDE,
        camera_id: int | None = None,
    ) -> None:
        super().__init__(env)
        self._mode, self._size, self._camera = render_mode, (width, height), camera_id
        self._renderer: MujocoRenderer | None = None
        self.metadata = {
            "render_modes": ["human", "rgb_array", "depth_array"],
            "render_fps": 1 / self.unwrapped.dt,  # type: ignore[attr-defined]
        }

    @property
    def render_mode(self) -> str | None:  # type: ignore[override]  # read-only in other wrappers of Gymnasium too
        return self._mode

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        outcome = super().step(action)
        if self._mode == "human":
            self.render()
        return outcome

    @property
    def mujoco_renderer(self) -> MujocoRenderer:
        """The renderer of the current simulation; some tasks build a new one for an episode."""
        from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer  # noqa: PLC0415 (MUJOCO_GL must be set first)

        physics = self.unwrapped.physics  # type: ignore[attr-defined]
        model, data = physics.model.ptr, physics.data.ptr
        if self._renderer is None or self._renderer.model is not model or self._renderer.data is not data:
            self._close_renderer()
            width, height = self._size
            camera = min(0, model.ncam - 1) if self._camera is None else self._camera
            self._renderer = MujocoRenderer(model, data, width=width, height=height, camera_id=camera)
        return self._renderer

    def render(self) -> Any:
        return self.mujoco_renderer.render(self._mode)

    def close(self) -> None:
        self._close_renderer()
        super().close()

    def _close_renderer(self) -> None:
        if self._renderer is not None:
            self._renderer.close()  # type: ignore[no-untyped-call]
            self._renderer = None

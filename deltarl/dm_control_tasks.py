"""Frames of DeepMind Control's tasks, drawn as those of Gymnasium's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym

if TYPE_CHECKING:
    from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

SIDE = 480  # pixels, as Gymnasium's frames


class DmControlFrames(gym.Wrapper[Any, Any, Any, Any]):
    """Draws a task of DeepMind Control with Gymnasium's MuJoCo renderer, and says how many steps a second has.

    Shimmy's own frames need DeepMind's renderer, which fixes how it draws when it is imported, and its `render_fps` is
    a tenth of a percent of the time between two steps.

    Args:
        env: the environment, made without a render mode.
        render_mode: human, rgb_array, depth_array, or None for no frames.
        width, height: size of a frame in pixels.
        camera_id: number of the model's camera; default: the first that follows the body, else the first, and -1 (a
            free one) for models without cameras.
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
    def render_mode(self) -> str | None:
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
            camera = _best_camera(model) if self._camera is None else self._camera
            # Dogs and their balls have more parts than the default's thousand.
            self._renderer = MujocoRenderer(
                model, data, width=width, height=height, max_geom=10_000, camera_id=camera
            )
        return self._renderer

    def render(self) -> Any:
        return self.mujoco_renderer.render(self._mode)

    def close(self) -> None:
        self._close_renderer()
        super().close()

    def _close_renderer(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def _best_camera(model: Any) -> int:
    import mujoco  # type: ignore[import-untyped]  # noqa: PLC0415

    follows = (mujoco.mjtCamLight.mjCAMLIGHT_TRACK, mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM)
    modes = [mujoco.mjtCamLight(mode) for mode in model.cam_mode]
    return next((camera for camera, mode in enumerate(modes) if mode in follows), 0 if modes else -1)

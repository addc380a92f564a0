"""Rendering with MuJoCo: finds a backend that works here, before MuJoCo is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from deltarl.errors import ConfigError

# Without a screen; GLFW, which needs one, comes last.
BACKENDS = ("egl", "osmesa", "glfw")
PACKAGES = "on Debian or Ubuntu: apt install libegl1 libgl1, or libosmesa6 without a graphics driver"
_ONE_FRAME = (
    "import gymnasium; env = gymnasium.make('InvertedPendulum-v5', render_mode='rgb_array', width=64, height=64); "
    "env.reset(seed=0); frame = env.render(); assert frame.shape == (64, 64, 3) and frame.any()"
)


def failure(backend: str) -> str | None:
    """Render one frame with a backend in a separate process; None if it worked, else the end of its output."""
    environment = {**os.environ, "MUJOCO_GL": backend}
    try:
        outcome = subprocess.run(
            [sys.executable, "-c", _ONE_FRAME], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
    except subprocess.TimeoutExpired:
        return "no frame within 60 s"
    if outcome.returncode == 0:
        return None
    return (outcome.stderr.strip().splitlines() or [f"status {outcome.returncode}"])[-1]


def working_backend() -> str | None:
    """The backend in `MUJOCO_GL`, if set, else the first one; only if it works, None otherwise."""
    chosen = os.environ.get("MUJOCO_GL")
    return next((backend for backend in ((chosen,) if chosen else BACKENDS) if failure(backend) is None), None)


def set_up() -> str:
    """Set `MUJOCO_GL` to a backend that works, for this process and its children.

    Call this before an environment is created, because MuJoCo reads the variable when it is imported.

    Raises:
        ConfigError: if none works, with the packages to install.
    """
    backend = working_backend()
    if backend is None:
        tried = os.environ.get("MUJOCO_GL") or "neither EGL nor OSMesa nor GLFW"
        raise ConfigError(f"rendering: could not render a frame ({tried}); {PACKAGES}; `deltarl doctor` shows more")
    os.environ["MUJOCO_GL"] = backend
    return backend


def follow_body(env: Any) -> None:
    """Select the model's camera that follows the body, if an unwrapped environment has one and no other was chosen.

    Gymnasium's default camera does not move, so a moving body is soon out of sight.
    """
    import mujoco  # type: ignore[import-untyped]  # noqa: PLC0415  (MUJOCO_GL must be set first)

    renderer = getattr(env, "mujoco_renderer", None)
    if renderer is not None and renderer.camera_id == -1:
        renderer.camera_id = mujoco.mj_name2id(env.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")


def without_shadows(env: Any) -> None:
    """Switch off shadows in Gymnasium's MuJoCo renderer, if an unwrapped environment uses it."""
    import mujoco  # noqa: PLC0415

    if (renderer := getattr(env, "mujoco_renderer", None)) is not None:
        renderer._get_viewer("rgb_array").scn.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0


def make_current(env: Any) -> None:
    """Draw the next frames in the context of this unwrapped environment.

    Gymnasium makes a context current when it is created. After another environment of the process has been closed, no
    context is current, and frames are drawn nowhere, without an error.
    """
    if (renderer := getattr(env, "mujoco_renderer", None)) is not None:
        renderer._get_viewer("rgb_array").make_context_current()


def release(env: Any) -> None:
    """Free what this unwrapped environment draws with, in its own context; call it before the environment is closed.

    Otherwise it is freed at some later time, in the context that is current then, and takes the buffers of another
    environment with it, whose frames are black from then on.
    """
    viewers = getattr(getattr(env, "mujoco_renderer", None), "_viewers", {})
    if (viewer := viewers.get("rgb_array")) is not None:
        viewer.make_context_current()
        viewer.con.free()

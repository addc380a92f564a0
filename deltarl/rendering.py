"""Rendering with MuJoCo: finds a backend that works here, before MuJoCo is imported."""

from __future__ import annotations

import os
import subprocess
import sys

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

"""Draw a frame of every task in docs/environments.md: `python docs/figures/task_pictures.py [GROUP ...]`.

Writes tasks/<group>.jpg next to this file, with the names of `envs/`. Needs a rendering backend (`deltarl doctor`) and
the extras of the tasks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from tasks import GROUPS, tasks_of  # noqa: E402

from deltarl.envs import EnvSpec, build_envs  # noqa: E402
from deltarl.rendering import working_backend  # noqa: E402

TILE, TEXT, COLUMNS = 160, 18, 5
STEPS = 20  # after which bodies have come to rest on the ground


def picture(env: EnvSpec) -> Image.Image:
    """A frame after a few steps without forces, or with the first of several actions."""
    with closing(build_envs(env, seed=3, n_envs=1, render_mode="rgb_array")) as envs:
        envs.reset()
        action = np.zeros_like(envs.action_space.sample())
        for _ in range(STEPS):
            envs.step(np.array([action]))
        [frame] = envs.get_images()
        assert frame is not None
        image = Image.fromarray(frame)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((TILE, TILE), Image.Resampling.LANCZOS)


def sheet(tasks: Sequence[tuple[str, EnvSpec]]) -> Image.Image:
    """Frames side by side, each above its name."""
    rows = -(-len(tasks) // COLUMNS)
    whole = Image.new("RGB", (COLUMNS * TILE, rows * (TILE + TEXT)), "white")
    draw = ImageDraw.Draw(whole)
    fonts = [ImageFont.load_default(size) for size in (11, 10, 9, 8)]
    for index, (name, env) in enumerate(tasks):
        row, column = divmod(index, COLUMNS)
        corner = (column * TILE, row * (TILE + TEXT))
        whole.paste(picture(env), corner)
        font = next((each for each in fonts if each.getlength(name) < TILE), fonts[-1])
        draw.text((corner[0] + TILE / 2, corner[1] + TILE + 3), name, fill="black", font=font, anchor="ma")
    return whole


def main() -> None:
    os.environ.setdefault("MUJOCO_GL", working_backend() or "egl")
    (HERE / "tasks").mkdir(exist_ok=True)
    for group in sys.argv[1:] or GROUPS:
        by_id = {env.id: (name, env) for name, env in reversed(tasks_of(group))}  # the first of several files
        sheet(list(reversed(by_id.values()))).save(HERE / "tasks" / f"{group}.jpg", quality=82, optimize=True)


if __name__ == "__main__":
    main()

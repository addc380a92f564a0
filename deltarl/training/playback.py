"""Episodes of a policy as frames: in a window, in a file, in a run's records."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from PIL import Image
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from deltarl import places
from deltarl.envs import FIRST_EVALUATION_SEED, LONGEST_EPISODE, EnvSpec, build_envs
from deltarl.errors import ConfigError
from deltarl.recording import sinks_of
from deltarl.training.evaluation import Evaluation, evaluate_policy
from deltarl.training.spec import RunSpec

Frame = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]  # height, width, RGB
FORMATS = (".mp4", ".gif")
DEFAULT_FPS = 30
# GIFs are heavy: small ones, with no more frames than needed.
GIF_FPS = 25
GIF_WIDTH = 240
CLIP_SECONDS = 10
HIGHEST_FPS = 125  # of Gymnasium's tasks


def record(
    policy: BasePolicy | BaseAlgorithm,
    env: EnvSpec,
    normalizer: VecNormalize | None,
    episodes: int = 1,
    seed: int = FIRST_EVALUATION_SEED,
    *,
    max_episode_steps: int = LONGEST_EPISODE,
    check: Callable[[], None] = lambda: None,
) -> tuple[list[Frame], float, Evaluation]:
    """Frames of evaluation episodes one after the other, their number a second, and the scores.

    `check` is called before each step; whatever it raises ends them.
    Rendering has to be set up (`deltarl.rendering.set_up`).
    """
    frames: list[Frame] = []
    rates: list[float] = []

    def watch(envs: VecEnv) -> None:
        check()
        if "default_camera_config" not in env.kwargs:
            _follow(envs.get_attr("unwrapped")[0])
        [frame] = envs.get_images()
        assert frame is not None
        frames.append(frame)
        rates.append(envs.get_attr("metadata")[0].get("render_fps") or DEFAULT_FPS)

    scores = evaluate_policy(
        policy,
        env,
        normalizer,
        episodes,
        seed,
        max_episode_steps=max_episode_steps,
        render_mode="rgb_array",
        watch=watch,
    )
    return frames, rates[0], scores


def _follow(env: Any) -> None:
    """Look through the model's own camera that follows the body, if it has one and no other camera was chosen.

    Gymnasium's renderer stands still by default, and what moves is soon out of its sight.
    """
    import mujoco  # type: ignore[import-untyped]  # noqa: PLC0415  (MUJOCO_GL has to be set before it is)

    renderer = getattr(env, "mujoco_renderer", None)
    if renderer is not None and renderer.camera_id == -1:
        renderer.camera_id = mujoco.mj_name2id(env.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")


def check_frames(env: EnvSpec) -> None:
    """See whether an environment draws frames, before hours are spent on what they are of.

    Raises:
        ConfigError: if its `metadata` names no mode `rgb_array`, or it gives no frame.
    """
    envs = build_envs(env, FIRST_EVALUATION_SEED, n_envs=1)
    modes = envs.get_attr("metadata")[0].get("render_modes") or []
    envs.close()
    if "rgb_array" not in modes:
        raise ConfigError(f"{env.id} draws no frames: rgb_array is not among its render_modes ({', '.join(modes)})")
    envs = build_envs(env, FIRST_EVALUATION_SEED, n_envs=1, render_mode="rgb_array")
    try:
        # Only the first frame shows whether there is a renderer.
        envs.reset()
        if envs.get_images()[0] is None:
            raise ConfigError(f"{env.id} draws no frames: it gave none")
    finally:
        envs.close()


def show(
    policy: BasePolicy | BaseAlgorithm,
    env: EnvSpec,
    normalizer: VecNormalize | None,
    episodes: int = 1,
    seed: int = FIRST_EVALUATION_SEED,
    *,
    max_episode_steps: int = LONGEST_EPISODE,
) -> Evaluation:
    """Evaluation episodes one after the other in a window, and their scores."""
    return evaluate_policy(
        policy, env, normalizer, episodes, seed, max_episode_steps=max_episode_steps, render_mode="human"
    )


def check_video_path(path: Path) -> None:
    """Say what is wrong with a video's path before the frames are drawn.

    Raises:
        ConfigError: for a format that is not written, a folder that is not there or may not be written, or a missing
            package.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--video: {path}: a name that ends in {' or '.join(FORMATS)} is wanted")
    if not path.parent.is_dir():
        raise ConfigError(f"--video: {path.parent}: no such folder")
    places.check_file(path, "--video")
    if path.suffix.lower() == ".mp4":
        try:
            import imageio_ffmpeg  # type: ignore[import-untyped]  # noqa: F401, PLC0415
        except ImportError:
            raise ConfigError(
                "--video: MP4 files need the package imageio-ffmpeg: pip install 'deltarl[video]'; or write a .gif"
            ) from None


def write_video(frames: Sequence[Frame], fps: float, path: Path) -> None:
    """Write frames as MP4 (H.264) or GIF, beside the target and then in its place."""
    beside = path.with_name(f".{path.name}.partial{path.suffix}")
    if path.suffix.lower() == ".gif":
        step = math.ceil(fps / GIF_FPS)
        beside.write_bytes(_gif([_small(frame) for frame in frames[::step]], fps / step))
    else:
        with imageio.get_writer(beside, fps=fps, macro_block_size=2) as writer:
            for frame in frames:
                writer.append_data(frame)  # type: ignore[attr-defined]
    beside.rename(path)


def record_clip(
    logger: Logger,
    policy: BaseAlgorithm,
    spec: RunSpec,
    normalizer: VecNormalize | None,
    steps: int,
    *,
    check: Callable[[], None],
) -> None:
    """Give the first seconds of an evaluation episode to the logger's sinks, as `eval/clip`; `check` as in `record`."""
    most = min(spec.eval.max_episode_steps, CLIP_SECONDS * HIGHEST_FPS)
    frames, fps, _ = record(policy, spec.env.held(steps), normalizer, max_episode_steps=most, check=check)
    step = math.ceil(fps / GIF_FPS)
    kept = [_small(frame) for frame in frames[: int(CLIP_SECONDS * fps) : step]]
    height, width, _ = kept[0].shape
    for sink in sinks_of(logger):
        sink.video("eval/clip", _gif(kept, fps / step), (height, width), steps)


def _small(frame: Frame) -> Frame:
    image = Image.fromarray(frame)
    image.thumbnail((GIF_WIDTH, GIF_WIDTH))
    return np.asarray(image)


def _gif(frames: Sequence[Frame], fps: float) -> bytes:
    first, *rest = (Image.fromarray(frame) for frame in frames)
    file = io.BytesIO()
    options: dict[str, Any] = {"append_images": rest, "save_all": True, "loop": 0, "duration": 1000 / fps}
    first.save(file, format="GIF", **options)
    return file.getvalue()

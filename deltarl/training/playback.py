"""Plays and draws episodes of a policy: in a window, for a film, in a run's records."""

from __future__ import annotations

from collections.abc import Callable

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from deltarl import rendering
from deltarl.envs import FIRST_EVALUATION_SEED, LONGEST_EPISODE, EnvSpec, build_envs
from deltarl.errors import ConfigError
from deltarl.recording import sinks_of
from deltarl.training.evaluation import Evaluation, evaluate_policy
from deltarl.training.films import FPS, GIF_FPS, Frame, gif, small
from deltarl.training.spec import RunSpec

DEFAULT_RATE = 30  # steps per second, if the task does not give render_fps
CLIP_SECONDS = 10
HIGHEST_RATE = 125  # steps per second, the highest among Gymnasium's tasks


def record(
    policy: BasePolicy | BaseAlgorithm,
    env: EnvSpec,
    normalizer: VecNormalize | None,
    episodes: int = 1,
    seed: int = FIRST_EVALUATION_SEED,
    *,
    write: Callable[[Frame], None],
    fps: float = FPS,
    most: int | None = None,
    max_episode_steps: int = LONGEST_EPISODE,
    check: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Play evaluation episodes and draw `fps` frames per second of simulated time.

    Without a graphics card, drawing a frame takes a hundred times as long as a step, and shadows take half of that. So
    only the frames that are shown are drawn, and MuJoCo draws them without shadows. A task with fewer steps per second
    repeats frames. Call `deltarl.rendering.set_up` first.

    Args:
        write: called with each frame, `[height, width, 3]` of uint8, in order.
        fps: frames per second of simulated time; the task's `metadata` gives the steps per second (`render_fps`),
            30 if missing.
        most: the largest number of frames to draw.
        check: called before each step; it may raise to end the episodes.

    The other arguments and the returned scores are those of `evaluate_policy`.
    """
    steps = drawn = 0

    def watch(envs: VecEnv) -> None:
        nonlocal steps, drawn
        check()
        rate = envs.get_attr("metadata")[0].get("render_fps") or DEFAULT_RATE
        # Step k is visible from time k / rate to (k + 1) / rate.
        due = -int(-(steps + 1) * fps // rate)  # frames that begin before the end of this step
        if most is not None:
            due = min(due, most)
        if due > drawn:
            [task] = envs.get_attr("unwrapped")
            if "default_camera_config" not in env.kwargs:
                rendering.follow_body(task)
            rendering.without_shadows(task)
            [frame] = envs.get_images()
            assert frame is not None
            for _ in range(due - drawn):
                write(frame)
            drawn = due
        steps += 1

    return evaluate_policy(
        policy,
        env,
        normalizer,
        episodes,
        seed,
        max_episode_steps=max_episode_steps,
        render_mode="rgb_array",
        watch=watch,
    )


def check_frames(env: EnvSpec) -> None:
    """Check that an environment can render, before spending hours on training.

    Raises:
        ConfigError: if its `metadata` does not list the render mode `rgb_array`, or it returns no frame.
    """
    envs = build_envs(env, FIRST_EVALUATION_SEED, n_envs=1)
    modes = envs.get_attr("metadata")[0].get("render_modes") or []
    envs.close()
    if "rgb_array" not in modes:
        raise ConfigError(f"{env.id} cannot be rendered: rgb_array is not among its render_modes ({', '.join(modes)})")
    envs = build_envs(env, FIRST_EVALUATION_SEED, n_envs=1, render_mode="rgb_array")
    try:
        # Only the first frame shows whether the renderer works.
        envs.reset()
        if envs.get_images()[0] is None:
            raise ConfigError(f"{env.id} cannot be rendered: it returned no frame")
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
    """Play evaluation episodes in a window, one after the other, and return their scores."""
    return evaluate_policy(
        policy, env, normalizer, episodes, seed, max_episode_steps=max_episode_steps, render_mode="human"
    )


def record_clip(
    logger: Logger,
    policy: BaseAlgorithm,
    spec: RunSpec,
    normalizer: VecNormalize | None,
    steps: int,
    *,
    check: Callable[[], None],
) -> None:
    """Send the first seconds of an evaluation episode to the logger's sinks as `eval/clip`.

    `check` is called before each step, and may raise to end the episode.
    """
    frames: list[Frame] = []
    record(
        policy,
        spec.env.held(steps),
        normalizer,
        write=lambda frame: frames.append(small(frame)),
        fps=GIF_FPS,
        most=CLIP_SECONDS * GIF_FPS,
        max_episode_steps=min(spec.eval.max_episode_steps, CLIP_SECONDS * HIGHEST_RATE),
        check=check,
    )
    height, width, _ = frames[0].shape
    for sink in sinks_of(logger):
        sink.video("eval/clip", gif(frames, GIF_FPS), (height, width), steps)

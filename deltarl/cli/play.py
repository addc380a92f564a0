"""`deltarl play RUN`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from deltarl import rendering
from deltarl.cli.evaluate import BestOption, RunArgument, SeedOption, describe
from deltarl.envs import FIRST_EVALUATION_SEED
from deltarl.errors import ConfigError


def play(
    run: RunArgument,
    video: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a .mp4 or .gif in the place of a window.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="How many, one after the other.")] = 1,
    seed: SeedOption = FIRST_EVALUATION_SEED,
    best: BestOption = False,
) -> None:
    """Play the final policy of a run back, in a window or to a file.

    Example: deltarl play runs/quickstart/seed-0 --video hopper.mp4
    """
    from deltarl import training
    from deltarl.training import playback
    from deltarl.training.build import one_message

    if video is not None:
        playback.check_video_path(video)
        rendering.set_up()
    elif not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ConfigError("play: there is no screen for a window; give --video FILE.mp4")
    loaded = training.load_run(run, best=best)
    limit = loaded.spec.eval.max_episode_steps
    if video is not None:
        with one_message(f"env: {loaded.spec.env.id} draws no frames"):
            playback.check_frames(loaded.spec.env)
        typer.echo("drawing; without a graphics card 1,000 steps take a minute or two", err=True)
    with one_message(f"env: {loaded.spec.env.id} cannot be played"):
        if video is None:
            evaluation = playback.show(
                loaded.policy, loaded.spec.env, loaded.normalizer, episodes, seed, max_episode_steps=limit
            )
        else:
            frames, fps, evaluation = playback.record(
                loaded.policy, loaded.spec.env, loaded.normalizer, episodes, seed, max_episode_steps=limit
            )
    if video is not None:
        try:
            playback.write_video(frames, fps, video)
        except OSError as error:
            raise ConfigError(f"--video: {video} cannot be written: {error.strerror or error}") from None
        typer.echo(f"{video}: {len(frames) / fps:.1f} s")
    typer.echo(describe(evaluation))

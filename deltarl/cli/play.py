"""`deltarl play RUN`."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltarl import rendering
from deltarl.cli.evaluate import BestOption, RunsArgument, SeedOption, describe
from deltarl.envs import FIRST_EVALUATION_SEED
from deltarl.errors import ConfigError
from deltarl.training.lookup import runs_in

if TYPE_CHECKING:
    from deltarl.envs import EnvSpec
    from deltarl.training import Evaluation, Run

SMALLEST, LARGEST = 16, 4096  # pixels


def play(
    run: RunsArgument,
    *,
    video: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write an .mp4 or .gif file instead of opening a window.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Number of episodes.")] = 1,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Cut episodes off after this many steps.", show_default=False)
    ] = None,
    fps: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=240,
            help="Frames per second of simulated time; default: 30, or 25 for a GIF.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="WIDTHxHEIGHT", help="Size in pixels; default: the task's.", show_default=False),
    ] = None,
    seed: SeedOption = FIRST_EVALUATION_SEED,
    best: BestOption = False,
) -> None:
    """Play the final policy of a run, or of each of its seeds, in a window or into a video file.

    Example: deltarl play runs/quickstart/seed-0 --video hopper.mp4
    """
    from deltarl.training import films

    if video is not None:
        films.check_path(video)
        pixels = None if size is None else _pixels(size, even=video.suffix.lower() == ".mp4")
        rendering.set_up()
    else:
        for name, given in (("--fps", fps), ("--size", size)):
            if given is not None:
                raise ConfigError(f"play: {name} applies to videos only; give --video FILE.mp4")
        if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ConfigError("play: no screen to open a window on; give --video FILE.mp4")
    folders = runs_in(run)

    from deltarl import training
    from deltarl.training import playback
    from deltarl.training.build import one_message

    runs = [training.load_run(folder, best=best) for folder in folders]
    scores: list[str] = []

    def limits(loaded: Run) -> dict[str, Any]:
        limit = loaded.spec.eval.max_episode_steps
        return {"max_episode_steps": limit if steps is None else min(limit, steps)}

    if video is None:
        for loaded in runs:
            env = loaded.spec.env
            with one_message(f"env: {env.id} cannot be played"):
                evaluation = playback.show(loaded.policy, env, loaded.normalizer, episodes, seed, **limits(loaded))
            scores.append(_described(evaluation, steps))
    else:
        envs = [loaded.spec.env if pixels is None else _sized(loaded.spec.env, *pixels) for loaded in runs]
        with one_message(f"env: {envs[0].id} cannot be rendered"):
            playback.check_frames(envs[0])
        rate = fps or (films.GIF_FPS if video.suffix.lower() == ".gif" else films.FPS)
        with (
            _ends_tidily(),
            films.Film(video, rate, shrink=size is None) as film,
            _progress(film) as write,
        ):
            for loaded, env in zip(runs, envs, strict=True):
                with one_message(f"env: {env.id} cannot be played"):
                    evaluation = playback.record(
                        loaded.policy, env, loaded.normalizer, episodes, seed, write=write, fps=rate, **limits(loaded)
                    )
                scores.append(_described(evaluation, steps))
        typer.echo(f"{video}: {film.seconds:.1f} s")
    for loaded, score in zip(runs, scores, strict=True):
        typer.echo(score if len(runs) == 1 else f"{loaded.folder.name}: {score}")


def _described(evaluation: Evaluation, steps: int | None) -> str:
    if steps is None or not evaluation.cut:
        return describe(evaluation)
    return f"cut off after {steps:,} steps: {describe(evaluation, note=False)}"


def _pixels(size: str, *, even: bool) -> tuple[int, int]:
    """Parse width and height.

    Raises:
        ConfigError: if `size` is not two numbers of pixels, or not two even ones although `even` is set.
    """
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)
    if match is None:
        raise ConfigError(f"--size: expected WIDTHxHEIGHT, such as 640x480, got {size!r}")
    width, height = map(int, match.groups())
    if not all(SMALLEST <= side <= LARGEST for side in (width, height)):
        raise ConfigError(f"--size: expected {SMALLEST} to {LARGEST} pixels each way, got {size}")
    if even and (width % 2 or height % 2):
        raise ConfigError(f"--size: an MP4 needs even numbers of pixels, got {size}")
    return width, height


def _sized(env: EnvSpec, width: int, height: int) -> EnvSpec:
    """The environment with frames of another size.

    Raises:
        ConfigError: if it does not accept a size.
    """
    from deltarl.envs import build_envs

    sized = env.model_copy(update={"kwargs": {**env.kwargs, "width": width, "height": height}})
    try:
        build_envs(sized, FIRST_EVALUATION_SEED, n_envs=1).close()
    except TypeError:
        raise ConfigError(f"--size: {env.id} does not accept width and height; leave it out") from None
    return sized


@contextmanager
def _ends_tidily() -> Iterator[None]:
    """Let SIGTERM end the verb as Ctrl-C does, so that no unfinished file is left."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress(film: Any) -> Iterator[Any]:
    """Give a function that adds frames to a film, and show its progress if stderr is a terminal."""
    from rich.console import Console
    from rich.status import Status

    with Status("drawing", console=Console(stderr=True)) as status:

        def write(frame: Any) -> None:
            film.add(frame)
            status.update(f"drawing: {film.frames:,} frames, {film.seconds:.1f} s of film")

        yield write

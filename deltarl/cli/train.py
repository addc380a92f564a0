"""`deltarl train CONFIG [key=value ...]`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from deltarl.cli.early import check_config, say_loading
from deltarl.cli.launchers import AddressOption, GPUsOption, LauncherName, LauncherOption, launcher_of
from deltarl.cli.scores import score_text
from deltarl.library.lookup import names

if TYPE_CHECKING:
    from deltarl.training import RunResult, RunSpec


def _configs(incomplete: str) -> list[str]:
    return [name for name in names("configs") if name.startswith(incomplete)]


ConfigArgument = Annotated[
    str,
    typer.Argument(metavar="CONFIG", help="A config's name or YAML file.", show_default=False, autocompletion=_configs),
]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Overrides.", show_default=False)
]


JobsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Seeds trained at once; default: as many as the cores allow.", show_default=False),
]


def train(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    jobs: JobsOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume interrupted seeds, skip finished ones, start the others.")
    ] = False,
    *,
    launcher: LauncherOption = LauncherName.local,
    ray_address: AddressOption = None,
    gpus: GPUsOption = None,
) -> None:
    """Train an agent from a config.

    Ctrl-C, SIGTERM or SIGUSR1 stops it once a checkpoint is written, with exit status 75.

    Example: deltarl train quickstart torso=residual total_timesteps=100000 "seeds=[0,1]"
    """
    check_config(config, overrides)

    from deltarl.library import resolve

    resolution = resolve(config, overrides or [])
    say_loading()

    from deltarl import launch
    from deltarl.launch.display import default_console

    console = default_console()
    for note in resolution.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    spec = resolution.spec
    where = launcher_of(launcher, ray_address, gpus, threads=spec.threads, jobs=jobs)
    results = launch.train(spec, console, command=["deltarl", *sys.argv[1:]], jobs=jobs, resume=resume, launcher=where)
    Console().print(summary(spec, results), highlight=False, markup=False, soft_wrap=True)


def summary(spec: RunSpec, results: list[RunResult]) -> str:
    """The lines printed at the end of training."""
    lines = [f"{spec.agent.algorithm.upper()} on {spec.env.id}, {_torsos(spec)}"]
    threads = "1 thread" if spec.threads == 1 else f"{spec.threads} threads"
    for result in results:
        score = score_text(result.final_return_mean, result.final_return_std, result.episodes, result.success_rate)
        lines += [
            f"seed {result.seed}",
            f"  return   {score}{_random(spec)}",
            f"  speed    {_speed(result):,.0f} steps/s on {result.device} with {threads}, "
            f"{result.steps:,} steps in {_duration(result.wall_seconds)}",
            f"  folder   {result.folder}",
        ]
        lines += [f"  note     {note}" for note in result.notes]
        if result.resumes:
            exactly = f"continued, not exact: {'; '.join(result.continued)}" if result.continued else "exactly"
            lines.append(f"  resumed  {result.resumes} time{'s' if result.resumes > 1 else ''}, {exactly}")
    # On a line of its own, to be copied.
    lines += ["view with", f"  tensorboard --logdir {results[0].folder.parent}"]
    return "\n".join(lines)


def _torsos(spec: RunSpec) -> str:
    actor, critic = spec.actor_torso.label(), spec.critic_torso.label()
    torsos = f"{actor} torsos" if actor == critic else f"{actor} actor, {critic} critic"
    return torsos if spec.encoder.kind == "flat" else f"{spec.encoder.label()} encoder, {torsos}"


def _random(spec: RunSpec) -> str:
    score = spec.env.random_score
    return "" if score is None else f" (a random policy: {score.mean:,.1f})"


def _speed(result: RunResult) -> float:
    return result.steps / max(result.wall_seconds, 0.01)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

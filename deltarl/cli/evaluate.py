"""`deltarl evaluate RUN`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deltarl.cli.scores import score_text
from deltarl.envs import FIRST_EVALUATION_SEED
from deltarl.errors import ConfigError
from deltarl.library.lookup import find
from deltarl.training.lookup import runs_in

if TYPE_CHECKING:
    from deltarl.training import Evaluation

RunArgument = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="A run's folder, .../seed-<n>, or a packed agent (.zip).", show_default=False),
]
RunsArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="A run's folder, .../seed-<n>, the folder that holds its seeds, or a packed agent (.zip).",
        show_default=False,
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the first episode; the next ones count up from it.")]
BestOption = Annotated[
    bool, typer.Option("--best", help="Use the policy of the best evaluation; the run may be unfinished.")
]


def evaluate(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A run's folder, .../seed-<n>, the folder that holds its seeds, a packed agent (.zip), or an exported "
            "policy.onnx.",
            show_default=False,
        ),
    ],
    episodes: Annotated[
        int | None,
        typer.Option(min=1, help="Number of episodes; default: the config's eval.episodes.", show_default=False),
    ] = None,
    seed: SeedOption = FIRST_EVALUATION_SEED,
    best: BestOption = False,
    env: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The environment of an exported policy; default: the one that it was trained in.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Evaluate the final policy of a run, or of each of its seeds: deterministic actions, unnormalised returns.

    Example: deltarl evaluate runs/quickstart/seed-0 --episodes 100
    """
    if run.suffix.lower() == ".onnx" and not run.is_dir():
        if best:
            raise ConfigError("--best: an exported policy is one policy; give a run's folder, or leave --best out")
        _evaluate_exported(run, env, episodes, seed)
        return
    if env is not None:
        raise ConfigError("--env: a run is evaluated in its own environment; --env is for exported policies (.onnx)")
    folders = runs_in(run)

    from deltarl import training

    means = []
    for folder in folders:
        loaded = training.load_run(folder, best=best)
        typer.echo(f"{loaded.spec.agent.algorithm.upper()} on {loaded.spec.env.id}, {folder}")
        evaluation = training.evaluate(loaded, episodes, seed)
        typer.echo(describe(evaluation))
        means.append(evaluation.return_mean)
    if len(means) > 1:
        typer.echo(over_seeds(means))


def _evaluate_exported(file: Path, name: str | None, episodes: int | None, seed: int) -> None:
    if not file.is_file():
        raise ConfigError(f"{file}: no such file")
    if name is not None:
        find("envs", name, "--env")

    from deltarl.export.onnx_file import read_onnx
    from deltarl.export.playing import evaluate_onnx, task_of
    from deltarl.library import resolve

    player = read_onnx(file)
    env = task_of(player) if name is None else resolve("quickstart", [f"env={json.dumps(name)}"]).spec.env
    typer.echo(f"{player.metadata.get('algorithm', 'ONNX').upper()} on {env.id}, {file}")
    typer.echo(describe(evaluate_onnx(player, env, episodes, seed)))


def over_seeds(means: list[float]) -> str:
    """One line with the mean over seeds and its interval."""
    import numpy as np

    from deltarl.comparison.statistics import mean

    found = mean(np.array(means))
    mean_of = f"{len(means)} seeds: mean return {found.estimate:,.1f}"
    if found.low is None or found.high is None:
        return mean_of  # no interval: all means are the same
    return f"{mean_of}, 95% interval [{found.low:,.1f}, {found.high:,.1f}] (Student's t over seeds)"


def describe(evaluation: Evaluation, *, note: bool = True) -> str:
    """One line about an evaluation, with its note unless `note` is false."""
    count = len(evaluation.returns)
    score = score_text(evaluation.return_mean, evaluation.return_std, count, evaluation.success_rate)
    return f"return {score}{f'; {evaluation.note}' if note and evaluation.note else ''}"

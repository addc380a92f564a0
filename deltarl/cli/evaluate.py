"""`deltarl evaluate RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deltarl.cli.scores import score_text
from deltarl.envs import FIRST_EVALUATION_SEED

if TYPE_CHECKING:
    from deltarl.training import Evaluation

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, .../seed-<n>.", show_default=False)]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the first episode; the next ones count up from it.")]
BestOption = Annotated[
    bool, typer.Option("--best", help="Use the policy of the best evaluation; the run may be unfinished.")
]


def evaluate(
    run: RunArgument,
    episodes: Annotated[
        int | None,
        typer.Option(min=1, help="Number of episodes; default: the config's eval.episodes.", show_default=False),
    ] = None,
    seed: SeedOption = FIRST_EVALUATION_SEED,
    best: BestOption = False,
) -> None:
    """Evaluate the final policy of a run: deterministic actions, unnormalised returns of complete episodes.

    Example: deltarl evaluate runs/quickstart/seed-0 --episodes 100
    """
    from deltarl import training

    loaded = training.load_run(run, best=best)
    typer.echo(f"{loaded.spec.agent.algorithm.upper()} on {loaded.spec.env.id}, {run}")
    typer.echo(describe(training.evaluate(loaded, episodes, seed)))


def describe(evaluation: Evaluation, *, note: bool = True) -> str:
    """An evaluation in one line, with what has to be known of it unless `note` is false."""
    count = len(evaluation.returns)
    score = score_text(evaluation.return_mean, evaluation.return_std, count, evaluation.success_rate)
    return f"return {score}{f'; {evaluation.note}' if note and evaluation.note else ''}"

"""The estimates of a report: names, intervals, and how often the intervals contain the true value.

Tables, CSV, coverage and their wording follow from these, so an estimate that is added here appears in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from deltarl.comparison import aggregates, coverage, statistics
from deltarl.comparison.intervals import Array, Interval


@dataclass(frozen=True)
class Samples:
    """Scores of two arms on one task.

    Attributes:
        ours: scores of all finished seeds of the arm.
        theirs: scores of all finished seeds of the other arm.
        common: scores of the seeds that both have, `[2, seeds]`.
    """

    ours: Array
    theirs: Array
    common: Array


@dataclass(frozen=True)
class Estimate:
    """An estimate with its interval.

    Attributes:
        name: name of its columns in CSV, and of its row in the coverage.
        label: its name in tables.
        method: how its interval is constructed.
        compute: takes the scores `[seeds]` of an arm, the `Samples` of a pair, or a sequence of scores over tasks.
        simulate: returns the fraction of simulated samples whose interval contains the true value, given seeds, tasks,
            world and generator; None if it is that of another estimate.
        over_tasks: whether it is over all tasks, for the seeds that all arms have on all of them.
    """

    name: str
    label: str
    method: str
    compute: Callable[..., Interval]
    simulate: Callable[[int, int, str, np.random.Generator], float | None] | None
    over_tasks: bool = False


def _of_one_task(name: str, seeds: int, tasks: int, world: str, rng: np.random.Generator) -> float | None:
    del tasks
    return coverage.of_one_task(name, seeds, world, rng)


def _of_a_pair(simulate: Callable[..., float], seeds: int, tasks: int, world: str, rng: np.random.Generator) -> float:
    del tasks
    return simulate(seeds, world, rng)


def _of_an_aggregate(
    statistic: Callable[..., Any], tasks: Any, rng: np.random.Generator, resamples: int = statistics.RESAMPLES
) -> Interval:
    return aggregates.aggregate(tasks, statistic, rng, resamples=resamples)


OF_AN_ARM = (
    Estimate("mean", "mean", "Student's t", statistics.mean, partial(_of_one_task, "mean")),
    Estimate("median", "median", "order statistics", statistics.median, partial(_of_one_task, "median")),
    Estimate("iqm", "IQM", "Tukey and McLaughlin", statistics.iqm, partial(_of_one_task, "iqm")),
)
OF_A_PAIR = (
    Estimate(
        "difference",
        "difference",
        "Welch",
        lambda both: statistics.difference(both.ours, both.theirs),
        partial(_of_a_pair, coverage.of_difference),
    ),
    Estimate(
        "paired_difference",
        "over common seeds",
        "Student's t",
        lambda both: statistics.paired_difference(*both.common),
        None,
    ),
    Estimate(
        "hedges_g",
        "Hedges' g",
        "noncentral t",
        lambda both: statistics.effect_size(both.ours, both.theirs),
        partial(_of_a_pair, coverage.of_effect),
    ),
)
OF_A_CHANCE = Estimate(
    "improvement",
    "chance to score above",
    "Newcombe",
    aggregates.probability_of_improvement,
    coverage.of_improvement,
    over_tasks=True,
)
OF_A_CONTRAST = Estimate(
    "contrast",
    "contrast",
    "Welch",
    lambda combined: combined.interval(),
    coverage.of_contrast,
    over_tasks=True,
)
OVER_TASKS = tuple(
    Estimate(
        f"{name} over tasks",
        "IQM" if name == "iqm" else name,
        "stratified bootstrap, widened",
        partial(_of_an_aggregate, statistic),
        partial(coverage.of_aggregate, name),
        over_tasks=True,
    )
    for name, statistic in coverage.OVER_TASKS.items()
)


ESTIMATES: Mapping[str, Estimate] = {
    each.name: each for each in (*OF_AN_ARM, *OF_A_PAIR, OF_A_CHANCE, OF_A_CONTRAST, *OVER_TASKS)
}


def covered(
    seeds: int, common: int, tasks: int, *, contrasts: bool, rng: np.random.Generator
) -> Mapping[str, Mapping[str, float | None]]:
    """The fraction of intervals that contain the true value, by estimate and simulated world.

    Args:
        seeds: seeds of an arm on a task.
        common: seeds that all arms have on all tasks.
        tasks: number of tasks.
        contrasts: whether there are any contrasts.
        rng: draws the samples.
    """
    over_tasks = (OF_A_CHANCE, *((OF_A_CONTRAST,) if contrasts else ()), *OVER_TASKS) if common > 1 else ()
    return {
        each.name: {
            world: each.simulate(common if each.over_tasks else seeds, tasks, world, rng) for world in coverage.WORLDS
        }
        for each in (*OF_AN_ARM, *OF_A_PAIR, *over_tasks)
        if each.simulate is not None
    }

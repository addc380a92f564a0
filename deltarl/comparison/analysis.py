"""From the records of a comparison to estimates, intervals, tests, and words that go no further than these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import numpy as np

from deltarl.comparison import coverage, statistics
from deltarl.comparison.records import Record, Study
from deltarl.comparison.statistics import Array, Interval

SEED = 0  # of the resampling; the same records give the same report
SIGNIFICANT = 0.05
Metric = Literal["final", "area"]
METRICS: Mapping[Metric, str] = {"final": "return of the final policy", "area": "mean return over training"}
AGGREGATES = coverage.OVER_TASKS
PROFILE_POINTS = 101


@dataclass(frozen=True)
class Summary:
    """One arm on one task."""

    task: str
    arm: str
    metric: Metric
    scores: Array
    mean: Interval
    median: Interval
    iqm: Interval


@dataclass(frozen=True)
class Pair:
    """An arm against the reference on one task.

    Attributes:
        seeds: of the arm that has fewer.
        paired: over the seeds that both have.
        detectable: the smallest true difference that the test, adjusted, would probably have shown.
        p_welch: as the test gives it; None where there is no spread to test with.
        p_permutation: as the test gives it.
        p: of Welch's test, or of the permutation test where that is None, adjusted for all pairs of the metric.
        verdict: higher, lower, or no difference shown.
    """

    task: str
    arm: str
    reference: str
    metric: Metric
    seeds: int
    difference: Interval
    paired: Interval
    effect: Interval
    detectable: float | None
    p_welch: float | None
    p_permutation: float | None
    p: float
    verdict: Literal["higher", "lower", "no difference shown"]


@dataclass(frozen=True)
class Aggregate:
    """One arm over all tasks, in normalised scores, of the seeds that every arm has on every task.

    Attributes:
        statistics: by name, of `AGGREGATES`.
        improvement: chance that a run of the arm scores above one of the reference; None for the reference itself.
        p: of that chance's permutation test against a half, adjusted for the number of arms; None for the reference.
        verdict: of the chance against a half; None for the reference.
        profile: share of runs above each threshold, and the ends of its interval.
    """

    arm: str
    metric: Metric
    statistics: dict[str, Interval]
    improvement: Interval | None
    p: float | None
    verdict: Literal["higher", "lower", "no difference shown"] | None
    profile: tuple[Array, Array, Array]


@dataclass(frozen=True)
class Analysis:
    """All that a report says.

    Attributes:
        reference: what the other arms are compared with.
        aggregates: empty where a task has no scores to normalise with, or no seed is common to all.
        common_seeds: of the aggregates: those that every arm has finished on every task.
        not_aggregated: tasks without such scores.
        thresholds: of the profiles.
    """

    study: Study
    reference: str
    summaries: tuple[Summary, ...]
    pairs: tuple[Pair, ...]
    aggregates: tuple[Aggregate, ...]
    common_seeds: tuple[int, ...]
    not_aggregated: tuple[str, ...]
    thresholds: dict[Metric, Array]

    def summary(self, task: str, arm: str, metric: Metric = "final") -> Summary:
        """The summary of an arm on a task."""
        [found] = [each for each in self.summaries if (each.task, each.arm, each.metric) == (task, arm, metric)]
        return found

    @cached_property
    def covered(self) -> dict[str, dict[str, float | None]]:
        """By the name of an interval and of a simulated world, the share of intervals that cover the truth.

        At this number of seeds (over tasks, of common ones) and tasks; None where there is no interval, and empty with
        one seed.
        """
        return _covered(self.seeds[0], len(self.common_seeds), len(self.study.tasks)) if self.seeds[0] > 1 else {}

    @property
    def seeds(self) -> tuple[int, int]:
        """The smallest and the largest number of finished seeds of an arm on a task."""
        counts = [len(each.scores) for each in self.summaries]
        return min(counts), max(counts)


def analyse(study: Study, reference: str | None = None) -> Analysis:
    """All estimates and tests of a study, on the tasks on which every arm has finished.

    Args:
        study: the records.
        reference: the arm that the others are compared with, the comparison's own if not given.
    """
    reference = study.spec.reference if reference is None else reference
    rng = np.random.default_rng(SEED)
    summaries = tuple(
        _summary(study, task, arm, metric) for metric in METRICS for task in study.tasks for arm in study.arms
    )
    unknown = tuple(
        task for task in study.tasks if any(study.of(task, arm)[0].normalized(0.0) is None for arm in study.arms)
    )
    common = tuple(seed for seed in study.spec.seeds if _is_common(study, seed))
    thresholds: dict[Metric, Array] = {}
    aggregates: list[Aggregate] = []
    if common and not unknown:
        for metric in METRICS:
            scores = {
                arm: [_normalised(study, task, arm, metric, common) for task in study.tasks] for arm in study.arms
            }
            every = np.concatenate([np.concatenate(tasks) for tasks in scores.values()])
            thresholds[metric] = np.linspace(min(0.0, every.min()), every.max(), PROFILE_POINTS)
            aggregates += _aggregates(scores, metric, reference, thresholds[metric], rng)
    return Analysis(
        study,
        reference,
        summaries,
        tuple(pair for metric in METRICS for pair in _pairs(study, metric, reference, rng)),
        tuple(aggregates),
        common,
        unknown,
        thresholds,
    )


def verdict(interval: Interval, nothing: float, p: float | None) -> Any:
    """A difference is claimed only where its interval excludes none and its test, adjusted for their number, agrees."""
    if p is None or p >= SIGNIFICANT or not interval.excludes(nothing):
        return "no difference shown"
    return "higher" if interval.estimate > nothing else "lower"


def _is_common(study: Study, seed: int) -> bool:
    return all(any(record.seed == seed for record in study.of(task, arm)) for task in study.tasks for arm in study.arms)


def _scores(records: Sequence[Record], metric: Metric) -> Array:
    return np.array([getattr(record, metric) for record in records], float)


def _normalised(study: Study, task: str, arm: str, metric: Metric, seeds: Sequence[int]) -> Array:
    runs = [record for record in study.of(task, arm) if record.seed in seeds]
    return np.array([record.normalized(getattr(record, metric)) for record in runs], float)


def _summary(study: Study, task: str, arm: str, metric: Metric) -> Summary:
    scores = _scores(study.of(task, arm), metric)
    return Summary(
        task, arm, metric, scores, statistics.mean(scores), statistics.median(scores), statistics.iqm(scores)
    )


def _pairs(study: Study, metric: Metric, reference: str, rng: np.random.Generator) -> list[Pair]:
    cells = [(task, arm) for task in study.tasks for arm in study.arms if arm != reference]
    both = {cell: _both(study, *cell, reference, metric) for cell in cells}
    all_scores = {
        (task, arm): (_scores(study.of(task, arm), metric), _scores(study.of(task, reference), metric))
        for task, arm in cells
    }
    welch = {cell: statistics.welch_p(*scores) for cell, scores in all_scores.items()}
    permuted = {cell: statistics.permutation_p(*scores, rng) for cell, scores in all_scores.items()}
    adjusted = statistics.holm([permuted[cell] if welch[cell] is None else welch[cell] for cell in cells])
    pairs = []
    for cell, p in zip(cells, adjusted, strict=True):
        scores = all_scores[cell]
        difference = statistics.difference(*scores)
        pairs.append(
            Pair(
                *cell,
                reference,
                metric,
                min(map(len, scores)),
                difference,
                statistics.paired_difference(*both[cell]),
                statistics.effect_size(*scores),
                statistics.detectable_difference(*scores, level=1 - SIGNIFICANT / len(cells)),
                welch[cell],
                permuted[cell],
                p,
                verdict(difference, 0.0, p),
            )
        )
    return pairs


def _both(study: Study, task: str, arm: str, reference: str, metric: Metric) -> tuple[Array, Array]:
    """Scores of the seeds that both arms have."""
    ours = {record.seed: record for record in study.of(task, arm)}
    theirs = {record.seed: record for record in study.of(task, reference)}
    common = [seed for seed in ours if seed in theirs]
    return _scores([ours[seed] for seed in common], metric), _scores([theirs[seed] for seed in common], metric)


def _aggregates(
    scores: Mapping[str, Sequence[Array]], metric: Metric, reference: str, thresholds: Array, rng: np.random.Generator
) -> list[Aggregate]:
    """Of scores `[seeds]` by arm and task, each of the same seeds."""
    others = [arm for arm in scores if arm != reference]
    ps = statistics.holm([statistics.improvement_p(scores[arm], scores[reference], rng) for arm in others])
    adjusted = dict(zip(others, ps, strict=True))
    found = []
    for arm, own in scores.items():
        better = None if arm == reference else statistics.probability_of_improvement(own, scores[reference])
        found.append(
            Aggregate(
                arm,
                metric,
                {name: statistics.aggregate(own, statistic, rng) for name, statistic in AGGREGATES.items()},
                better,
                adjusted.get(arm),
                None if better is None else verdict(better, 0.5, adjusted[arm]),
                statistics.performance_profile(own, thresholds, rng),
            )
        )
    return found


@cache
def _covered(seeds: int, common: int, tasks: int) -> dict[str, dict[str, float | None]]:
    rng = np.random.default_rng(SEED)
    found: dict[str, dict[str, float | None]] = {
        name: {world: coverage.of_one_task(name, seeds, world, rng) for world in coverage.WORLDS}
        for name in coverage.OF_ONE_TASK
    }
    found["difference"] = {world: coverage.of_difference(seeds, world, rng) for world in coverage.WORLDS}
    if common > 1:
        found["improvement"] = {world: coverage.of_improvement(common, tasks, world, rng) for world in coverage.WORLDS}
    found["effect"] = {world: coverage.of_effect(seeds, world, rng) for world in coverage.WORLDS}
    for name in AGGREGATES if common > 1 else ():
        found[f"{name} over tasks"] = {
            world: coverage.of_aggregate(name, common, tasks, world, rng) for world in coverage.WORLDS
        }
    return found

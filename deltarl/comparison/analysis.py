"""From the records of a comparison to estimates, intervals, tests, and words that go no further than these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
AGGREGATES: Mapping[str, Callable[..., Any]] = {
    "iqm": statistics.pooled_iqm,
    "median": statistics.pooled_median,
    "mean": statistics.pooled_mean,
}
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
        paired: over the seeds that both have.
        detectable: the smallest true difference that would probably have been seen.
        p_welch: as the test gives it.
        p_permutation: as the test gives it.
        adjusted: both, adjusted for all pairs of the report.
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
    adjusted: tuple[float, float]
    verdict: Literal["higher", "lower", "no difference shown"]


@dataclass(frozen=True)
class Aggregate:
    """One arm over all tasks, in normalised scores.

    Attributes:
        statistics: by name, of `AGGREGATES`.
        improvement: chance that a run of the arm scores above one of the reference; None for the reference itself.
        p: of the permutation test within tasks and seeds, adjusted for the number of arms; None for the reference.
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
        aggregates: empty where a task has no scores to normalise with.
        not_aggregated: tasks without such scores.
        thresholds: of the profiles.
    """

    study: Study
    reference: str
    summaries: tuple[Summary, ...]
    pairs: tuple[Pair, ...]
    aggregates: tuple[Aggregate, ...]
    not_aggregated: tuple[str, ...]
    thresholds: dict[Metric, Array]

    def summary(self, task: str, arm: str, metric: Metric = "final") -> Summary:
        """The summary of an arm on a task."""
        [found] = [each for each in self.summaries if (each.task, each.arm, each.metric) == (task, arm, metric)]
        return found

    @cached_property
    def covered(self) -> dict[str, dict[str, float | None]]:
        """By the name of an interval and of a simulated world, the share of intervals that cover the truth.

        At this number of seeds and tasks; None where there is no interval, and empty with one seed.
        """
        return _covered(self.seeds, len(self.study.tasks)) if self.seeds > 1 else {}

    @property
    def seeds(self) -> int:
        """The smallest number of finished seeds of any arm and task."""
        return min(len(each.scores) for each in self.summaries)


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
    normalised = {
        metric: {arm: [_normalised(study, task, arm, metric) for task in study.tasks] for arm in study.arms}
        for metric in METRICS
    }
    unknown = tuple(
        task for task in study.tasks if any(record.normalized(0.0) is None for record in study.of(task, reference))
    )
    thresholds: dict[Metric, Array] = {}
    aggregates: list[Aggregate] = []
    if not unknown:
        for metric in METRICS:
            everything = np.concatenate([np.concatenate(tasks) for tasks in normalised[metric].values()])
            points = thresholds[metric] = np.linspace(min(0.0, everything.min()), everything.max(), PROFILE_POINTS)
            aggregates += _aggregates(study, normalised[metric], metric, reference, thresholds=points, rng=rng)
    return Analysis(
        study,
        reference,
        summaries,
        tuple(pair for metric in METRICS for pair in _pairs(study, metric, reference, rng)),
        tuple(aggregates),
        unknown,
        thresholds,
    )


def verdict(interval: Interval, nothing: float, ps: Sequence[float | None]) -> Any:
    """A difference is claimed only where its interval excludes none and a test, adjusted for their number, agrees."""
    agreed = any(p is not None and p < SIGNIFICANT for p in ps)
    if not agreed or not interval.excludes(nothing):
        return "no difference shown"
    return "higher" if interval.estimate > nothing else "lower"


def _scores(records: Sequence[Record], metric: Metric) -> Array:
    return np.array([getattr(record, metric) for record in records], float)


def _normalised(study: Study, task: str, arm: str, metric: Metric) -> Array:
    found = [record.normalized(getattr(record, metric)) for record in study.of(task, arm)]
    return np.array([np.nan if score is None else score for score in found], float)


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
    exact = {cell: statistics.permutation_p(*scores, rng) for cell, scores in all_scores.items()}
    adjusted_welch = statistics.holm(list(welch.values()))
    adjusted_exact = statistics.holm(list(exact.values()))
    pairs = []
    for cell, *adjusted in zip(cells, adjusted_welch, adjusted_exact, strict=True):
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
                statistics.detectable_difference(*scores),
                welch[cell],
                exact[cell],
                (adjusted[0], adjusted[1]),
                verdict(difference, 0.0, adjusted),
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
    study: Study,
    scores: Mapping[str, Sequence[Array]],
    metric: Metric,
    reference: str,
    *,
    thresholds: Array,
    rng: np.random.Generator,
) -> list[Aggregate]:
    others = [arm for arm in study.arms if arm != reference]
    ps = {}
    for arm in others:
        common = [_both(study, task, arm, reference, metric) for task in study.tasks]
        scales = [_scale(study, task) for task in study.tasks]
        ours = [pair[0] / scale for pair, scale in zip(common, scales, strict=True)]
        theirs = [pair[1] / scale for pair, scale in zip(common, scales, strict=True)]
        ps[arm] = statistics.paired_permutation_p(ours, theirs, rng)
    adjusted = dict(zip(others, statistics.holm([ps[arm] for arm in others]), strict=True))
    found = []
    for arm in study.arms:
        better = None
        if arm != reference:
            better = statistics.probability_of_improvement(scores[arm], scores[reference], rng)
        found.append(
            Aggregate(
                arm,
                metric,
                {name: statistics.aggregate(scores[arm], statistic, rng) for name, statistic in AGGREGATES.items()},
                better,
                adjusted.get(arm),
                None if better is None else verdict(better, 0.5, [adjusted[arm]]),
                statistics.performance_profile(scores[arm], thresholds, rng),
            )
        )
    return found


def _scale(study: Study, task: str) -> float:
    """How much return is 1 in normalised scores."""
    record = study.of(task, study.spec.reference)[0]
    ends = record.normalized(1.0), record.normalized(0.0)
    assert ends[0] is not None
    assert ends[1] is not None
    return 1 / (ends[0] - ends[1])


@cache
def _covered(seeds: int, tasks: int) -> dict[str, dict[str, float | None]]:
    rng = np.random.default_rng(SEED)
    found: dict[str, dict[str, float | None]] = {
        name: {world: coverage.of_one_task(name, seeds, world, rng) for world in coverage.WORLDS}
        for name in coverage.OF_ONE_TASK
    }
    found["difference"] = {world: coverage.of_difference(seeds, world, rng) for world in coverage.WORLDS}
    found["aggregate"] = {world: coverage.of_aggregate(seeds, tasks, world, rng) for world in coverage.WORLDS}
    return found

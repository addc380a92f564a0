"""From the records of a comparison to estimates, intervals, tests and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np

from deltarl.comparison import aggregates, statistics
from deltarl.comparison.contrasts import Contrast, contrasts
from deltarl.comparison.estimates import OF_A_CHANCE, OF_A_PAIR, OF_AN_ARM, OVER_TASKS, Samples, covered
from deltarl.comparison.families import Family, Hypothesis, family, floor_of_chance, floor_of_welch
from deltarl.comparison.intervals import Array, Interval
from deltarl.comparison.power import detectable_effect
from deltarl.comparison.records import Record, Study
from deltarl.comparison.spec import Metric
from deltarl.comparison.verdicts import Verdict, verdict

SEED = 0  # for resampling; the same records give the same report
METRICS: Mapping[Metric, str] = {"final": "return of the final policy", "area": "mean return over training"}
PROFILE_POINTS = 101


@dataclass(frozen=True)
class Summary:
    """One arm on one task; intervals are keyed by the names of `estimates.OF_AN_ARM`."""

    task: str
    arm: str
    metric: Metric
    scores: Array
    intervals: Mapping[str, Interval]

    @property
    def mean(self) -> Interval:
        return self.intervals["mean"]


@dataclass(frozen=True)
class Pair:
    """An arm compared with the reference on one task.

    Attributes:
        seeds: number of seeds of the arm that has fewer.
        intervals: by the names of `estimates.OF_A_PAIR`.
        detectable: the smallest true difference that the adjusted test detects four times in five; None without a
            planned standard deviation.
        p_welch: unadjusted p-value; None if the scores have no spread.
        p_permutation: unadjusted p-value.
        p: adjusted p-value of Welch's test, or of the permutation test if that is None; None if the comparison names
            contrasts, because then only these are tested.
        verdict: higher, lower, no difference shown, or not tested.
    """

    task: str
    arm: str
    reference: str
    metric: Metric
    seeds: int
    intervals: Mapping[str, Interval]
    detectable: float | None
    p_welch: float | None
    p_permutation: float | None
    p: float | None
    verdict: Verdict

    @property
    def difference(self) -> Interval:
        return self.intervals["difference"]


@dataclass(frozen=True)
class Aggregate:
    """One arm over all tasks, in normalised scores, for the seeds that every arm has on every task.

    Attributes:
        statistics: by the names of `estimates.OVER_TASKS`.
        improvement: probability that a run of the arm scores above one of the reference; None for the reference.
        p: adjusted p-value of the permutation test of that probability against 0.5; None for the reference, or if
            contrasts are tested instead.
        verdict: on that probability compared with 0.5; None for the reference.
        profile: fraction of runs above each threshold, and the ends of its interval.
    """

    arm: str
    metric: Metric
    statistics: Mapping[str, Interval]
    improvement: Interval | None
    p: float | None
    verdict: Verdict | None
    profile: tuple[Array, Array, Array]


@dataclass(frozen=True)
class Analysis:
    """Everything that a report shows.

    Attributes:
        reference: the arm that the others are compared with.
        contrasts: those that the comparison names; if there are any, only they are tested.
        families: families of tests, each adjusted together.
        aggregates: empty if a task has no scores to normalise with, or no seed is common to all arms and tasks.
        common_seeds: the seeds that every arm has finished on every task; aggregates use these.
        not_aggregated: tasks without scores to normalise with.
        thresholds: thresholds of the performance profiles.
    """

    study: Study
    reference: str
    summaries: tuple[Summary, ...]
    pairs: tuple[Pair, ...]
    contrasts: tuple[Contrast, ...]
    families: tuple[Family, ...]
    aggregates: tuple[Aggregate, ...]
    common_seeds: tuple[int, ...]
    not_aggregated: tuple[str, ...]
    thresholds: dict[Metric, Array]

    def summary(self, task: str, arm: str, metric: Metric = "final") -> Summary:
        """The summary of an arm on a task."""
        [found] = [each for each in self.summaries if (each.task, each.arm, each.metric) == (task, arm, metric)]
        return found

    @cached_property
    def covered(self) -> Mapping[str, Mapping[str, float | None]]:
        """The fraction of intervals that contain the true value, by interval and simulated world.

        It is for this number of seeds (common seeds, for intervals over tasks) and tasks; None if there is no interval,
        and empty with one seed.
        """
        if self.seeds[0] < 2:
            return {}
        return _covered(self.seeds[0], len(self.common_seeds), len(self.study.tasks), bool(self.contrasts))

    @property
    def seeds(self) -> tuple[int, int]:
        """The smallest and the largest number of finished seeds of an arm on a task."""
        counts = [len(each.scores) for each in self.summaries]
        return min(counts), max(counts)


def analyse(study: Study, reference: str | None = None) -> Analysis:
    """Compute all estimates and tests of a study, for the tasks on which every arm has finished.

    Args:
        study: the records.
        reference: the arm that the others are compared with; default: the comparison's.
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
    pairs = [pair for metric in METRICS for pair in _pairs(study, metric, reference, rng)]
    named, families = contrasts(study, tuple(METRICS))
    if not study.spec.contrasts:
        families = _families(study, pairs, aggregates, len(common))
        pairs = [_decided_pair(pair, study, families) for pair in pairs]
        aggregates = [_decided_chance(each, families) for each in aggregates]
    else:
        aggregates = [replace(each, p=None) for each in aggregates]
    return Analysis(
        study,
        reference,
        summaries,
        tuple(pairs),
        named,
        families,
        tuple(aggregates),
        common,
        unknown,
        thresholds,
    )


def _families(study: Study, pairs: Sequence[Pair], aggregates: Sequence[Aggregate], common: int) -> tuple[Family, ...]:
    """The families if no contrast is named: the comparisons with the reference in the primary metric (over all tasks
    if there are several), and everything else."""
    chances = {each.arm: each for each in aggregates if each.improvement is not None}
    over_tasks = bool(chances) and len(study.tasks) > 1
    floor = floor_of_chance([common] * len(study.tasks))
    first: list[Hypothesis] = []
    rest: list[Hypothesis] = []
    for pair in pairs:
        p = pair.p_permutation if pair.p_welch is None else pair.p_welch
        test = Hypothesis(("pair", pair.metric, pair.task, pair.arm), p, floor_of_welch(pair.seeds))
        (first if pair.metric == study.spec.metric and not over_tasks else rest).append(test)
    for each in aggregates:
        if each.improvement is not None:
            test = Hypothesis(("chance", each.metric, each.arm), each.p, floor)
            (first if each.metric == study.spec.metric and over_tasks else rest).append(test)
    return tuple(each for each in (family("primary", first), family("secondary", rest)) if each.adjusted)


def _decided_pair(pair: Pair, study: Study, families: Sequence[Family]) -> Pair:
    key = ("pair", pair.metric, pair.task, pair.arm)
    [own] = [each for each in families if key in each.adjusted]
    detectable = None
    if study.spec.sigma and pair.metric == study.spec.metric:
        seeds = len(study.of(pair.task, pair.arm)), len(study.of(pair.task, pair.reference))
        detectable = detectable_effect([study.spec.sigma[pair.task]] * 2, seeds, own.level)
    p = own.adjusted[key]
    return replace(pair, p=p, detectable=detectable, verdict=verdict(pair.difference, 0.0, p))


def _decided_chance(each: Aggregate, families: Sequence[Family]) -> Aggregate:
    if each.improvement is None:
        return each
    key = ("chance", each.metric, each.arm)
    [p] = [found.adjusted[key] for found in families if key in found.adjusted]
    return replace(each, p=p, verdict=verdict(each.improvement, 0.5, p))


def _is_common(study: Study, seed: int) -> bool:
    return all(any(record.seed == seed for record in study.of(task, arm)) for task in study.tasks for arm in study.arms)


def _scores(records: Sequence[Record], metric: Metric) -> Array:
    return np.array([getattr(record, metric) for record in records], float)


def _normalised(study: Study, task: str, arm: str, metric: Metric, seeds: Sequence[int]) -> Array:
    runs = [record for record in study.of(task, arm) if record.seed in seeds]
    return np.array([record.normalized(getattr(record, metric)) for record in runs], float)


def _summary(study: Study, task: str, arm: str, metric: Metric) -> Summary:
    scores = _scores(study.of(task, arm), metric)
    return Summary(task, arm, metric, scores, {each.name: each.compute(scores) for each in OF_AN_ARM})


def _pairs(study: Study, metric: Metric, reference: str, rng: np.random.Generator) -> list[Pair]:
    """Not tested yet."""
    pairs = []
    for task in study.tasks:
        for arm in study.arms:
            if arm == reference:
                continue
            ours, theirs = (_scores(study.of(task, each), metric) for each in (arm, reference))
            both = Samples(ours, theirs, np.array(_both(study, task, arm, reference, metric)))
            pairs.append(
                Pair(
                    task,
                    arm,
                    reference,
                    metric,
                    min(len(ours), len(theirs)),
                    {each.name: each.compute(both) for each in OF_A_PAIR},
                    None,
                    statistics.welch_p(ours, theirs),
                    statistics.permutation_p(ours, theirs, rng),
                    None,
                    "not tested",
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
    """Of scores `[seeds]` by arm and task, each of the same seeds; p not adjusted yet."""
    ps = {arm: aggregates.improvement_p(scores[arm], scores[reference], rng) for arm in scores if arm != reference}
    return [
        Aggregate(
            arm,
            metric,
            {each.name: each.compute(own, rng) for each in OVER_TASKS},
            None if arm == reference else OF_A_CHANCE.compute(own, scores[reference]),
            ps.get(arm),
            None if arm == reference else "not tested",
            aggregates.performance_profile(own, thresholds, rng),
        )
        for arm, own in scores.items()
    ]


@cache
def _covered(seeds: int, common: int, tasks: int, has_contrasts: bool) -> Mapping[str, Mapping[str, float | None]]:
    return covered(seeds, common, tasks, contrasts=has_contrasts, rng=np.random.default_rng(SEED))

"""The contrasts that a comparison names: weighted sums of the arms' means, on each task and over all tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from deltarl.comparison import statistics
from deltarl.comparison.estimates import OF_A_CONTRAST
from deltarl.comparison.families import SIGNIFICANT, Family, Hypothesis, Name, family, floor_of_welch
from deltarl.comparison.intervals import Interval
from deltarl.comparison.linear import Combination, combination
from deltarl.comparison.power import detectable_effect
from deltarl.comparison.records import Study
from deltarl.comparison.verdicts import Verdict, verdict

# With at least this many tasks, their differences give an interval for other tasks; fewer say nothing about others.
TASKS_FOR_OTHERS = 6
Unit = Literal["standard deviations", "of the normalised score", "of the return"]


@dataclass(frozen=True)
class Contrast:
    """A contrast, estimated.

    Attributes:
        family: the family in which its tests are adjusted; None for the metric that is not primary and not tested.
        unit: unit of the estimate over all tasks, its intervals and the bound: planned standard deviations of each
            task, the normalised score, or the return if there is one task.
        found: the estimate over all tasks, with equal weights.
        by_task: the estimate on each task, in returns.
        between: interval for tasks like these, from their differences; None for fewer than `TASKS_FOR_OTHERS`.
        detectable: the smallest true contrast that the adjusted test detects four times in five; None without planned
            standard deviations.
        bound: bound of the equivalence test, declared beforehand; None without one.
        p: adjusted p-value of Welch's test; None if not tested.
        p_equivalence: adjusted p-value of two one-sided Welch tests; None without a bound.
        verdict: verdict of the test.
        small: whether the equivalence test shows that the contrast is no larger than the bound in either direction.
    """

    name: str
    weights: Mapping[str, float]
    metric: str
    family: Name | None
    unit: Unit
    found: Combination
    by_task: Mapping[str, Combination]
    between: Interval | None
    detectable: float | None
    bound: float | None
    p: float | None = None
    p_equivalence: float | None = None
    verdict: Verdict = "not tested"
    small: bool = False

    @property
    def interval(self) -> Interval:
        """Over all tasks, 95%."""
        return OF_A_CONTRAST.compute(self.found)


def contrasts(study: Study, metrics: Sequence[str]) -> tuple[tuple[Contrast, ...], tuple[Family, ...]]:
    """All contrasts of a comparison (tested in its primary metric), and the families of their tests.

    Tests of difference and equivalence are adjusted separately, because for one contrast only one of the two null
    hypotheses can be true.
    """
    spec = study.spec
    if not spec.contrasts or unit_of(study) is None:
        return (), ()
    found = [_estimated(study, name, metric) for metric in metrics for name in spec.contrasts]
    families: list[Family] = []
    names: tuple[Name, ...] = ("primary", "secondary")
    for name in names:
        own = [each for each in found if each.family == name]
        tested = family(name, (Hypothesis((each.name,), each.found.p(), _floor(study, each)) for each in own))
        bounded = family(
            name,
            (
                Hypothesis((each.name,), each.found.equivalence_p(each.bound), _floor(study, each))
                for each in own
                if each.bound is not None
            ),
        )
        families.append(tested)
        found = [_decided(each, tested, bounded) if each.family == name else each for each in found]
    return tuple(found), tuple(each for each in families if each.adjusted)


def unit_of(study: Study) -> Unit | None:
    """The unit of contrasts over all tasks; None if several tasks have no unit in common."""
    if study.spec.sigma:
        return "standard deviations"
    if len(study.tasks) == 1:
        return "of the return"
    known = all(study.of(task, arm)[0].normalized(0.0) is not None for task in study.tasks for arm in study.arms)
    return "of the normalised score" if known else None


def _scale(study: Study, task: str) -> float:
    """The return of a task that corresponds to one unit."""
    if study.spec.sigma:
        return study.spec.sigma[task]
    if len(study.tasks) == 1:
        return 1.0
    env = study.of(task, study.spec.reference)[0].spec.env
    assert env.random_score is not None
    assert env.reference_score is not None
    return env.reference_score.mean - env.random_score.mean


def _estimated(study: Study, name: str, metric: str) -> Contrast:
    spec, unit = study.spec, unit_of(study)
    assert unit is not None
    weights = {arm: weight for arm, weight in spec.contrasts[name].items() if weight}
    scores = {
        task: [np.array([getattr(run, metric) for run in study.of(task, arm)], float) for arm in weights]
        for task in study.tasks
    }
    scaled = [weight / _scale(study, task) / len(study.tasks) for task in study.tasks for weight in weights.values()]
    by_task = {task: combination(list(weights.values()), samples) for task, samples in scores.items()}
    seeds = [len(sample) for samples in scores.values() for sample in samples]
    primary = metric == spec.metric
    family_name: Name = "primary" if name in spec.primary else "secondary"
    size = len(spec.primary) if family_name == "primary" else len(spec.contrasts) - len(spec.primary)
    detectable = None
    if spec.sigma and primary:
        each_task = [abs(weight) / len(study.tasks) for weight in weights.values()]
        detectable = detectable_effect(each_task * len(study.tasks), seeds, 1 - SIGNIFICANT / size)
    between = None
    if len(study.tasks) >= TASKS_FOR_OTHERS:
        between = statistics.mean(np.array([by_task[task].estimate / _scale(study, task) for task in study.tasks]))
    return Contrast(
        name,
        weights,
        metric,
        family_name if primary else None,
        unit,
        combination(scaled, [sample for samples in scores.values() for sample in samples]),
        by_task,
        between,
        detectable,
        spec.equivalence if primary else None,
    )


def _floor(study: Study, contrast: Contrast) -> float:
    return floor_of_welch(*(len(study.of(task, arm)) for task in study.tasks for arm in contrast.weights))


def _decided(contrast: Contrast, tested: Family, bounded: Family) -> Contrast:
    p, within = tested.adjusted[contrast.name,], bounded.adjusted.get((contrast.name,))
    return replace(
        contrast,
        p=p,
        p_equivalence=within,
        verdict=verdict(contrast.interval, 0.0, p),
        small=within is not None and within < SIGNIFICANT,
    )

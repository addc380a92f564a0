"""How sensitive the arms are to their settings: the table from which settings are chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from deltarl.comparison.records import Study


@dataclass(frozen=True)
class Sensitivity:
    """An arm under each of the comparison's variants, in the primary metric.

    Attributes:
        scores: mean over tasks of the normalised score by variant, each task's mean being over its seeds; NaN where a
            task has no scores to normalise with.
        by_task: mean over seeds of the return, by task and variant.
        best: the variant with the highest score, the first of equal ones; None without scores.
    """

    arm: str
    scores: dict[str, float]
    by_task: dict[str, dict[str, float]]
    best: str | None


def sensitivities(study: Study) -> list[Sensitivity]:
    """One row per arm; empty if the comparison has no variants."""
    variants = list(study.spec.variants)
    found = []
    for own in dict.fromkeys(arm.rpartition("+")[0] for arm in study.arms) if variants else ():
        by_task = {
            task: {variant: _mean(study, task, f"{own}+{variant}", normalised=False) for variant in variants}
            for task in study.tasks
        }
        scores = {
            variant: float(np.mean([_mean(study, task, f"{own}+{variant}", normalised=True) for task in study.tasks]))
            for variant in variants
        }
        known = {variant: score for variant, score in scores.items() if not math.isnan(score)}
        found.append(Sensitivity(own, scores, by_task, max(known, key=lambda name: known[name]) if known else None))
    return found


def pooled_deviations(study: Study) -> dict[str, tuple[float, int]]:
    """Standard deviation over seeds within the arms of each task, in the primary metric, and its degrees of freedom.

    A later comparison can use them for planning. Tasks on which no arm has two seeds are omitted.
    """
    found = {}
    for task in study.tasks:
        cells = [np.array([getattr(run, study.spec.metric) for run in study.of(task, arm)]) for arm in study.arms]
        freedom = sum(len(cell) - 1 for cell in cells)
        if freedom:
            squares = sum(float(((cell - cell.mean()) ** 2).sum()) for cell in cells)
            found[task] = (math.sqrt(squares / freedom), freedom)
    return found


def _mean(study: Study, task: str, arm: str, *, normalised: bool) -> float:
    runs = study.of(task, arm)
    scores = [getattr(run, study.spec.metric) for run in runs]
    if normalised:
        scores = [run.normalized(score) for run, score in zip(runs, scores, strict=True)]
    return math.nan if None in scores else float(np.mean(scores))

"""A report's tables as CSV: every number that it shows, and the numbers behind them."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deltarl.comparison.analysis import Analysis
from deltarl.comparison.erasure import worths
from deltarl.comparison.estimates import ESTIMATES
from deltarl.comparison.figures import flops
from deltarl.comparison.intervals import Interval
from deltarl.comparison.records import Study
from deltarl.comparison.sensitivity import pooled_deviations, sensitivities
from deltarl.comparison.tuned_arms import tuned_arms
from deltarl.search.report import cell

Row = dict[str, Any]


def write_tables(analysis: Analysis, folder: Path) -> list[Path]:
    """Write one file per table; None and NaN are empty cells."""
    tables: Mapping[str, list[Row]] = {
        "scores": list(scores(analysis.study)),
        "curves": list(curves(analysis.study)),
        "summary": list(summary(analysis)),
        "pairs": list(pairs(analysis)),
        "contrasts": list(contrasts(analysis)),
        "tuning": list(tuning(analysis.study)),
        "sensitivity": list(sensitivity(analysis.study)),
        "deviations": list(deviations(analysis.study)),
        "aggregates": list(aggregates(analysis)),
        "costs": list(costs(analysis.study)),
        "coverage": list(coverage(analysis)),
        "erasure": list(erasure(analysis.study)),
    }
    paths = []
    for name, rows in tables.items():
        if rows:
            paths.append(folder / f"{name}.csv")
            _write(paths[-1], rows)
    return paths


def scores(study: Study) -> Iterator[Row]:
    """One row per run."""
    for record in study.records:
        yield {
            "task": record.task,
            "arm": record.arm,
            "seed": record.seed,
            "final_return": record.final,
            "std_over_episodes": record.result.final_return_std,
            "episodes": record.result.episodes,
            "success_rate": record.result.success_rate,
            "normalized": record.normalized(record.final),
            "mean_return_over_training": record.area,
            "steps": record.result.steps,
            "seconds": record.result.wall_seconds,
            "peak_memory_mib": record.result.peak_memory_mib,
            "resumes": record.result.resumes,
        }


def curves(study: Study) -> Iterator[Row]:
    """One row per evaluation."""
    for record in study.records:
        spent = flops(study, record)
        for index, step in enumerate(record.steps):
            yield {
                "task": record.task,
                "arm": record.arm,
                "seed": record.seed,
                "step": int(step),
                "return": record.returns[index],
                "seconds": record.seconds[index],
                "flops": spent[index],
            }


def summary(analysis: Analysis) -> Iterator[Row]:
    """One row per arm, task and metric."""
    for each in analysis.summaries:
        yield {
            "task": each.task,
            "arm": each.arm,
            "metric": each.metric,
            "seeds": len(each.scores),
            **_all_ends(each.intervals),
        }


def pairs(analysis: Analysis) -> Iterator[Row]:
    """One row per arm, task and metric, compared with the reference."""
    for each in analysis.pairs:
        yield {
            "task": each.task,
            "arm": each.arm,
            "reference": each.reference,
            "metric": each.metric,
            "seeds": each.seeds,
            **_all_ends(each.intervals),
            "detectable_difference": each.detectable,
            "p_welch": each.p_welch,
            "p_permutation": each.p_permutation,
            "p_adjusted": each.p,
            "verdict": each.verdict,
        }


def aggregates(analysis: Analysis) -> Iterator[Row]:
    """One row per arm and metric, over all tasks."""
    for each in analysis.aggregates:
        row: Row = {"arm": each.arm, "metric": each.metric}
        row |= _all_ends({name.removesuffix(" over tasks"): found for name, found in each.statistics.items()})
        improvement = each.improvement or Interval(float("nan"), None, None)
        yield row | _ends("improvement", improvement) | {"p_adjusted": each.p, "verdict": each.verdict}


def contrasts(analysis: Analysis) -> Iterator[Row]:
    """One row per contrast and metric over all tasks, and one per task, in returns."""
    for each in analysis.contrasts:
        row: Row = {
            "contrast": each.name,
            "metric": each.metric,
            "family": each.family or "not tested",
            "weights": " ".join(f"{weight:+g}*{arm}" for arm, weight in each.weights.items()),
        }
        between = each.between or Interval(float("nan"), None, None)
        yield row | {
            "task": "all",
            "unit": each.unit,
            **_ends("estimate", each.interval),
            **_ends("interval_90", each.found.interval(0.9)),
            **_ends("between_tasks", between),
            "detectable": each.detectable,
            "p_welch": each.found.p(),
            "p_adjusted": each.p,
            "bound": each.bound,
            "p_equivalence_adjusted": each.p_equivalence,
            "verdict": each.verdict,
            "no_larger_than_bound": each.small,
        }
        for task, found in each.by_task.items():
            yield row | {"task": task, "unit": "of the return", **_ends("estimate", found.interval())}


def tuning(study: Study) -> Iterator[Row]:
    """One row per arm and task: scores before and after tuning, the chosen values, and scores of trials."""
    nothing = Interval(float("nan"), None, None)
    for each in tuned_arms(study):
        low, middle, high = each.quartiles or (None,) * 3
        yield {
            "task": each.task,
            "arm": each.arm,
            "metric": study.spec.metric,
            **_ends("before", each.before or nothing),
            **_ends("after", each.after),
            **_ends("change", each.change or nothing),
            **{path: cell(value) for path, value in each.found.values.items()},
            "from": each.source,
            "trial_score": each.found.score,
            "trial_score_of_own_values": each.found.own,
            "lower_quartile_of_trials": low,
            "median_of_trials": middle,
            "upper_quartile_of_trials": high,
            "finished": len(each.found.drawn),
            "pruned": each.found.pruned,
            "failed": each.found.failed,
            **{f"with_{other}": loss for other, loss in each.losses.items()},
        }


def sensitivity(study: Study) -> Iterator[Row]:
    """One row per arm and variant: means by task, and the score to choose variants by."""
    for each in sensitivities(study):
        for variant, score in each.scores.items():
            means = {task: found[variant] for task, found in each.by_task.items()}
            yield {"arm": each.arm, "variant": variant, **means, "score": score, "best": variant == each.best}


def deviations(study: Study) -> Iterator[Row]:
    """One row per task: the standard deviation over seeds within its arms."""
    for task, (deviation, freedom) in pooled_deviations(study).items():
        yield {"task": task, "metric": study.spec.metric, "deviation": deviation, "degrees_of_freedom": freedom}


def costs(study: Study) -> Iterator[Row]:
    """One row per arm and task."""
    for task in study.tasks:
        for arm in study.arms:
            size, cost = study.sizes.get(task, {}).get(arm, {}), study.costs.get(task, {}).get(arm, {})
            records = study.of(task, arm)
            memory = [record.result.peak_memory_mib for record in records if record.result.peak_memory_mib is not None]
            seconds = cost.get("seconds_per_1000_steps", [])
            yield {
                "task": task,
                "arm": arm,
                "parameters": size.get("parameters"),
                "mismatch": size.get("mismatch"),
                "forward_flops": size.get("flops"),
                "training_flops_per_step": _training_flops(cost),
                "seconds_per_1000_steps": statistics.median(seconds) if seconds else None,
                "over_reference": _over_reference(study, task, arm),
                "seconds_per_1000_steps_in_the_runs": statistics.median(
                    1_000 * record.result.wall_seconds / record.result.steps for record in records
                ),
                "peak_memory_mib": statistics.median(memory) if memory else None,
            }


def erasure(study: Study) -> Iterator[Row]:
    """One row per task and arm whose policies erase."""
    for each in worths(study):
        found = each.difference or Interval(float("nan"), None, None)
        yield {
            "task": each.task,
            "arm": each.arm,
            "seeds": each.seeds,
            **_ends("return_without_erasure_less_with", found),
        }


def coverage(analysis: Analysis) -> Iterator[Row]:
    """One row per interval and simulated world."""
    for name, worlds in analysis.covered.items():
        seeds = len(analysis.common_seeds) if ESTIMATES[name].over_tasks else analysis.seeds[0]
        for world, share in worlds.items():
            yield {"interval": name, "world": world, "seeds": seeds, "covered": share}


def _training_flops(cost: Mapping[str, Any]) -> float | None:
    if not cost:
        return None
    return float(cost["flops_per_step"] + cost["flops_per_update"] * cost["updates_per_step"])


def _over_reference(study: Study, task: str, arm: str) -> float | None:
    """Median over rounds of the time divided by the reference's in the same round."""
    costs = study.costs.get(task, {})
    ours, theirs = (costs.get(name, {}).get("seconds_per_1000_steps", []) for name in (arm, study.spec.reference))
    if not ours or len(ours) != len(theirs) or not all(theirs):
        return None
    return float(statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True)))


def _ends(name: str, found: Interval) -> Row:
    return {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}


def _all_ends(found: Mapping[str, Interval]) -> Row:
    row: Row = {}
    for name, interval in found.items():
        row |= _ends(name, interval)
    return row


def _write(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        for row in rows:
            writer.writerow({key: "" if _is_nan(value) else value for key, value in row.items()})


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)

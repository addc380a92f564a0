"""The report's sentences and table cells; they claim only what the statistics support."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from deltarl.comparison.analysis import Aggregate, Analysis, Pair
from deltarl.comparison.contrasts import Contrast
from deltarl.comparison.families import SIGNIFICANT
from deltarl.comparison.intervals import Interval
from deltarl.comparison.looks import since_the_first
from deltarl.comparison.matching import MOST_MISMATCH
from deltarl.comparison.power import detectable_effect
from deltarl.comparison.records import Record
from deltarl.comparison.tuned_arms import tuned_arms
from deltarl.comparison.tuning_record import OF_ARM

MINUS = "\N{MINUS SIGN}"


def number(value: float | None) -> str:
    """Format with three significant digits, or all before the point, and thousands separators."""
    if value is None or math.isnan(value):
        return "\N{EN DASH}"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    text = f"{value:,.{digits}f}" if size >= 1 or size == 0 else f"{value:.3g}"
    return text.replace("-", MINUS)


def probability(p: float | None) -> str:
    """Format a p-value."""
    return "\N{EN DASH}" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def interval(found: Interval) -> str:
    """`1,200 (900 to 1,500)`."""
    if found.low is None or found.high is None:
        return f"{number(found.estimate)} (no interval)"
    return f"{number(found.estimate)} ({number(found.low)} to {number(found.high)})"


def headline(analysis: Analysis) -> list[str]:
    """What the comparison shows in its primary metric, one sentence each."""
    metric = analysis.study.spec.metric
    if analysis.study.spec.contrasts:
        return [_of_a_contrast(each, analysis) for each in analysis.contrasts if each.family is not None]
    sentences = []
    chances = [each for each in analysis.aggregates if each.metric == metric and each.improvement is not None]
    if chances and len(analysis.study.tasks) > 1:
        sentences += [_over_tasks(each, analysis) for each in chances]
    for task in analysis.study.tasks:
        pairs = [pair for pair in analysis.pairs if (pair.task, pair.metric) == (task, metric)]
        sentences += [_claim(pair) for pair in pairs if pair.verdict != "no difference shown"]
        if silent := [pair for pair in pairs if pair.verdict == "no difference shown"]:
            sentences.append(_silence(task, silent))
    return sentences


def caution(analysis: Analysis) -> str:
    """How to read the headline."""
    tests = {each.name: len(each.adjusted) for each in analysis.families}
    counted = " and ".join(f"{count} {name} test{'s' if count > 1 else ''}" for name, count in tests.items())
    text = (
        "A difference is claimed only if its 95% interval excludes zero and its test agrees. There "
        f"{'is' if sum(tests.values()) == 1 else 'are'} {counted or 'no tests'}"
        + (
            ", each family adjusted separately with Holm's method"
            if len(tests) > 1
            else ", adjusted with Holm's method"
        )
        + ": on a task Welch's test, over all tasks "
        + ("Welch's of the contrast." if analysis.contrasts else "the permutation test of the chance to score above.")
    )
    level = max((each.level for each in analysis.families), default=None)
    if level is not None and not analysis.contrasts and analysis.seeds[0] > 1:
        size = detectable_effect((1.0, 1.0), (analysis.seeds[0],) * 2, level)
        text += (
            f" With {seeds(analysis)} per arm, the adjusted Welch test detects a true difference of {number(size)} "
            "standard deviations four times in five: the absence of a claim does not prove equality."
        )
    return text


def seeds(analysis: Analysis) -> str:
    """`5 seeds`, or `3 to 5 seeds` if some have not finished."""
    low, high = analysis.seeds
    return f"{low} seed{'s' if low > 1 else ''}" if low == high else f"{low} to {high} seeds"


def warnings(analysis: Analysis) -> Iterator[str]:
    """Caveats of the comparison."""
    study = analysis.study
    if study.missing:
        total = len(study.missing) + len(study.records)
        yield f"{len(study.missing)} of {total} runs have not finished: {_listed(study.missing)}."
    if study.unlisted:
        count = len(study.unlisted)
        yield f"{count} finished runs in the folder do not belong to this comparison: {_listed(study.unlisted)}."
    if absent := [task for task in study.spec.tasks if task not in study.tasks]:
        yield f"Left out, because an arm has no finished run there: {_listed(absent)}."
    yield from _of_the_tests(analysis)
    if not analysis.common_seeds:
        yield "No aggregate over tasks: no seed has finished for every arm on every task."
    elif analysis.seeds[0] < analysis.seeds[1]:
        yield f"Aggregates over tasks use the seeds that all arms have: {_listed(map(str, analysis.common_seeds))}."
    if analysis.not_aggregated:
        yield (
            f"No aggregate over tasks: there are no scores to normalise with for {_listed(analysis.not_aggregated)} "
            "(random_score and reference_score in its environment's file)."
        )
    if untimed := [str(record.folder) for record in study.records if not np.isfinite(record.seconds).all()]:
        yield f"Time and FLOPs are unknown for {len(untimed)} runs without metrics.jsonl: {_listed(untimed)}."
    for fact, values in differing(analysis).items():
        yield f"Runs differ in {fact}: {_listed(values)}."
    if continued := [str(record.folder) for record in study.records if record.result.continued]:
        yield (f"{len(continued)} runs were interrupted and resumed, but not exactly: {_listed(continued)}.")
    for arm in study.arms:
        left = {task: study.sizes.get(task, {}).get(arm, {}).get("mismatch") for task in study.tasks}
        if apart := [f"{share:+.0%} on {task}" for task, share in left.items() if share and abs(share) > MOST_MISMATCH]:
            what = "FLOPs" if study.spec.match == "flops" else study.spec.match
            listed = _listed(apart).replace("-", MINUS)
            yield f"{arm} is not matched: its {what} differ from those of {study.spec.reference} by {listed}."


def _of_the_tests(analysis: Analysis) -> Iterator[str]:
    study = analysis.study
    if analysis.reference != study.spec.reference:
        yield (
            f"The reference, {analysis.reference}, was chosen for this report; that of the comparison is "
            f"{study.spec.reference}. Claims relative to a reference that was chosen after a look at results are "
            "worth less."
        )
    yield from since_the_first(study)
    for arm in tuned_arms(study):
        if arm.found.source.startswith(OF_ARM):
            yield (
                f"{arm.arm} on {arm.task} has the values that were chosen for "
                f"{arm.found.source.removeprefix(OF_ARM)}: its own trials had not found any as good, so more of them "
                "may find better ones."
            )
    if study.spec.contrasts and not analysis.contrasts:
        yield (
            "The contrasts were not tested: combining scores of several tasks needs planned standard deviations "
            "(sigma) or the reference scores of their environments, and there are neither."
        )
    for each in analysis.families:
        if each.hopeless:
            yield (
                f"{len(each.hopeless)} of {len(each.adjusted)} {each.name} tests could not have shown anything, "
                f"whatever the results: with {seeds(analysis)} per arm, their smallest possible p, adjusted for "
                f"their number, is not below {SIGNIFICANT:g}."
            )


def differing(analysis: Analysis) -> dict[str, list[str]]:
    """Facts in the runs' provenance that differ between runs, with their values."""
    found: dict[str, dict[str, None]] = {}
    for record in analysis.study.records:
        for fact, value in _facts(record):
            found.setdefault(fact, {})[value] = None
    return {fact: list(values) for fact, values in found.items() if len(values) > 1}


def common(analysis: Analysis) -> dict[str, str]:
    """Facts in the runs' provenance that are the same for all runs."""
    apart = differing(analysis)
    return {fact: value for fact, value in _facts(analysis.study.records[0]) if fact not in apart}


def _facts(record: Record) -> Iterator[tuple[str, str]]:
    provenance = record.provenance
    yield "device", record.result.device
    for fact in ("git", "python", "processor", "cores", "threads", "gpus", "platform"):
        value = provenance.get(fact)
        if value is not None and value != []:
            yield {"git": "commit", "threads": "PyTorch threads"}.get(fact, fact), str(value)
    packages = provenance.get("packages")
    if isinstance(packages, dict):
        for name, value in packages.items():
            yield name, str(value)


def _over_tasks(each: Aggregate, analysis: Analysis) -> str:
    assert each.improvement is not None
    low, high = each.improvement.low, each.improvement.high
    spread = "" if low is None or high is None else f" (95% interval {low:.2f} to {high:.2f})"
    over = f"Over these {len(analysis.study.tasks)} tasks"
    chance = f"a run of {each.arm} scores above one of {analysis.reference} with a chance of"
    told = f"{chance} {each.improvement.estimate:.2f}{spread}."
    if each.verdict == "no difference shown":
        return f"{over} no difference is shown between {each.arm} and {analysis.reference}: {told}"
    return f"{over} {each.arm} scores {each.verdict} than {analysis.reference}: {told}"


def _claim(pair: Pair) -> str:
    difference = pair.difference
    return (
        f"{pair.task}: {pair.arm} scores {pair.verdict} than {pair.reference}, by {number(abs(difference.estimate))} "
        f"(95% interval of the difference {number(difference.low)} to {number(difference.high)}; p "
        f"{probability(pair.p)}, adjusted; {pair.seeds} seeds)."
    )


def _silence(task: str, pairs: list[Pair]) -> str:
    text = f"{task}: no difference shown between {pairs[0].reference} and {_listed(pair.arm for pair in pairs)}"
    ranges = [
        f"{number(pair.difference.low)} to {number(pair.difference.high)} for {pair.arm}"
        for pair in pairs
        if pair.difference.low is not None
    ]
    if ranges:
        text += f"; unadjusted 95% intervals of the difference are {', '.join(ranges)}"
    seen = [f"{number(pair.detectable)} for {pair.arm}" for pair in pairs if pair.detectable is not None]
    if seen:
        text += f"; as planned, smaller differences than {', '.join(seen)} would often be missed"
    return f"{text}."


def _of_a_contrast(each: Contrast, analysis: Analysis) -> str:
    unit = "" if each.unit == "of the return" else f" {each.unit}"
    where = _on_these_tasks(analysis)
    spread = f"95% interval {number(each.interval.low)} to {number(each.interval.high)}"
    if each.verdict == "no difference shown":
        text = f"{each.name}: no difference shown {where} ({number(each.interval.estimate)}{unit}, {spread}"
    else:
        size = number(abs(each.interval.estimate))
        text = f"{each.name}: {each.verdict} {where}, by {size}{unit} ({spread}"
    text += f"; p {probability(each.p)}, adjusted, {each.family}; {seeds(analysis)})."
    if each.small and each.bound is not None:
        text += (
            f" Either way it is no larger than {number(each.bound)}{unit} (two one-sided tests: p "
            f"{probability(each.p_equivalence)}, adjusted)."
        )
    elif each.bound is not None and each.verdict == "no difference shown":
        text += f" That it is no larger than {number(each.bound)}{unit} is not shown either."
    if each.detectable is not None and each.verdict == "no difference shown":
        text += f" As planned, the test shows a true {number(each.detectable)} four times in five."
    if each.between is not None:
        text += f" For other tasks like these the mean may lie at {interval(each.between)}."
    return text


def _on_these_tasks(analysis: Analysis) -> str:
    count = len(analysis.study.tasks)
    return f"on {analysis.study.tasks[0]}" if count == 1 else f"on these {count} tasks"


def _listed(items: Iterable[str], most: int = 8) -> str:
    found = list(items)
    shown = ", ".join(found[:most])
    return shown if len(found) <= most else f"{shown} and {len(found) - most} more"

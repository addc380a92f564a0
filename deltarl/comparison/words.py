"""Sentences and cells of tables: what the intervals allow to say, and not more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from deltarl.comparison.analysis import Aggregate, Analysis, Pair
from deltarl.comparison.matching import MOST_MISMATCH
from deltarl.comparison.records import Record
from deltarl.comparison.statistics import Interval

MINUS = "\N{MINUS SIGN}"
MANY_SEEDS = 10


def number(value: float | None) -> str:
    """Three significant digits or all before the point, and thousands apart."""
    if value is None or math.isnan(value):
        return "\N{EN DASH}"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    text = f"{value:,.{digits}f}" if size >= 1 or size == 0 else f"{value:.3g}"
    return text.replace("-", MINUS)


def probability(p: float | None) -> str:
    """A test's p."""
    return "\N{EN DASH}" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def interval(found: Interval) -> str:
    """`1,200 (900 to 1,500)`."""
    if found.low is None or found.high is None:
        return f"{number(found.estimate)} (no interval)"
    return f"{number(found.estimate)} ({number(found.low)} to {number(found.high)})"


def headline(analysis: Analysis) -> list[str]:
    """What the whole comparison shows, a sentence each, for the scores of the final policies."""
    sentences = []
    finals = [each for each in analysis.aggregates if each.metric == "final" and each.improvement is not None]
    if finals and len(analysis.study.tasks) > 1:
        sentences += [_over_tasks(each, analysis) for each in finals]
    for task in analysis.study.tasks:
        pairs = [pair for pair in analysis.pairs if (pair.task, pair.metric) == (task, "final")]
        sentences += [_claim(pair) for pair in pairs if pair.verdict != "no difference shown"]
        if silent := [pair for pair in pairs if pair.verdict == "no difference shown"]:
            sentences.append(_silence(task, silent))
    return sentences


def caution(analysis: Analysis) -> str:
    """How to read the headline."""
    pairs = len(analysis.study.tasks) * (len(analysis.study.arms) - 1)
    text = (
        "A difference is claimed only where its 95% interval excludes none and its test agrees: on a task Welch's, "
        f"adjusted after Holm for the {pairs} pair{'s' if pairs > 1 else ''} of the report; over all tasks the "
        "permutation test of the chance to score above, adjusted for the number of arms."
    )
    if analysis.seeds[0] < MANY_SEEDS:
        text += f" With {seeds(analysis)} an arm small differences cannot be seen: no claim is no proof of equality."
    return text


def seeds(analysis: Analysis) -> str:
    """`5 seeds`, or `3 to 5 seeds` where some have not finished."""
    low, high = analysis.seeds
    return f"{low} seed{'s' if low > 1 else ''}" if low == high else f"{low} to {high} seeds"


def covered(analysis: Analysis, name: str) -> str:
    """How often the interval of that name covers the truth at this number of seeds, in simulated samples."""
    shares = analysis.covered.get(name, {})
    told = [
        f"{share:.2f} of simulated samples {'with normal scores' if world == 'normal' else f'of which {world}'}"
        for world, share in shares.items()
        if share is not None
    ]
    return f"covers the truth in {' and '.join(told)}" if told else "has no 95% interval at so few seeds"


def warnings(analysis: Analysis) -> Iterator[str]:
    """What makes the comparison less than it seems to be."""
    study = analysis.study
    if study.missing:
        total = len(study.missing) + len(study.records)
        yield f"{len(study.missing)} of {total} runs have not finished: {_listed(study.missing)}."
    if study.unlisted:
        count = len(study.unlisted)
        yield f"{count} finished runs in the folder are not of this comparison: {_listed(study.unlisted)}."
    if absent := [task for task in study.spec.tasks if task not in study.tasks]:
        yield f"Left out, since an arm has no finished run there: {_listed(absent)}."
    if not analysis.common_seeds:
        yield "No aggregate over tasks: no seed has finished for every arm on every task."
    elif analysis.seeds[0] < analysis.seeds[1]:
        yield f"Aggregates over tasks are of the seeds that all have: {_listed(map(str, analysis.common_seeds))}."
    if analysis.not_aggregated:
        yield (
            f"No aggregate over tasks: there are no scores to normalise with for {_listed(analysis.not_aggregated)} "
            "(random_score and reference_score in its environment's file)."
        )
    if untimed := [str(record.folder) for record in study.records if not np.isfinite(record.seconds).all()]:
        yield f"Time and FLOPs are not known of {len(untimed)} runs without metrics.jsonl: {_listed(untimed)}."
    for fact, values in differing(analysis).items():
        yield f"Runs differ in {fact}: {_listed(values)}."
    if continued := [str(record.folder) for record in study.records if record.result.continued]:
        yield (
            f"{len(continued)} runs were interrupted and gone on with, and not to the last bit: {_listed(continued)}."
        )
    for arm in study.arms:
        left = {task: study.sizes.get(task, {}).get(arm, {}).get("mismatch") for task in study.tasks}
        if apart := [f"{share:+.0%} on {task}" for task, share in left.items() if share and abs(share) > MOST_MISMATCH]:
            what = "FLOPs" if study.spec.match == "flops" else study.spec.match
            listed = _listed(apart).replace("-", MINUS)
            yield f"{arm} is not matched: its {what} differ from those of {study.spec.reference} by {listed}."


def differing(analysis: Analysis) -> dict[str, list[str]]:
    """Facts of the runs' provenance that are not the same for all, with their values."""
    found: dict[str, dict[str, None]] = {}
    for record in analysis.study.records:
        for fact, value in _facts(record):
            found.setdefault(fact, {})[value] = None
    return {fact: list(values) for fact, values in found.items() if len(values) > 1}


def common(analysis: Analysis) -> dict[str, str]:
    """Facts of the runs' provenance that are the same for all."""
    apart = differing(analysis)
    return {fact: value for fact, value in _facts(analysis.study.records[0]) if fact not in apart}


def _facts(record: Record) -> Iterator[tuple[str, str]]:
    provenance = record.provenance
    yield "device", record.result.device
    for fact in ("git", "python", "processor", "cores", "threads", "gpus", "platform"):
        value = provenance.get(fact)
        if value is not None and value != []:
            yield {"git": "commit", "threads": "PyTorch's threads"}.get(fact, fact), str(value)
    packages = provenance.get("packages")
    if isinstance(packages, dict):
        for name, value in packages.items():
            yield name, str(value)


def _over_tasks(each: Aggregate, analysis: Analysis) -> str:
    assert each.improvement is not None
    low, high = each.improvement.low, each.improvement.high
    spread = "" if low is None or high is None else f" (95% interval {low:.2f} to {high:.2f})"
    over = f"Over {len(analysis.study.tasks)} tasks"
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
    seen = [f"{number(pair.detectable)} for {pair.arm}" for pair in pairs if pair.detectable is not None]
    text = f"{task}: no difference shown between {pairs[0].reference} and {_listed(pair.arm for pair in pairs)}"
    if not seen:
        return f"{text}."
    return f"{text}; smaller differences than {', '.join(seen)} would often be missed."


def _listed(items: Iterable[str], most: int = 8) -> str:
    found = list(items)
    shown = ", ".join(found[:most])
    return shown if len(found) <= most else f"{shown} and {len(found) - most} more"

"""Sentences and cells of tables: what the intervals allow to say, and not more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from deltarl.comparison.analysis import Aggregate, Analysis, Pair
from deltarl.comparison.matching import MOST_MISMATCH
from deltarl.comparison.statistics import Interval

MINUS = "\N{MINUS SIGN}"
CLAIMLESS_BELOW = 10


def number(value: float | None) -> str:
    """Three significant digits, and thousands apart."""
    if value is None or math.isnan(value):
        return "\N{EN DASH}"
    size = abs(value)
    text = f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
    return text.replace("-", MINUS)


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
        sentences += [_claim(pair, analysis) for pair in pairs if pair.verdict != "no difference shown"]
        if silent := [pair for pair in pairs if pair.verdict == "no difference shown"]:
            sentences.append(_silence(task, silent))
    return sentences


def caution(analysis: Analysis) -> str:
    """How to read the headline."""
    text = (
        "A difference is claimed only where its 95% interval excludes none and a test agrees: Welch's or the exact "
        "permutation test, adjusted for the number of pairs after Holm."
    )
    if analysis.seeds < CLAIMLESS_BELOW:
        text += (
            f" With {analysis.seeds} seeds an arm, small differences cannot be seen; absence of a claim is no proof of "
            "equality."
        )
    return text


def covered(analysis: Analysis, name: str) -> str:
    """How often the interval of that name covers the truth at this number of seeds, in simulated samples."""
    shares = analysis.covered.get(name, {})
    told = [
        f"{share:.2f} of simulated samples that are {'normal' if world == 'normal' else f'such that {world}'}"
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
    if absent := [task for task in study.spec.tasks if task not in study.tasks]:
        yield f"Left out, since an arm has no finished run there: {_listed(absent)}."
    if analysis.not_aggregated:
        yield (
            f"No aggregate over tasks: there are no scores to normalise with for {_listed(analysis.not_aggregated)} "
            "(random_score and reference_score in its environment's file)."
        )
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
        for fact, value in _facts(record.provenance):
            found.setdefault(fact, {})[value] = None
    return {fact: list(values) for fact, values in found.items() if len(values) > 1}


def common(analysis: Analysis) -> dict[str, str]:
    """Facts of the runs' provenance that are the same for all."""
    apart = differing(analysis)
    first = analysis.study.records[0].provenance
    return {fact: value for fact, value in _facts(first) if fact not in apart}


def _facts(provenance: dict[str, object]) -> Iterator[tuple[str, str]]:
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


def _claim(pair: Pair, analysis: Analysis) -> str:
    difference = pair.difference
    return (
        f"{pair.task}: {pair.arm} scores {pair.verdict} than {pair.reference}, by {number(abs(difference.estimate))} "
        f"(95% interval of the difference {number(difference.low)} to {number(difference.high)}; adjusted p "
        f"{min(pair.adjusted):.3f}; {analysis.seeds} seeds)."
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

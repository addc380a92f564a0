"""Texts about comparisons in README and docs, from the committed results."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import fisher_exact

from deltarl.comparison.analysis import Analysis, analyse
from deltarl.comparison.power import detectable_effect
from deltarl.comparison.records import read_study
from deltarl.comparison.statistics import mean
from deltarl.comparison.tables import costs
from deltarl.comparison.words import headline, interval, number, seeds

ROOT = Path(__file__).resolve().parent.parent
COMPARED = ROOT / "results" / "compare"
STUDY = COMPARED / "ppo_small"
BOUNDED = COMPARED / "ppo_target_kl"
FAR = 2_000  # Hopper's returns after 100,000 steps are either well below or well above
LEAN = COMPARED / "lean", COMPARED / "lean_more"
DOUBT = ROOT / "results" / "lean_doubt.jsonl"
SIZES = (
    "plain, residual, delta and write_only have the same number of parameters; mlp is Stable-Baselines3's own network, "
    "which is smaller."
)
OLD_BLOCK = (
    "The Delta block of this study has a single head, and its value starts at the size of a residual block's output. "
    "It erases little ([how little](mechanism.md#where-blocks-start)), so comparing delta with residual says nothing "
    "about erasing here, and delta and write_only are nearly the same network."
)
INTERVALS = {
    "mean": "mean, Student's t",
    "median": "median, order statistics",
    "iqm": "IQM, Tukey and McLaughlin",
    "difference": "difference, Welch",
    "hedges_g": "Hedges' g, noncentral t",
    "improvement": "chance to score above, over {tasks} tasks, Newcombe",
    "contrast": "contrast over {tasks} tasks, Welch",
    "iqm over tasks": "IQM over {tasks} tasks, stratified bootstrap, widened",
    "median over tasks": "median over {tasks} tasks, the same",
    "mean over tasks": "mean over {tasks} tasks, the same",
    "percentile": "IQM over {tasks} tasks, stratified bootstrap, as is usual",
}


def coverage_table() -> str:
    """Coverage of nominal 95% intervals."""
    found = json.loads((ROOT / "results" / "coverage.json").read_text())
    worlds = list(found["covered"]["mean"])
    seeds = list(found["covered"]["mean"][worlds[0]])
    columns = [f"{world}, {n} seeds" for world in worlds for n in seeds]
    lines = [f"| 95% interval of the | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name, label in INTERVALS.items():
        shares = [found["covered"][name][world][n] for world in worlds for n in seeds]
        told = ["none" if share is None else f"{share:.2f}" for share in shares]
        lines.append(f"| {label.format(tasks=found['tasks'])} | {' | '.join(told)} |")
    return "\n".join([*lines, "", f"Shares of {found['simulations']:,} simulated samples."])


def seeds_needed() -> str:
    """Seeds for a power of 0.8."""

    def needed(effect: float) -> int:
        return next(n for n in range(2, 1_000) if (detectable_effect((1, 1), (n, n)) or math.inf) <= effect)

    return (
        "Few seeds can only show large differences: Welch's test detects a true difference of two standard deviations "
        f"four times in five with {needed(2)} seeds per arm, of one with {needed(1)}, and of a half with {needed(0.5)}."
    )


def study_text() -> str:
    """What the first study shows, its scores and its costs."""
    analysis = analyse(read_study(STUDY))
    study = analysis.study
    spec = study.records[0].spec
    return "\n".join(
        [
            f"`deltarl compare {study.spec.name}`: {spec.agent.algorithm.upper()}, {spec.total_timesteps:,} steps, "
            f"{seeds(analysis)} per arm, each run on one thread. {SIZES}",
            "",
            *_shown(analysis),
            "",
            OLD_BLOCK,
            "",
            *_cost_table(analysis),
        ]
    )


def bounded_text() -> str:
    """The same arms with updates that end once the policy has moved a given distance."""
    first, second = analyse(read_study(STUDY)), analyse(read_study(BOUNDED))
    limit = getattr(second.study.records[0].spec.agent, "target_kl", None)
    moved = ", ".join(f"{arm} {_divergence(first, arm):.3f}" for arm in first.study.arms)
    held = ", ".join(f"{arm} {_divergence(second, arm):.3f}" for arm in second.study.arms)
    return "\n".join(
        [
            "The hyperparameters of that study are close to Stable-Baselines3's defaults and the same for all arms. "
            "With them, the torsos' policies move further in each update than the MLP's: the mean KL divergence "
            f"between the policies before and after an update, as PPO estimates it, was {moved} over all runs. The "
            "same arms were therefore trained with the quickstart's hyperparameters, whose updates end early "
            f"(`target_kl: {limit}`) and whose batches are larger, on its only task: `deltarl compare "
            f"{second.study.spec.name}`, {seeds(second)} per arm. There the divergence was {held}.",
            "",
            *_shown(second),
        ]
    )


def first_doubt() -> str:
    """Runs on Hopper that got far, in the comparisons that raised the doubt."""
    studies = [read_study(folder) for folder in LEAN]
    arms = studies[0].arms
    finals = [[record.final for study in studies for record in study.of("hopper_ppo", arm)] for arm in arms]
    hits = [sum(each > FAR for each in found) for found in finals]
    p = fisher_exact([[hit, len(found) - hit] for hit, found in zip(hits, finals, strict=True)]).pvalue
    told = " and ".join(f"{hit} of {len(found)}" for hit, found in zip(hits, finals, strict=True))
    return (
        f"In two small comparisons (`results/compare/lean` and `lean_more`), {told} runs of PPO on Hopper ended above "
        f"{FAR:,} with lean steps and with Stable-Baselines3's (Fisher's exact test: p {p:.2f})."
    )


def doubt_table() -> str:
    """What came out of the experiment on lean steps."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from lean_doubt import ABOVE, ARMS, read, verdict  # noqa: PLC0415 (the scripts are no package)

    rows = read(DOUBT)
    tests = verdict(rows).splitlines()[len(ARMS) :]
    lines = [f"| steps | runs | ended above {ABOVE:,.0f} | mean return | median |", "|---|---|---|---|---|"]
    for arm, label in zip(ARMS, ("lean", "Stable-Baselines3's", "Stable-Baselines3's, perturbed"), strict=True):
        found = np.array([row["return"] for row in rows if row["arm"] == arm])
        hits = int((found > ABOVE).sum())
        lines.append(f"| {label} | {len(found)} | {hits} | {interval(mean(found))} | {np.median(found):,.0f} |")
    return "\n".join([*lines, "", *(f"- {test.replace('sb3_disturbed', 'perturbed')}" for test in tests)])


def _shown(analysis: Analysis) -> list[str]:
    """The claims that the intervals support, and the means with their intervals."""
    study = analysis.study
    lines = [
        *(f"- {sentence}" for sentence in headline(analysis)),
        "",
        "Mean return of the final policies, with 95% intervals:",
        "",
        f"| task | {' | '.join(study.arms)} |",
        f"|---|{'---|' * len(study.arms)}",
    ]
    for task in study.tasks:
        means = [interval(analysis.summary(task, arm).mean) for arm in study.arms]
        lines.append(f"| {task} | {' | '.join(means)} |")
    return lines


def _divergence(analysis: Analysis, arm: str) -> float:
    """Mean of PPO's approximate KL divergence over the stored rows of all runs of an arm."""
    found = []
    for record in analysis.study.records:
        if record.arm == arm:
            rows = map(json.loads, (record.folder / "metrics.jsonl").read_text().splitlines())
            found += [row["train/approx_kl"] for row in rows if row.get("train/approx_kl") is not None]
    return float(np.mean(found))


def _cost_table(analysis: Analysis) -> list[str]:
    rows = list(costs(analysis.study))
    reference = analysis.study.spec.reference
    lines = [
        f"| task | arm | parameters | training time over {reference}'s | memory of a run, MiB |",
        "|---|---|---|---|---|",
    ]
    return lines + [
        f"| {row['task']} | {row['arm']} | {row['parameters']:,} | {number(row['over_reference'])} "
        f"| {number(row['peak_memory_mib'])} |"
        for row in rows
    ]


def readme_text() -> str:
    """The result in one sentence, its limits and its figure, for the README."""
    analysis = analyse(read_study(STUDY))
    study = analysis.study
    spec = study.records[0].spec
    over = [each for each in analysis.aggregates if each.metric == study.spec.metric and each.verdict is not None]
    silent = [each.arm for each in over if each.verdict == "no difference shown"]
    claims = [f"{each.arm} scores {each.verdict}" for each in over if each.arm not in silent]
    if silent:
        claims.append(f"no difference is shown for {listed(silent, 'or')}")
    return "\n".join(
        [
            f"{spec.agent.algorithm.upper()} on {listed(study.tasks, 'and')} ({spec.total_timesteps:,} steps, "
            f"{seeds(analysis)} per arm): compared with {analysis.reference} over these {len(study.tasks)} tasks, "
            f"{', '.join(claims)}.",
            "",
            "![Learning curves of all arms on each task, means with 95% intervals](docs/figures/comparison.png)",
            "",
            "The Delta block of this study has one head and erases little ([how "
            "little](docs/mechanism.md#where-blocks-start)), so this says nothing about erasing. [The first "
            "study](docs/compare.md#the-first-study) has all intervals, and the same arms with bounded updates.",
        ]
    )


def listed(names: Sequence[str], last: str) -> str:
    """`a, b and c`, with the last word given."""
    *first, final = names
    return f"{', '.join(first)} {last} {final}" if first else final

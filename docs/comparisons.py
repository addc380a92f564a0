"""Texts of README and docs about comparisons, from the committed results."""

from __future__ import annotations

import json
from pathlib import Path

from deltarl.comparison.analysis import Analysis, analyse
from deltarl.comparison.records import read_study
from deltarl.comparison.statistics import detectable_effect
from deltarl.comparison.tables import costs
from deltarl.comparison.words import headline, interval, number, seeds

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "results" / "compare" / "ppo_small"
QUICKSTART = ROOT / "results" / "learning" / "quickstart"
INTERVALS = {
    "mean": "mean, Student's t",
    "median": "median, order statistics",
    "iqm": "IQM, Tukey and McLaughlin",
    "difference": "difference, Welch",
    "improvement": "chance to score above, over {tasks} tasks, Newcombe",
    "aggregate": "IQM over {tasks} tasks, stratified bootstrap, widened",
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
        return next(n for n in range(2, 1_000) if detectable_effect(n, n) <= effect)

    return (
        "Few seeds show large differences alone: a t test shows a true difference of two standard deviations four "
        f"times in five with {needed(2)} seeds an arm, of one with {needed(1)}, of a half with {needed(0.5)}."
    )


def study_of() -> Analysis:
    """The committed study, analysed."""
    return analyse(read_study(STUDY))


def study_text() -> str:
    """What the first study shows, its scores and its costs."""
    analysis = study_of()
    study = analysis.study
    spec = study.records[0].spec
    lines = [
        f"{spec.agent.algorithm.upper()}, {spec.total_timesteps:,} steps, {seeds(analysis)} an arm, each run on "
        f"one thread: `deltarl compare {study.spec.name}`. plain, residual, delta and write_only have the same number "
        "of parameters; mlp is Stable-Baselines3's own network, and smaller. The hyperparameters are near "
        "Stable-Baselines3's defaults, which were made for such an MLP; none were tuned for an arm, and others give "
        f"another picture: {_quickstart()}",
        "",
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
    lines += ["", *_cost_table(analysis)]
    return "\n".join(lines)


def _quickstart() -> str:
    """Final returns of the quickstart, whose updates end early, on one of the study's tasks."""
    returns: dict[str, list[str]] = {}
    for path in sorted(QUICKSTART.glob("*/seed-*/result.json")):
        score = json.loads(path.read_text())["final_return_mean"]
        returns.setdefault(path.parent.parent.name, []).append(number(score))
    told = "; ".join(f"{arm} {', '.join(scores)}" for arm, scores in returns.items())
    return (
        "on Hopper with the quickstart's `target_kl: 0.02` and larger batches, as many steps, two or three seeds, the "
        f"returns were {told} ([does it learn?](learning.md))."
    )


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
    """The result in a few lines, for the README."""
    analysis = study_of()
    study = analysis.study
    over = [sentence for sentence in headline(analysis) if sentence.startswith("Over ")]
    spec = study.records[0].spec
    return "\n".join(
        [
            f"{spec.agent.algorithm.upper()} on {', '.join(study.tasks)}, {spec.total_timesteps:,} steps, "
            f"{seeds(analysis)} an arm, mean and 95% interval. plain, residual, delta and write_only have equal "
            "numbers of parameters; mlp is Stable-Baselines3's own network:",
            "",
            "![Learning curves of all arms on each task](results/compare/ppo_small/report/figures/learning.png)",
            "",
            *(f"- {sentence}" for sentence in over),
        ]
    )

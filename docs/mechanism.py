"""The tables of docs/mechanism.md, from results/."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from deltarl.comparison.contrasts import contrasts
from deltarl.comparison.erasure import worths
from deltarl.comparison.records import read_study
from deltarl.comparison.statistics import difference
from deltarl.gates import read_record

ROOT = Path(__file__).resolve().parent.parent
COMPARED = ROOT / "results" / "compare"
PROBES = ("stationary", "moving")
CONTRASTS = {"residual": {"erasing": 1, "residual": -1}, "one_head": {"erasing": 1, "one_head": -1}}
METRICS = {"final": "final", "area": "mean while training"}


def starts_table() -> str:
    """Delta blocks of width 64 at initialisation."""
    found = _read("torso_start")
    rows = [
        f"| {name} | {_list(block['value'], '.1f')} | {_list(block['readout'], '.2f')} "
        f"| {_list(block['erase_share'], '.0%')} |"
        for name, block in found["blocks"].items()
    ]
    apart = ", ".join(f"{share:.0%} ({name})" for name, share in found["channels"].items())
    return "\n".join(
        [
            "| two blocks of width 64, observations of Hopper | \\|v\\| | \\|k^T X\\| | erase share |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Share of the norm of a state with four channels that lies between them behind the last block: {apart}.",
        ]
    )


def steps_table() -> str:
    """How far PPO's first step moves the policy."""
    found = _read("torso_start")["steps"]
    own = np.mean(found["mlp"]["kl"])
    rows = [
        f"| {name} | {np.mean(step['l1']):.1f} | {np.mean(step['kl']):.1e} | {np.mean(step['kl']) / own:.1f} |"
        for name, step in found.items()
    ]
    return "\n".join(
        [
            f"| actor and critic, {len(found['mlp']['kl'])} seeds | L1 norm of the features | KL of the first step "
            "| times the mlp's |",
            "|---|---|---|---|",
            *rows,
        ]
    )


def probes_table() -> str:
    """Errors of each arm that was run on all tasks, compared with residual and twin, and its erase share."""
    cells = _read("mechanism")["cells"]
    lines: list[str] = []
    for depth in sorted({int(key.split("/")[0].removeprefix("depth ")) for key in cells}):
        counts = Counter(key.split("/")[3] for key in cells if key.startswith(f"depth {depth}/"))
        arms = [arm for arm, count in counts.items() if count == max(counts.values())]  # those with all tasks
        if "residual" not in arms:
            continue
        found = {(arm, probe): _cells(cells, depth, arm, probe) for arm in arms for probe in PROBES}
        lines += [
            f"{depth} blocks:",
            "",
            "| arm | share, stationary | moving | stationary, to residual | to its twin | moving, to residual "
            "| to its twin | erasure off, stationary | moving |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for arm in arms:
            twin = f"{arm}, write-only"
            shares = [_share(found[arm, probe]) for probe in PROBES]
            errors = [
                _difference(found, arm, other, probe)
                for probe in PROBES
                for other in ("residual", twin if twin in arms else None)
            ]
            off = [_off(found[arm, probe]) for probe in PROBES]
            lines.append(f"| {' | '.join([arm, *shares, *errors, *off])} |")
        lines.append("")
    return "\n".join(
        [
            *lines,
            "Errors: 100 · ln(ratio), below 0 where the arm's error is the lower one, with 95% intervals over five "
            "seeds. Shares: of the block that erases least, after training. Erasure off: 100 · ln of the error at the "
            "end without the erasure over that with it.",
        ]
    )


def interventions_table() -> str:
    """Returns of each trained policy with its blocks changed, minus those of the unchanged policy."""
    found = _read("interventions")
    first = next(iter(next(iter(found.values())).values()))["returns"]
    changes = [name for name in first if name != "untouched"]
    rows = []
    for block, seeds in found.items():
        for seed, run in seeds.items():
            untouched = np.array(run["returns"]["untouched"])
            effects = [_paired(np.array(run["returns"][name]) - untouched) for name in changes]
            shares = _list(run["erase_share"], ".2f")
            cells = [block, seed.removeprefix("seed-"), shares, f"{untouched.mean():,.0f}", *effects]
            rows.append(f"| {' | '.join(cells)} |")
    heads = ["block", "seed", "erase share, block by block", "untouched", *(f"`{name}`" for name in changes)]
    return "\n".join(
        [
            f"| {' | '.join(heads)} |",
            f"|{'---|' * len(heads)}",
            *rows,
            "",
            f"Mean returns over {len(first['untouched'])} episodes, and differences from them on the same episodes, "
            "with 95% intervals (Student) over episodes. Shares are of the policy, in the first of them.",
        ]
    )


def _paired(each: NDArray[np.float64]) -> str:
    half = stats.t.ppf(0.975, len(each) - 1) * stats.sem(each)
    return f"{each.mean():+,.0f} ± {half:,.0f}"


def returns_table() -> str:
    """Returns of the arms that the rule compares, and the effect of their erasing."""
    study = read_study(COMPARED / "mechanism_ppo")
    spec = study.spec.model_copy(update={"contrasts": CONTRASTS, "primary": ()})
    found, _ = contrasts(replace(study, spec=spec), ("final", "area"))
    tasks = list(study.tasks)
    lines = [
        f"| erasing less | return | {' | '.join(tasks)} | all, in hundredths of the reference score |",
        f"|---|---|{'---|' * len(tasks)}---|",
        *(
            f"| {each.name} | {METRICS[each.metric]} | "
            + " | ".join(_ends(each.by_task[task].interval(), 1) for task in tasks)
            + f" | {_ends(each.interval, 100)} |"
            for each in found
        ),
        "",
        f"| arm | {' | '.join(tasks)} | erase share, policy | value | erasing off |",
        f"|---|{'---|' * len(tasks)}---|---|---|",
    ]
    worth = {(each.arm, each.task): each.difference for each in worths(study)}
    for arm in study.arms:
        means = [f"{np.mean([run.final for run in study.of(task, arm)]):,.0f}" for task in tasks]
        gates = [read_record(run.folder / "gates.npz") for task in tasks for run in study.of(task, arm)]
        cells = ["—", "—", "—"]
        if "gates/policy/erase_share" in gates[0]:
            cells = [_share_by_block(gates, net) for net in ("policy", "value")]
            cells.append(", ".join("—" if (d := worth[arm, task]) is None else _ends(d, 1) for task in tasks))
        lines.append(f"| {arm} | {' | '.join([*means, *cells])} |")
    seeds = sorted({len(study.of(task, arm)) for task in tasks for arm in study.arms})
    return "\n".join(
        [
            *lines,
            "",
            f"{' to '.join(map(str, seeds))} seeds, PPO, 300,000 steps; 95% intervals: Welch's, and for erasing off "
            "Student's over the seeds' differences, task by task. Shares are means over tasks and seeds, by block, "
            "after training. The reference score is the environment's, less the random policy's.",
        ]
    )


def critics_table() -> str:
    """Final returns of the one seed of SAC that was run with each arm in the critics."""
    study = read_study(COMPARED / "mechanism_sac")
    lines = [f"| critics | {' | '.join(study.tasks)} |", f"|---|{'---|' * len(study.tasks)}"]
    for arm in study.arms:
        finals = [" to ".join(f"{run.final:,.0f}" for run in study.of(task, arm)) for task in study.tasks]
        lines.append(f"| {' | '.join([arm, *finals])} |")
    return "\n".join([*lines, "", "Final returns, SAC, 60,000 steps, one seed."])


def rates_table() -> str:
    """Returns with the adapted and with the fixed learning rate, on the tasks that both comparisons have."""
    adaptive, fixed = (read_study(COMPARED / name) for name in ("mechanism_ppo", "ppo_small"))
    lines = ["| task | block | adapted | fixed | adapted less fixed |", "|---|---|---|---|---|"]
    for task in adaptive.tasks:
        for arm, other in (("residual", "residual"), ("one_head", "delta")):
            if task in fixed.tasks:
                ours, theirs = (
                    np.array([run.final for run in study.of(task, name)])
                    for study, name in ((adaptive, arm), (fixed, other))
                )
                means = f"{ours.mean():,.0f} | {theirs.mean():,.0f}"
                lines.append(f"| {task} | {arm} | {means} | {_ends(difference(ours, theirs), 1)} |")
    return "\n".join([*lines, "", "Final returns; Welch's 95% intervals, 10 and 5 seeds."])


def _ends(found: Any, unit: float) -> str:
    if found.low is None:
        return f"{unit * found.estimate:+,.0f}"
    return f"{unit * found.estimate:+,.0f} ({unit * found.low:+,.0f} to {unit * found.high:+,.0f})"


def _share_by_block(gates: list[dict[str, Any]], net: str) -> str:
    return _list(list(np.mean([record[f"gates/{net}/erase_share"][-1] for record in gates], axis=0)), ".2f")


def speed_table() -> str:
    """The cost of training steps with blocks that erase, compared with the residual block."""
    found = _read("erasing_speed")
    arms = list(next(iter(found["cases"].values())))
    rows = [
        f"| {arm} | "
        + " | ".join(
            f"{case[arm]['ms']:.3g} | {case[arm]['to_residual']['median']:.2f} "
            f"({case[arm]['to_residual']['low']:.2f} to {case[arm]['to_residual']['high']:.2f})"
            for case in found["cases"].values()
        )
        + " |"
        for arm in arms
    ]
    heads = " | ".join(f"{name.upper()}, ms | to the residual block" for name in found["cases"])
    return "\n".join([f"| block | {heads} |", f"|---|{'---|---|' * len(found['cases'])}", *rows])


def _cells(cells: Mapping[str, Any], depth: int, arm: str, probe: str) -> list[dict[str, Any]]:
    """The cells of each task, in the order of the file."""
    tasks = dict.fromkeys(key.split("/")[1] for key in cells)
    return [cells[f"depth {depth}/{task}/{probe}/{arm}"] for task in tasks]


def _difference(found: Mapping[tuple[str, str], Any], arm: str, other: str | None, probe: str) -> str:
    if other is None or other == arm:
        return "—"
    ours, theirs = (np.array([cell["errors"] for cell in found[name, probe]]) for name in (arm, other))
    return _interval((100 * np.log(ours / theirs)).mean(0))


def _off(found: list[dict[str, Any]]) -> str:
    if "share_trained" not in found[0]:
        return "—"
    without, with_it = (
        np.array([cell[key] for cell in found]) for key in ("errors_with_erasure_off", "errors_at_the_end")
    )
    return _interval((100 * np.log(without / with_it)).mean(0))


def _interval(each: NDArray[np.float64]) -> str:
    half = stats.t.ppf(0.975, len(each) - 1) * stats.sem(each)
    return f"{each.mean():+.1f} ± {half:.1f}"


def _share(found: list[dict[str, Any]]) -> str:
    shares = [min(cell["share_trained"]) for cell in found if "share_trained" in cell]
    return f"{min(shares):.2f}" if shares else "—"


def _list(values: list[float], form: str) -> str:
    return ", ".join(f"{value:{form}}" for value in values)


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / "results" / f"{name}.json").read_text())
    return content

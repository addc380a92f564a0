"""Tables of measurements: speed, and the costs of checkpoints, gates and seals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from deltarl.bench.clock import Ratio
from deltarl.bench.measure import ratios
from deltarl.bench.tables import scoreboard, steps_table, where
from deltarl.gates import read_record

ROOT = Path(__file__).resolve().parent.parent


def checkpoint_cost_table() -> str:
    """First and later checkpoints compared with SB3's own save, with a full replay buffer."""
    found = json.loads((ROOT / "results" / "checkpoint_cost.json").read_text())
    names = {"deltarl": "checkpoint", "sb3": "`save` and `save_replay_buffer`"}
    rows = []
    for save, name in names.items():
        for when in ("first", "later"):
            those = [row for row in found["rows"] if (row["save"], row["when"]) == (save, when)]
            seconds, mib = (np.median([row[key] for row in those]) for key in ("seconds", "mib"))
            memory = max(row["memory_mib"] for row in those)
            rows.append(f"| {name}, {when} | {seconds:.1f} | {mib:,.0f} | {memory:.0f} |")
    cheaper = found["later_times_cheaper_than_sb3"]["seconds"]
    transitions, later = re.findall(r"\d+", found["command"])[:2]
    return "\n".join(
        [
            f"SAC on Humanoid-v5 with a full buffer of {int(transitions):,} transitions "
            f"({found['buffer_mib']:,.0f} MiB), and again {int(later):,} steps later, compared with Stable-Baselines3 "
            "in one process (`.venv/bin/python benchmarks/checkpoint_cost.py`; medians, and the maximum for memory; a "
            "checkpoint waits for the disk, Stable-Baselines3 does not):",
            "",
            "| save | seconds | MiB written | additional MiB of memory |",
            "|---|---|---|---|",
            *rows,
            "",
            f"A later checkpoint was {cheaper['median']} times cheaper ({min(cheaper['each'])} to "
            f"{max(cheaper['each'])} in {len(cheaper['each'])} repeats).",
        ]
    )


def gates_seen_table() -> str:
    """Mean beta and erase share of each block at the end of training, on current data and on the fixed batch."""
    record = read_record(ROOT / "results" / "gates" / "hopper_ppo" / "gates.npz")
    rows = []
    for net in ("policy", "value"):
        columns = [
            record[f"{source}/{net}/{name}"][-1]
            for source in ("gates", "gates_probe")
            for name in ("beta_mean", "erase_share")
        ]
        rows += [
            f"| {net} | {block} | {' | '.join(f'{value:.2f}' for value in values)} |"
            for block, values in enumerate(zip(*columns, strict=True))
        ]
    at = f"mean beta at step {record['steps'][-1]:,}, rollout"
    head = f"| network | block | {at} | erase share | mean beta, fixed batch | erase share |"
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])


def gate_cost_table() -> str:
    """Share of the training time that measuring takes."""
    found = json.loads((ROOT / "results" / "gate_cost.json").read_text())
    rows = [
        f"| {name} | {case['steps']:,} | {case['every']:,} | {case['seconds']:,.0f} | {case['gates_seconds']:.2f} "
        f"| {case['share']:.2%} |"
        for name, case in found["cases"].items()
    ]
    return "\n".join(
        [
            "`.venv/bin/python benchmarks/gate_cost.py`, one thread, CPU seconds, on a machine doing other work as "
            "well:",
            "",
            "| training | steps | every | seconds | spent measuring | share |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )


def sink_cost_table() -> str:
    """Share of the training time that each sink takes."""
    found = json.loads((ROOT / "results" / "sink_cost.json").read_text())
    titles = {"tensorboard": "`tensorboard`", "csv": "`csv`", "json": "metrics.jsonl"}
    rows = [
        f"| {case_name}, {case['steps']:,} steps, {case['seconds']:,.0f} s | {titles.get(name, f'`{name}`')} "
        f"| {sink['training_seconds']:.2f} | {sink['thread_seconds']:.2f} | {sink['share']:.2%} "
        f"| {sink['start_seconds']:.1f} |"
        for case_name, case in found["cases"].items()
        for name, sink in case["sinks"].items()
    ]
    return "\n".join(
        [
            "`.venv/bin/python benchmarks/sink_cost.py`, one thread, CPU seconds, on a busy machine:",
            "",
            "| training | sink | in the training's thread | in its own | share | once, to connect |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )


def evaluation_cost_table() -> str:
    """Share of a run's time that its evaluations take at the default cadence."""
    found = json.loads((ROOT / "results" / "evaluation_cost.json").read_text())
    rows = [
        f"| {name} | {case['budget']:,} | {case['evaluations_of_budget']} of {case['episodes']} episodes "
        f"| {case['evaluation_seconds'] / case['evaluations']:.0f} | {case['share_of_budget']:.1%} |"
        for name, case in found["cases"].items()
    ]
    return "\n".join(
        [
            "`.venv/bin/python benchmarks/evaluation_cost.py`, one thread, CPU seconds, on a busy machine:",
            "",
            "| training | steps | evaluations | seconds each | share of the run |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


def seal_table() -> str:
    """The cost of checking that a lean step still equals Stable-Baselines3's."""
    found = json.loads((ROOT / "results" / "seal_cost.json").read_text())
    rows = []
    for name, case in found["cases"].items():
        shares = " | ".join(f"{middle:.1%} ({low:.1%} to {high:.1%})" for low, middle, high in case["share"].values())
        rows.append(f"| {name} | {case['step_ms']:,.2f} | {shares} |")
    return "\n".join(
        [
            f"`.venv/bin/python benchmarks/seal_cost.py`, one thread, interleaved, {found['rounds']} rounds: the "
            "share of a training step spent on the checks, medians with quartiles. The machine was doing other work "
            "as well, so shares of a few percent, including negative ones, are noise.",
            "",
            "| training | step, ms | the libraries' code only | an environment of yours | a callback of yours |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


def latency_table() -> str:
    """The time that one action takes, exported and with Stable-Baselines3's `predict`."""
    found = json.loads((ROOT / "results" / "onnx_latency.json").read_text())
    ways = {"module": "`policy_module`", "torchscript": "TorchScript", "onnx": "onnxruntime"}
    rows = [
        f"| {name} | {case['predict']['microseconds']:,.0f} | "
        + " | ".join(f"{case[way]['microseconds']:,.0f} | {Ratio(**case[way]['times_faster'])}" for way in ways)
        + " |"
        for name, case in found["cases"].items()
    ]
    columns = " | ".join(f"{name} | times faster" for name in ways.values())
    return "\n".join(
        [
            f"`.venv/bin/python benchmarks/onnx_latency.py`, one thread of {found['provenance']['processor']}, all "
            f"ways in turns, {found['rounds']} rounds: microseconds (of CPU time) from one raw observation to one "
            "action, medians, and how many times faster than `predict` with `normalize_obs`, quartiles in brackets. "
            "The machine was doing other work as well.",
            "",
            f"| policy | `predict` | {columns} |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
        ]
    )


def speed_table() -> str:
    """Whole training steps compared with Stable-Baselines3's."""
    report = json.loads((ROOT / "benchmarks" / "bench.json").read_text())
    return f"{where(report)}\n\n{steps_table(report)}"


def speed_in_short() -> str:
    """The ratios of SAC and PPO, for the README."""
    report = json.loads((ROOT / "benchmarks" / "bench.json").read_text())
    lines = [
        "| training steps per second, times Stable-Baselines3's | MLP | residual | Delta |",
        "|---|---|---|---|",
    ]
    found = {(row["algorithm"], row["network"]): row for row in ratios(report) if row["what"] == "sb3 / deltarl"}
    for algorithm in ("sac", "ppo"):
        told = [Ratio.of_row(found[algorithm, network]) for network in ("mlp", "residual", "delta")]
        lines.append(f"| {algorithm.upper()} | {' | '.join(map(str, told))} |")
    machine = report["machine"]
    return "\n".join(
        [*lines, "", f"HalfCheetah, {machine['threads']} thread(s) of {machine['processor']}; quartiles in brackets."]
    )


def launch_table() -> str:
    """What launching a job costs, on this machine and on a cluster."""
    found = json.loads((ROOT / "results" / "launch_cost.json").read_text())
    names = {"local": "processes of one machine", "ray": "a Ray cluster of two nodes"}
    rows = [f"| {name} | {found['median'][key]:.2f} |" for key, name in names.items()]
    return "\n".join(
        [
            f"| {found['jobs']} jobs, {found['at_once']} at a time | seconds per job |",
            "|---|---|",
            *rows,
            "",
            f"On {found['processor']}, {found['cores']} cores, beyond the jobs' own {found['seconds']:.0f} seconds; "
            f"medians of {len(found['seconds_per_job']['ray'])} rounds (`benchmarks/launch_cost.py`).",
        ]
    )


def compiled_table() -> str:
    """The gain of compiling an update, and the number of updates after which it pays off."""
    report = json.loads((ROOT / "results" / "compiled.json").read_text())
    rows = []
    for row in report["rows"]:
        eager, compiled = (float(np.median(row[way])) for way in ("eager", "compiled"))
        saved = eager - compiled
        even = f"{row['warm_up'] / saved:,.0f}" if saved > 0 else "never"
        ratio = Ratio.of(row["eager"], row["compiled"])
        times = f"{1_000 * eager:.3g} | {1_000 * compiled:.3g} | {ratio} | {row['warm_up']:.0f} | {even}"
        rows.append(f"| {row['network']} | {times} |")
    return "\n".join(
        [
            "`.venv/bin/python benchmarks/compiled.py`: a SAC update on one thread, medians with quartiles.",
            "",
            "| network | eager, ms | compiled, ms | times the speed | s to compile | updates to break even |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )


def bench_tables() -> str:
    """The whole scoreboard."""
    return scoreboard(json.loads((ROOT / "benchmarks" / "bench.json").read_text()))

"""The scoreboard as Markdown, from the measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deltarl.bench.cases import NETWORKS
from deltarl.bench.clock import Ratio
from deltarl.bench.measure import ratios


def where(report: dict[str, Any]) -> str:
    """Machine, threads, versions and rounds in a sentence."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    place = machine["gpu"] or machine["processor"]
    return (
        f"Measured on {place}, {machine['threads']} thread(s), with {versions}; medians of {report['rounds']} rounds, "
        "quartiles in brackets."
    )


def scoreboard(report: dict[str, Any]) -> str:
    """All tables, with the machine and settings that they were measured with."""
    return "\n\n".join(
        [
            where(report),
            "### Whole training steps",
            steps_table(report),
            "### Delta compared with residual blocks",
            _delta(report),
            *(["### Numbers of threads", _threads(report)] if report["threads"] else []),
            "### Updates compared with their matrix products",
            _updates(report),
            "### Environments compared with their physics",
            _envs(report),
            "### The first step",
            _starts(report),
        ]
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _milliseconds(values: Sequence[float]) -> str:
    return f"{1_000 * float(np.median(values)):.3g}"


def steps_table(report: dict[str, Any]) -> str:
    """Milliseconds per step of one environment, all costs included, and ratios of the same rounds."""
    times = {(row["algorithm"], row["network"], row["way"]): row["seconds"] for row in report["steps"]}
    found = {(row["what"], row["algorithm"], row["network"]): row for row in ratios(report)}
    with_sbx = any(way == "sbx" for _, _, way in times)
    rows = []
    for algorithm, network in dict.fromkeys((algorithm, network) for algorithm, network, _ in times):
        cells = [algorithm, network]
        for way in ("sb3", "deltarl", *(["sbx"] if with_sbx else [])):
            # The last network has the FLOPs of the MLP and is compared with it.
            named = "mlp" if way != "deltarl" and network == NETWORKS[-1] else network
            each = times.get((algorithm, named, way))
            told = "" if each is None else _milliseconds(each)
            cells.append(f"mlp: {told}" if told and named != network else told)
        for what in ("sb3 / deltarl", *(["sbx / deltarl"] if with_sbx else [])):
            cells.append(_ratio(found.get((what, algorithm, network))))
        rows.append(cells)
    sbx = (["SBX, ms"], ["times SBX's speed"]) if with_sbx else ([], [])
    header = ["algorithm", "network", "Stable-Baselines3, ms", "deltarl, ms", *sbx[0], "times the speed", *sbx[1]]
    return _table(header, rows)


def _ratio(row: dict[str, Any] | None) -> str:
    return "" if row is None else str(Ratio.of_row(row))


def _delta(report: dict[str, Any]) -> str:
    rows = [[row["algorithm"], _ratio(row)] for row in ratios(report) if row["what"] == "delta / residual"]
    return _table(["algorithm", "time of a whole step, delta over residual"], rows)


def _threads(report: dict[str, Any]) -> str:
    times = {(row["algorithm"], row["network"], row["threads"]): row["seconds"] for row in report["threads"]}
    counts = sorted({row["threads"] for row in report["threads"]})
    rows = []
    for algorithm, network in dict.fromkeys((algorithm, network) for algorithm, network, _ in times):
        one = times[algorithm, network, 1]
        cells = [algorithm, network, _milliseconds(one)]
        for count in counts[1:]:
            each = times[algorithm, network, count]
            cells += [_milliseconds(each), str(Ratio.of(one, each))]
        rows.append(cells)
    header = ["algorithm", "network", "deltarl on 1 thread, ms"]
    for count in counts[1:]:
        header += [f"on {count}, ms", "times the speed"]
    return _table(header, rows)


def _updates(report: dict[str, Any]) -> str:
    times = {(row["algorithm"], row["network"], row["way"], row["what"]): row["seconds"] for row in report["updates"]}
    rows = []
    for algorithm, network in dict.fromkeys((key[0], key[1]) for key in times):
        floor = times[algorithm, network, "deltarl", "floor"]
        cells = [algorithm, network, _milliseconds(floor)]
        for way in ("sb3", "deltarl"):
            each = times.get((algorithm, network, way, "update"))
            cells += ["", ""] if each is None else [_milliseconds(each), str(Ratio.of(each, floor))]
        rows.append(cells)
    header = ["algorithm", "network", "products, ms", "Stable-Baselines3, ms", "over products", "deltarl, ms"]
    return _table([*header, "over products"], rows)


def _envs(report: dict[str, Any]) -> str:
    times = {(row["algorithm"], row["way"]): row["seconds"] for row in report["envs"]}
    rows = []
    for algorithm in dict.fromkeys(algorithm for algorithm, _ in times):
        physics = times[algorithm, "physics"]
        rates = [f"{1 / float(np.median(times[algorithm, way])):,.0f}" for way in ("physics", "sb3", "deltarl")]
        shares = [str(Ratio.of(physics, times[algorithm, way])) for way in ("sb3", "deltarl")]
        rows.append([algorithm, rates[0], rates[1], shares[0], rates[2], shares[1]])
    header = ["algorithm", "physics, steps/s", "rollouts of Stable-Baselines3, steps/s", "share of physics"]
    return _table([*header, "rollouts of deltarl, steps/s", "share of physics"], rows)


def _starts(report: dict[str, Any]) -> str:
    firsts = {(row["algorithm"], row["network"], row["way"]): row for row in report["starts"]}
    rows = []
    for (algorithm, network, way), row in firsts.items():
        if way != "deltarl" or (algorithm, network, "sb3") not in firsts:
            continue
        even = row.get("break_even")
        cells = [algorithm, network]
        for each in ("sb3", "deltarl", "sbx"):
            other = firsts.get((algorithm, network, each))
            cells.append("" if other is None else f"{1_000 * other['first']:,.0f}")
        rows.append([*cells, "never" if even is None else f"{even:,.0f}"])
    header = ["algorithm", "network", "Stable-Baselines3, ms", "deltarl, ms", "SBX, ms"]
    return _table([*header, "steps until a longer start is paid back"], rows)

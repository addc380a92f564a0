"""Tables of all updates and kinds of blocks: depth in docs/torsos.md, costs in benchmarks/README.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "state, last over first": lambda cell: f"{cell['state'][-1] / cell['state'][0]:.2g}",
    "gradient, first block over last": lambda cell: f"{cell['gradient'][0] / cell['gradient'][-1]:.2g}",
    "effective rank": lambda cell: f"{cell['effective_rank']:.0f}",
    "linear share": lambda cell: f"{cell['linear_share']:.0%}",
}


def cost_table() -> str:
    """Every arm of `benchmarks/family_cost.py` compared with the residual torso, cheapest first."""
    found = json.loads((ROOT / "benchmarks" / "family_cost.json").read_text())
    shape, own = found["shape"], found["arms"]["residual"]["parameters"]
    rows = [
        f"| {arm} | {cost['parameters'] / own - 1:+.2%} | {cost['milliseconds']:.1f} "
        f"| {ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f}) |"
        for arm, cost in sorted(found["arms"].items(), key=lambda item: item[1]["ratio"]["median"])
        for ratio in [cost["ratio"]]
    ]
    return "\n".join(
        [
            f"Measured with torch {found['packages']['torch']} on {found['processor']} ({found['cores']} cores), "
            f"{found['threads']} thread(s), processor time, by `{found['command']}`; {found['repeats']} repeats.",
            "",
            f"| width {shape['width']}, depth {shape['depth']}, hidden {shape['hidden']}, batch {shape['batch']} "
            "| parameters over residual | ms | time / residual |",
            "|---|---|---|---|",
            *rows,
        ]
    )


def depth_table() -> str:
    """Every arm of `benchmarks/depth.py`; each cell has all depths."""
    found = json.loads((ROOT / "results" / "depth.json").read_text())
    depths = " / ".join(next(iter(found["cells"].values())))
    rows = [
        f"| {arm} | " + " | ".join(" / ".join(map(shown, cells.values())) for shown in COLUMNS.values()) + " |"
        for arm, cells in found["cells"].items()
    ]
    head = f"| width {found['width']}, depth {depths}, {len(found['seeds'])} seeds | {' | '.join(COLUMNS)} |"
    return "\n".join([head, "|---|" + "---|" * len(COLUMNS), *rows])


def depth_trained_table() -> str:
    """Every arm of `benchmarks/depth_trained.py` after training, means over seeds; a dash for what was not run."""
    found = json.loads((ROOT / "results" / "depth_trained.json").read_text())
    runs = found["runs"]
    depths = sorted({int(depth) for each in runs.values() for depth in each if each[depth]})
    roles = ("actor", "critic")
    head = [f"{role}: {name}" for role in roles for name in COLUMNS]
    head = [f"width {found['width']}, depth {' / '.join(map(str, depths))}", *head, "out of bounds"]
    rows = []
    for arm, by_depth in runs.items():
        cells = [list(by_depth.get(str(depth), {}).values()) for depth in depths]
        row = [
            " / ".join("-" if not cell else _mean_shown(column, [run["after"][role] for run in cell]) for cell in cells)
            for role in roles
            for column in COLUMNS.values()
        ]
        out = [
            f"{depth}: {', '.join(sorted({what for run in cell for what in run['out_of_bounds']}))}"
            for depth, cell in zip(depths, cells, strict=True)
            if any(run["out_of_bounds"] for run in cell)
        ]
        rows.append([arm, *row, "; ".join(out)])
    return "\n".join(["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows]])


def _mean_shown(column: Callable[[dict[str, Any]], str], networks: list[dict[str, Any]]) -> str:
    """One column of a cell, of the means over seeds."""
    means = {
        name: [sum(each) / len(each) for each in zip(*(network[name] for network in networks), strict=True)]
        if isinstance(value, list)
        else sum(network[name] for network in networks) / len(networks)
        for name, value in networks[0].items()
    }
    return column(means)

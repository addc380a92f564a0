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

"""The table of depth in docs/torsos.md, from what `benchmarks/depth.py` wrote."""

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


def depth_table() -> str:
    """A row an arm; each cell has all depths."""
    found = json.loads((ROOT / "results" / "depth.json").read_text())
    depths = " / ".join(next(iter(found["cells"].values())))
    rows = [
        f"| {arm} | " + " | ".join(" / ".join(map(shown, cells.values())) for shown in COLUMNS.values()) + " |"
        for arm, cells in found["cells"].items()
    ]
    head = f"| width {found['width']}, depth {depths}, {len(found['seeds'])} seeds | {' | '.join(COLUMNS)} |"
    return "\n".join([head, "|---|" + "---|" * len(COLUMNS), *rows])

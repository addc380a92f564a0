"""How often the intervals of comparisons cover the truth, by simulation.

    python benchmarks/coverage.py

Writes results/coverage.json. It takes about a minute.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from deltarl.comparison import coverage
from deltarl.comparison.estimates import ESTIMATES

SEEDS = (3, 5, 10)
TASKS = 3
RESULT = Path(__file__).resolve().parent.parent / "results" / "coverage.json"


def measure() -> dict[str, object]:
    """Shares by interval, simulated world and number of seeds."""
    rng = np.random.default_rng(0)
    shares: dict[str, dict[str, dict[int, float | None]]] = {}
    for world in coverage.WORLDS:
        for seeds in SEEDS:
            found: dict[str, float | None] = {
                name: each.simulate(seeds, TASKS, world, rng)
                for name, each in ESTIMATES.items()
                if each.simulate is not None
            }
            found["percentile"] = coverage.of_aggregate("iqm", seeds, TASKS, world, rng, widen=False)
            for name, share in found.items():
                shares.setdefault(name, {}).setdefault(world, {})[seeds] = share
    return {"simulations": coverage.SIMULATIONS, "tasks": TASKS, "covered": shares}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    RESULT.write_text(json.dumps(measure(), indent=2) + "\n")


if __name__ == "__main__":
    main()

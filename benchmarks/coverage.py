"""How often the intervals of comparisons cover the truth, by simulation.

    python benchmarks/coverage.py

writes results/coverage.json. It takes about a minute.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from deltarl.comparison import coverage

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
                name: coverage.of_one_task(name, seeds, world, rng) for name in coverage.OF_ONE_TASK
            }
            found["difference"] = coverage.of_difference(seeds, world, rng)
            found["improvement"] = coverage.of_improvement(seeds, TASKS, world, rng)
            found["effect"] = coverage.of_effect(seeds, world, rng)
            for name in coverage.OVER_TASKS:
                found[f"{name} over tasks"] = coverage.of_aggregate(name, seeds, TASKS, world, rng)
            found["percentile"] = coverage.of_aggregate("iqm", seeds, TASKS, world, rng, widen=False)
            for name, share in found.items():
                shares.setdefault(name, {}).setdefault(world, {})[seeds] = share
    return {"simulations": coverage.SIMULATIONS, "tasks": TASKS, "covered": shares}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    RESULT.write_text(json.dumps(measure(), indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Cost of measuring the gates: seconds in `GateCallback` and in the whole training, at the default cadence.

    python benchmarks/gate_cost.py [--steps 100000 20000] [--write FILE]

Trains PPO on Hopper (the quickstart) and SAC on HalfCheetah once each, on one thread, and times the callback within the
run. Both times are CPU times, so other work on the machine is not counted.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from deltarl import load_config, train
from deltarl.gates import GateCallback

CASES = {
    "PPO on Hopper-v5": ("quickstart",),
    "SAC on HalfCheetah-v5": ("half_cheetah_sac", "agent.learning_starts=1000"),
}


def measure(config: str, overrides: tuple[str, ...], steps: int, folder: str) -> dict[str, Any]:
    """CPU seconds of a training, and of the callback in it."""
    spent = 0.0
    original = GateCallback._on_rollout_end

    def timed(self: GateCallback) -> None:
        nonlocal spent
        start = time.process_time()
        original(self)
        spent += time.process_time() - start

    spec = load_config(
        config,
        *overrides,
        f"total_timesteps={steps}",
        "eval.episodes=1",
        "eval.every=null",
        "device=cpu",
        f"out={folder}",
    )
    GateCallback._on_rollout_end = timed  # type: ignore[method-assign]
    begun = time.process_time()
    try:
        [result] = train(spec, Console(file=io.StringIO()))
    finally:
        GateCallback._on_rollout_end = original  # type: ignore[method-assign]
    seconds = time.process_time() - begun
    return {
        "steps": result.steps,
        "every": spec.gates.every,
        "rows": spec.gates.rows,
        "seconds": round(seconds, 2),
        "gates_seconds": round(spent, 3),
        "share": round(spent / seconds, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs=2, default=[100_000, 20_000], help="of PPO and of SAC")
    parser.add_argument("--write", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    results: dict[str, Any] = {"machine": platform.platform(), "torch": torch.__version__, "threads": 1, "cases": {}}
    for (name, (config, *overrides)), steps in zip(CASES.items(), arguments.steps, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            results["cases"][name] = measure(config, tuple(overrides), steps, folder)
        print(name, json.dumps(results["cases"][name]), flush=True)
    if arguments.write is not None:
        arguments.write.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

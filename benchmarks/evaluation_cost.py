"""Cost of evaluating at the default cadence, a tenth of the training: seconds in evaluations and in the whole training.

    python benchmarks/evaluation_cost.py [--write results/evaluation_cost.json]

Trains the quickstart (PPO on Hopper) once as it is, and SAC on HalfCheetah for a part of its config's budget, on one
thread. Episodes of HalfCheetah have 1,000 steps from the start, so its seconds per step and per evaluation give the
share of the whole budget. Times are CPU times, so other work on the machine is not counted.
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
from unittest.mock import patch

import torch
from rich.console import Console

from deltarl import load_config, train
from deltarl.training import session
from deltarl.training.evaluation import Evaluation, evaluate_policy

CASES: dict[str, tuple[str, ...]] = {
    "PPO on Hopper-v5": ("quickstart",),
    "SAC on HalfCheetah-v5": (
        "half_cheetah_sac",
        "agent.learning_starts=1000",
        "total_timesteps=6000",
        "eval.every=0.4",
    ),
}


def measure(config: str, *overrides: str) -> dict[str, Any]:
    """CPU seconds of a training without its evaluations, and of each evaluation, the final one included."""
    spent: list[float] = []

    def timed(*arguments: Any, **options: Any) -> Evaluation:
        start = time.process_time()
        evaluation = evaluate_policy(*arguments, **options)
        spent.append(time.process_time() - start)
        return evaluation

    with tempfile.TemporaryDirectory() as folder:
        spec = load_config(config, *overrides, "device=cpu", f"out={folder}")
        begun = time.process_time()
        with patch.object(session, "evaluate_policy", timed):
            [result] = train(spec, Console(file=io.StringIO()))
        seconds = time.process_time() - begun - sum(spent)
    whole = load_config(config)
    of_training = seconds * whole.total_timesteps / result.steps
    every = whole.steps_between_evaluations
    assert every is not None
    count = -(-whole.total_timesteps // every)
    of_evaluations = count * sum(spent) / len(spent)
    return {
        "steps": result.steps,
        "evaluations": len(spent),
        "episodes": spec.eval.episodes,
        "seconds": round(seconds, 1),
        "evaluation_seconds": round(sum(spent), 1),
        "budget": whole.total_timesteps,
        "evaluations_of_budget": count,
        "share_of_budget": round(of_evaluations / (of_training + of_evaluations), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    results: dict[str, Any] = {"machine": platform.platform(), "torch": torch.__version__, "threads": 1, "cases": {}}
    for name, case in CASES.items():
        results["cases"][name] = measure(*case)
        print(name, json.dumps(results["cases"][name]), flush=True)
    if arguments.write is not None:
        arguments.write.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

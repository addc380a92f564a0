"""Time that the evaluations of a run with the default `eval.every` take, relative to the training.

    .venv/bin/python benchmarks/evaluation_cost.py [--write benchmarks/evaluation_cost.json]

HalfCheetah's episodes all have 1,000 steps, so that its evaluations are as long as any in MuJoCo. Each config is
trained for a few steps. From the wall times in metrics.jsonl and that of one evaluation follows the share for the whole
budget: nine further evaluations against all of its training steps.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from pathlib import Path

from rich.console import Console

import deltarl
from deltarl.recording import metrics_in

STEPS = {"half_cheetah_ppo_quick": 20_480, "half_cheetah_ppo": 20_480, "half_cheetah_sac": 12_000}
FURTHER = 9


def measured(config: str, steps: int, folder: Path) -> dict[str, float]:
    """Seconds per training step and per evaluation, and the share of all further evaluations."""
    budget = deltarl.load_config(config).total_timesteps
    spec = deltarl.load_config(config, f"total_timesteps={steps}", "eval.every=null", "device=cpu", f"out={folder}")
    [result] = deltarl.train(spec, Console(file=io.StringIO()), jobs=1)
    rows = metrics_in(result.folder / "metrics.jsonl")
    trained = [row for row in rows if "train/n_updates" in row]
    first, last = trained[0], trained[-1]  # acting before the first update is faster
    step = (last["wall_seconds"] - first["wall_seconds"]) / (last["step"] - first["step"])
    run = deltarl.load_run(result.folder, device="cpu")
    begun = time.perf_counter()
    deltarl.evaluate(run)
    seconds = time.perf_counter() - begun
    return {
        "steps": budget,
        "step_seconds": step,
        "evaluation_seconds": seconds,
        "share": FURTHER * seconds / (budget * step),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {config: measured(config, steps, Path(folder)) for config, steps in STEPS.items()}
    for config, row in found.items():
        print(f"{config}: {row['share']:.1%} of {row['steps']:,} training steps")
    if options.write is not None:
        options.write.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

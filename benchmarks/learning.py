"""Does every kind of torso learn? PPO and SAC, mlp, plain, residual and delta torsos, two seeds, equal steps.

    python benchmarks/learning.py [--jobs 2] [--runs runs/learning] [--results results/learning]

Each cell is one `deltarl train`; its small records are copied to the results folder. Finished cells are skipped, so
that the command can be stopped and started again. `python docs/tables.py` makes the tables of the results.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from deltarl.specs import TORSO_KINDS

RECORDS = ("config.yaml", "result.json", "evaluations.csv", "progress.csv", "provenance.json")


@dataclass(frozen=True)
class Study:
    """One pairing, its budget and its seeds, for every kind of torso."""

    config: str
    total_timesteps: int
    seeds: tuple[int, ...] = (0, 1)
    overrides: tuple[str, ...] = ()


STUDIES = (
    Study("quickstart", 300_000, seeds=(0, 1, 2)),
    # Of so short a budget, less is spent on random actions.
    Study("half_cheetah_sac", 30_000, overrides=("agent.learning_starts=5000",)),
    Study("half_cheetah_ppo_quick", 300_000),
)


def train_cell(study: Study, kind: str, seed: int, runs: Path, results: Path) -> None:
    """Train one cell, unless its result is there, and keep its records."""
    kept = results / study.config / kind / f"seed-{seed}"
    if (kept / "result.json").exists():
        return
    command = [
        str(Path(sys.executable).with_name("deltarl")),
        "train",
        study.config,
        *([] if kind == "delta" else [f"torso={kind}"]),
        *study.overrides,
        f"total_timesteps={study.total_timesteps}",
        f"eval.every={study.total_timesteps // 10}",
        f"seeds=[{seed}]",
        "device=cpu",
        f"out={runs}",
        f"name={study.config}-{kind}",
    ]
    print(" ".join(["deltarl", *command[1:]]), flush=True)
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode:
        print(f"FAILED: {study.config} {kind} seed {seed}: {outcome.stderr.strip().splitlines()[-1]}", flush=True)
        return
    kept.mkdir(parents=True, exist_ok=True)
    folder = runs / f"{study.config}-{kind}" / f"seed-{seed}"
    for name in RECORDS:
        shutil.copy(folder / name, kept / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once; each has one thread")
    parser.add_argument("--runs", type=Path, default=Path("runs/learning"))
    parser.add_argument("--results", type=Path, default=Path("results/learning"))
    arguments = parser.parse_args()
    with ThreadPoolExecutor(arguments.jobs) as pool:
        cells = [
            pool.submit(train_cell, study, kind, seed, arguments.runs, arguments.results)
            for study in STUDIES
            for seed in study.seeds
            # A third seed is for what `make train` promises, which is of the delta torso alone.
            for kind in (TORSO_KINDS if seed < 2 else ("delta",))
        ]
        for cell in cells:
            cell.result()


if __name__ == "__main__":
    main()

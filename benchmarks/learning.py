"""Does it learn? PPO and SAC with every kind of torso at equal steps; full-length PPO and TQC next to
published scores.

    python benchmarks/learning.py [--jobs 2] [--runs runs/learning] [--results results/learning]

Each cell is one `deltarl train`; its small records are copied to the results folder. Finished cells are skipped, so the
command can be stopped and started again. `python docs/tables.py` writes the tables of the results.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

RECORDS = ("config.yaml", "result.json", "evaluations.csv", "progress.csv", "provenance.json")


@dataclass(frozen=True)
class Study:
    """An agent in an environment, with budget, kinds of torso and seeds."""

    config: str
    total_timesteps: int
    seeds: tuple[int, ...] = (0, 1)
    kinds: tuple[str, ...] = ("delta", "residual", "plain", "mlp")
    more_seeds: tuple[int, ...] = ()  # for the Delta torso only
    overrides: tuple[str, ...] = ()
    name: str = ""  # default: the config's
    published: str = ""  # the published score, with its source

    @property
    def folder(self) -> str:
        """The folder of its results, relative to that of all results."""
        return self.name or self.config

    def cells(self) -> Iterator[tuple[str, int]]:
        """Kind and seed of each training."""
        yield from product(self.kinds, self.seeds)
        yield from product(("delta",), self.more_seeds)


STUDIES = (
    Study("quickstart", 300_000, more_seeds=(2,)),  # the third seed is one that `make train` promises
    # With so short a budget, take fewer random actions.
    Study("half_cheetah_sac", 30_000, overrides=("agent.learning_starts=5000",)),
    Study("half_cheetah_ppo_quick", 300_000),
    Study(
        "quickstart",
        1_000_000,
        name="hopper_ppo_1m",
        seeds=(0,),
        kinds=("delta",),
        published="PPO with MLPs after 1M steps: 2,410 ± 10 on Hopper-v3 (RL Baselines3 Zoo, one agent, over episodes) "
        "and 2,383 ± 272 on Hopper-v4 (CleanRL, over seeds)",
    ),
    Study(
        "fetch_reach_tqc_her",
        20_000,
        seeds=(0, 1, 2),
        kinds=("delta",),
        published="TQC and HER with MLPs after 20k steps: a return of -1.66 ± 0.87 on FetchReach-v1 (RL Baselines3 "
        "Zoo, one agent, over episodes)",
    ),
    Study("metaworld_reach_sac", 50_000, seeds=(0,), kinds=("delta",)),
)


def train_cell(study: Study, kind: str, seed: int, runs: Path, results: Path) -> None:
    """Train one cell unless its result exists, and keep its records."""
    kept = results / study.folder / kind / f"seed-{seed}"
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
        f"name={study.folder}-{kind}",
    ]
    print(" ".join(["deltarl", *command[1:]]), flush=True)
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode:
        print(f"FAILED: {study.folder} {kind} seed {seed}: {outcome.stderr.strip().splitlines()[-1]}", flush=True)
        return
    kept.mkdir(parents=True, exist_ok=True)
    folder = runs / f"{study.folder}-{kind}" / f"seed-{seed}"
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
            for kind, seed in study.cells()
        ]
        for cell in cells:
            cell.result()


if __name__ == "__main__":
    main()

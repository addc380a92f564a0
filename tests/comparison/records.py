"""Folders of comparisons with chosen scores, in the files and formats of real runs."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from deltarl.comparison import Comparison
from deltarl.comparison.spec import COMPARISON, SIZES
from deltarl.gates.record import write_record
from deltarl.training import folder as files
from deltarl.training.provenance import provenance

EVALUATIONS = 4
Scores = Mapping[tuple[str, str], Sequence[float]]  # by task and arm, one score per seed


@cache
def _provenance() -> dict[str, Any]:
    """This process's provenance, for all runs, because computing it starts git and looks up many packages."""
    return provenance(["deltarl", "compare"])


def write_runs(comparison: Comparison, scores: Scores, gates: bool = True) -> Path:
    """Write finished runs whose returns grow to their score; cells without a score have not finished."""
    comparison.folder.mkdir(parents=True, exist_ok=True)
    files.write_text(comparison.folder / COMPARISON, comparison.text)
    sizes = {task: {arm: asdict(size) for arm, size in arms.items()} for task, arms in comparison.sizes.items()}
    files.write_json(comparison.folder / SIZES, sizes)
    for cell in comparison.cells:
        found = scores[cell.task, cell.arm]
        if (index := comparison.spec.seeds.index(cell.seed)) < len(found):
            cell.folder.mkdir(parents=True, exist_ok=True)
            files.write_config(cell.spec, cell.seed, cell.folder)
            files.write_json(cell.folder / files.PROVENANCE, _provenance())
            _write_run(cell.folder, cell.seed, cell.spec.total_timesteps, found[index])
            if gates and cell.arm == "delta":
                _write_gates(cell.folder / files.GATES, cell.seed)
    return comparison.folder


def _write_run(folder: Path, seed: int, total: int, score: float) -> None:
    with (folder / files.EVALUATIONS).open("w", newline="") as table, (folder / files.METRICS).open("w") as metrics:
        writer = csv.writer(table)
        writer.writerow(["step", "episode", "return", "length", "success"])
        for index in range(1, EVALUATIONS + 1):
            step, mean = total * index // EVALUATIONS, score * index / EVALUATIONS
            for episode, off in enumerate((-1.0, 1.0)):
                writer.writerow([step, episode, mean + off, 10, ""])
            row = {"step": step, "wall_seconds": 1.5 * index, "train/n_updates": 10 * index}
            metrics.write(json.dumps(row) + "\n")
            metrics.write(json.dumps({"step": step, "wall_seconds": 1.5 * index, "eval/return_mean": mean}) + "\n")
    result = {
        "seed": seed,
        "status": "finished",
        "steps": total,
        "wall_seconds": 1.5 * EVALUATIONS,
        "device": "cpu",
        "episodes": 2,
        "final_return_mean": score,
        "final_return_std": 1.0,
        "success_rate": None,
        "peak_memory_mib": 500.0,
    }
    files.write_json(folder / files.RESULT, result)


def _write_gates(path: Path, seed: int) -> None:
    beta = 1 + 0.1 * np.random.default_rng(seed).normal(size=(EVALUATIONS, 2))
    steps = np.arange(1, EVALUATIONS + 1)
    statistics = {"beta_mean": beta, "erase_share": beta / 3}
    columns = {f"gates/{net}/{name}": each for net in ("policy", "value") for name, each in statistics.items()}
    write_record(path, {"steps": steps, **columns})

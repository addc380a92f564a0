"""What a run writes down while it learns."""

from __future__ import annotations

import csv
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import CSVOutputFormat, KVWriter, Logger, TensorBoardOutputFormat

from deltarl.training.evaluation import Evaluation
from deltarl.training.folder import EVALUATIONS, METRICS, PROGRESS


class MetricsWriter(KVWriter):
    """Every logged number as one JSON object a dump, appended: the record that everything else is derived from.

    JSON knows no NaN and no infinity; such a value is written as null.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")
        self._start = time.monotonic()

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        del key_excluded
        numbers = {key: _number(value) for key, value in key_values.items() if np.ndim(value) == 0}
        row = {"step": step, "wall_seconds": round(time.monotonic() - self._start, 3), **numbers}
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def make_logger(folder: Path) -> Logger:
    """TensorBoard events, progress.csv and metrics.jsonl in the run's folder; nothing on stdout."""
    return Logger(
        str(folder),
        [
            TensorBoardOutputFormat(str(folder)),
            CSVOutputFormat(str(folder / PROGRESS)),
            MetricsWriter(folder / METRICS),
        ],
    )


def record_evaluation(folder: Path, logger: Logger, steps: int, evaluation: Evaluation) -> None:
    """Add an evaluation to evaluations.csv, one row an episode, and its means to the logger's outputs.

    They are written at once and past the logger's own store: what the algorithm has put there belongs to its next
    dump, at another step.
    """
    path = folder / EVALUATIONS
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(["step", "episode", "return", "length", "success"])
        for episode, (score, length) in enumerate(zip(evaluation.returns, evaluation.lengths, strict=True)):
            success = "" if evaluation.successes is None else int(evaluation.successes[episode])
            writer.writerow([steps, episode, score, length, success])
    means = {
        "eval/return_mean": evaluation.return_mean,
        "eval/return_std": evaluation.return_std,
        "eval/length_mean": float(np.mean(evaluation.lengths)),
    }
    if evaluation.success_rate is not None:
        means["eval/success_rate"] = evaluation.success_rate
    # Under SB3's name for it, the step stands in progress.csv too; TensorBoard has it beside every value.
    row = {"time/total_timesteps": steps, **means}
    excluded = {**dict.fromkeys(means, ()), "time/total_timesteps": ("tensorboard",)}
    for output in logger.output_formats:
        assert isinstance(output, KVWriter)
        output.write(row, excluded, steps)


def _number(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value

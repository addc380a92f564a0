"""What a run writes down while it learns."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import CSVOutputFormat, HParam, KVWriter, Logger, TensorBoardOutputFormat

from deltarl import disk, yaml_text
from deltarl.errors import ConfigError
from deltarl.reading import number, read_json_lines, read_rows, readable
from deltarl.training.evaluation import Evaluation
from deltarl.training.folder import EVALUATIONS, METRICS, PROGRESS
from deltarl.training.spec import RunSpec

log = logging.getLogger(__name__)

MOST_SECONDS = 2
# TensorBoard shows settings as columns; these are worth one.
_TORSO = ("kind", "width", "depth", "heads", "channels", "update")
MAIN_SETTINGS = {
    "agent": ("algorithm", "learning_rate", "batch_size", "gamma"),
    "actor_torso": _TORSO,
    "critic_torso": _TORSO,
}
_OWN_KEYS = {"step", "wall_seconds"}


class MetricsWriter(KVWriter):
    """Every logged number as one JSON object a dump, appended: the record that everything else is derived from.

    JSON knows no NaN and no infinity; such a value is written as null.
    """

    def __init__(self, path: Path, elapsed_seconds: float) -> None:
        self._file = path.open("a")
        self._start = time.monotonic() - elapsed_seconds

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        del key_excluded
        numbers = {key: _number(value) for key, value in key_values.items() if np.ndim(value) == 0}
        row = {"step": step, "wall_seconds": round(time.monotonic() - self._start, 3), **numbers}
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def make_logger(folder: Path, elapsed_seconds: float = 0.0) -> Logger:
    """TensorBoard events, progress.csv and metrics.jsonl in the run's folder; nothing on stdout.

    Args:
        folder: the run's folder; where metrics.jsonl has rows already, all records go on from there.
        elapsed_seconds: seconds of training before.
    """
    rows = _rows(folder / METRICS)
    _wait_for_a_later_second(folder)
    table = CSVOutputFormat(str(folder / PROGRESS))
    # It has emptied its file, which is written again from the record that everything is derived from.
    for row in rows:
        values = {key: math.nan if value is None else value for key, value in row.items() if key not in _OWN_KEYS}
        table.write(values, {}, row["step"])
    return Logger(
        str(folder), [TensorBoardOutputFormat(str(folder)), table, MetricsWriter(folder / METRICS, elapsed_seconds)]
    )


def describe(logger: Logger, spec: RunSpec, seed: int) -> None:
    """Put a run's config into TensorBoard as text, and its main settings beside its scores (HParams)."""
    content = spec.model_copy(update={"seeds": (seed,)}).model_dump()
    settings = {**main_settings(spec), "seed": seed}
    scores = {"eval/return_mean": 0.0, **({} if spec.env.success is None else {"eval/success_rate": 0.0})}
    text = f"```yaml\n{yaml_text.dump(content)}```"
    for output in logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            output.writer.add_text("config", text.replace("\n", "  \n"))
            output.write({"hparams": HParam(settings, scores)}, {"hparams": ()})


def main_settings(spec: RunSpec) -> dict[str, Any]:
    """What of a config is worth a column beside scores; in a comparison, the name is the arm's."""
    content = spec.model_dump(mode="json")
    settings: dict[str, Any] = {"name": spec.name, "env": spec.env.id}
    for part, keys in MAIN_SETTINGS.items():
        settings |= {f"{part}.{key}": content[part][key] for key in keys if _is_plain(content[part].get(key))}
    return settings


def _wait_for_a_later_second(folder: Path) -> None:
    """TensorBoard reads event files in the order of their names, and these begin with the second of their making."""
    names = (re.match(r"events\.out\.tfevents\.(\d{1,12})\.", path.name) for path in folder.glob("events.*"))
    made = [int(name[1]) for name in names if name is not None]
    if not made:
        return
    if (wait := max(made) + 1 - time.time()) > MOST_SECONDS:
        log.warning("%s: its event files are of a time to come; TensorBoard may show its curves out of order", folder)
    elif wait > 0:
        time.sleep(wait)


def sizes(folder: Path, logger: Logger) -> dict[str, int]:
    """How long the records are that only grow, once all that was logged is on the disk."""
    for output in logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            output.writer.flush()
    for path in _growing(folder):
        disk.sync(path)
    return {path.name: path.stat().st_size for path in _growing(folder)}


def cut_back(folder: Path, lengths: Mapping[str, int]) -> None:
    """Take from the records what came after `sizes` gave `lengths`."""
    for path in _growing(folder):
        if path.name not in lengths:
            path.unlink()
        elif path.stat().st_size > lengths[path.name]:
            os.truncate(path, lengths[path.name])


def set_damaged_aside(folder: Path) -> None:
    """Rename a record that cannot be read, with a warning: it is no reason to lose the run."""
    for name, read in ((METRICS, lambda: _rows(folder / METRICS)), (EVALUATIONS, lambda: evaluations_in(folder))):
        if not (folder / name).exists():
            continue
        try:
            read()
        except ConfigError as error:
            kept = folder / f"{name}.damaged"
            (folder / name).rename(kept)
            log.warning("%s; kept as %s, and begun anew", error, kept.name)


def _growing(folder: Path) -> list[Path]:
    named = [folder / METRICS, folder / EVALUATIONS]
    return [path for path in named if path.exists()] + sorted(folder.glob("events.out.tfevents.*"))


def _rows(path: Path) -> list[dict[str, Any]]:
    return metrics_in(path) if path.exists() else []


def metrics_in(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl: numbers by name, and null for what is none in JSON.

    Raises:
        ConfigError: if it is missing or damaged.
    """
    rows = read_json_lines(path)
    with readable(path):
        for row in rows:
            if any(isinstance(value, list | dict) for value in row.values()):
                raise ValueError("a row holds more than numbers")
            if not isinstance(row["step"], int):
                raise ValueError(f"step: expected an integer, got {row['step']}")
            number(row["step"], 0)
            number(row["wall_seconds"], 0)
    return rows


def evaluations_in(folder: Path) -> dict[int, Evaluation]:
    """The evaluations of a run by their steps, in the order in which they were made.

    Raises:
        ConfigError: if evaluations.csv is missing or damaged.
    """
    path = folder / EVALUATIONS
    found: dict[int, list[tuple[float, int, str]]] = {}
    rows = read_rows(path)
    with readable(path):
        for row in rows:
            episodes = found.setdefault(int(number(int(row["step"]), 0)), [])
            if int(row["episode"]) != len(episodes):
                raise ValueError(f"step {row['step']}: episode {row['episode']} where {len(episodes)} is due")
            episodes.append((number(float(row["return"])), int(row["length"]), row["success"]))
        return {
            step: Evaluation(
                returns=tuple(score for score, _, _ in episodes),
                lengths=tuple(length for _, length, _ in episodes),
                successes=tuple(bool(int(success)) for _, _, success in episodes) if episodes[0][2] else None,
            )
            for step, episodes in found.items()
        }


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


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str)


def _number(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value

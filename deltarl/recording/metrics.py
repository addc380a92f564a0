"""metrics.jsonl: every logged number; the other records can be derived from it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from deltarl.reading import number, read_json_lines, readable
from deltarl.recording.sink import FileSink

FILE = "metrics.jsonl"
OWN_KEYS = {"step", "wall_seconds"}


class Metrics(FileSink):
    """Appends one JSON object per dump, and one per measurement of the gates.

    NaN and infinity, which JSON does not have, are written as null.

    Args:
        path: the file.
        elapsed_seconds: seconds of training so far.
    """

    name = "json"
    is_table = True

    def __init__(self, path: Path, elapsed_seconds: float) -> None:
        self._file = path.open("a")
        self._start = time.monotonic() - elapsed_seconds

    @classmethod
    def open(cls, folder: Path, elapsed_seconds: float = 0.0) -> Self:
        return cls(folder / FILE, elapsed_seconds)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        del key_excluded  # the record is complete
        self.scalars(key_values, step)

    def scalars(self, values: Mapping[str, Any], step: int) -> None:
        numbers = {key: _number(value) for key, value in values.items() if np.ndim(value) == 0}
        row = {"step": step, "wall_seconds": round(time.monotonic() - self._start, 3), **numbers}
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    @classmethod
    def growing(cls, folder: Path) -> list[Path]:
        return [path for path in (folder / FILE,) if path.exists()]


def metrics_in(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a metrics.jsonl: numbers by name, and null for NaN and infinity.

    Raises:
        ConfigError: if it is missing or damaged.
    """
    rows = read_json_lines(path)
    with readable(path):
        for row in rows:
            if any(isinstance(value, list | dict) for value in row.values()):
                raise ValueError("a row contains more than numbers")
            if not isinstance(row["step"], int):
                raise ValueError(f"step: expected an integer, got {row['step']}")
            number(row["step"], 0)
            number(row["wall_seconds"], 0)
    return rows


def history_in(path: Path) -> list[tuple[dict[str, float], int]]:
    """Read the numbers of each row, with its step.

    Raises:
        ConfigError: as in `metrics_in`.
    """
    return [
        ({key: math.nan if value is None else value for key, value in row.items() if key not in OWN_KEYS}, row["step"])
        for row in metrics_in(path)
    ]


def _number(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value

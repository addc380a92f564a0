"""progress.csv: Stable-Baselines3's table of what was logged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from stable_baselines3.common.logger import CSVOutputFormat

from deltarl.recording import metrics
from deltarl.recording.sink import Sink

FILE = "progress.csv"


class Table(Sink):
    """A row a dump, written by Stable-Baselines3's own output.

    Args:
        output: of the file.
    """

    name = "csv"
    is_table = True

    def __init__(self, output: CSVOutputFormat) -> None:
        self._output = output

    @classmethod
    def open(cls, folder: Path, elapsed_seconds: float = 0.0) -> Self:
        """The table; where the run has a metrics.jsonl already, it begins with the rows of that.

        Stable-Baselines3's output empties its file, and a new column changes all rows: it is not added to, but written
        again from the record that everything is derived from.
        """
        del elapsed_seconds
        record = folder / metrics.FILE
        rows = metrics.metrics_in(record) if record.exists() else []
        table = cls(CSVOutputFormat(str(folder / FILE)))
        for row in rows:
            values = {key: value for key, value in row.items() if key not in metrics.OWN_KEYS}
            table.scalars({key: math.nan if value is None else value for key, value in values.items()}, row["step"])
        return table

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self._output.write(key_values, key_excluded, step)

    def scalars(self, values: Mapping[str, Any], step: int) -> None:
        self._output.write(dict(values), {}, step)

    def close(self) -> None:
        self._output.close()

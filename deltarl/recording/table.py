"""progress.csv: one row per dump of the logger, as Stable-Baselines3 writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

from deltarl.recording import metrics
from deltarl.recording.sink import MEASURED, FileSink

FILE = "progress.csv"


class Table(FileSink):
    """A CSV file with a column for each tag, in the order in which the tags first came.

    Measurements of torsos have no rows here, because each of their tags would be a column.

    Stable-Baselines3's output writes the same cells, but takes the columns from a set, so that their order differs
    between processes.

    Args:
        file: an empty file, opened for reading and writing.
    """

    name = "csv"
    is_table = True

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._columns: list[str] = []

    @classmethod
    def open(cls, folder: Path, elapsed_seconds: float = 0.0) -> Self:
        """Open the table; if the run already has a metrics.jsonl, the table begins with its rows.

        A new column changes all rows, so the file is rewritten from that record instead of continued.
        """
        del elapsed_seconds
        record = folder / metrics.FILE
        rows = metrics.history_in(record) if record.exists() else []
        table = cls((folder / FILE).open("w+"))
        for values, step in rows:
            table.scalars(values, step)
        return table

    def scalars(self, values: Mapping[str, Any], step: int) -> None:
        del step  # the values include it as time/total_timesteps
        if values and all(key.startswith(MEASURED) for key in values):
            return
        if new := [key for key in values if key not in self._columns]:
            self._add(new)
        self._file.write(",".join(_cell(values.get(key)) for key in self._columns) + "\n")
        self._file.flush()

    def _add(self, columns: list[str]) -> None:
        """Rewrite the file with more columns, which are empty in the existing rows."""
        self._file.seek(0)
        rows = self._file.read().splitlines()[1:]
        self._columns += columns
        self._file.seek(0)
        lines = [",".join(self._columns), *(row + "," * len(columns) for row in rows)]
        self._file.write("\n".join(lines) + "\n")

    def close(self) -> None:
        self._file.close()


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return "" if value is None else str(value)

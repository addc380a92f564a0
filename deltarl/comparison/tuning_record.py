"""What is kept of how the arms of a comparison were tuned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from deltarl.comparison.spec import TUNING
from deltarl.reading import read_json, readable

OF_ARM = "arm "  # before the name of the arm for which values were chosen


@dataclass(frozen=True)
class Tuned:
    """How an arm was tuned on a task; scores are those of trials, on the tuning seeds.

    Attributes:
        values: the chosen values of the options, by path.
        score: the score with them.
        source: where they come from: empty if they were drawn, `the config`, or `arm` and the name of another one.
        own: the score with the arm's own values; None if the space does not contain them or the trial failed.
        drawn: scores of the finished trials that were drawn, the best one first.
        pruned: number of trials that were pruned.
        failed: number of trials that failed.
        with_others: the score with the values that were chosen for each other arm, as far as the two have options in
            common; None if the trial failed.
    """

    values: dict[str, Any]
    score: float
    source: str
    own: float | None
    drawn: tuple[float, ...]
    pruned: int
    failed: int
    with_others: dict[str, float | None]


ByArm = dict[str, dict[str, Tuned]]  # by task and arm


def read_tuning(folder: Path) -> tuple[dict[str, Any], ByArm] | None:
    """What was tuned in a comparison's folder and how; None if nothing was.

    Raises:
        ConfigError: if the record is damaged.
    """
    path = folder / TUNING
    if not path.is_file():
        return None
    content = read_json(path)
    with readable(path):
        return content["tune"], TypeAdapter(ByArm).validate_python(content["arms"])

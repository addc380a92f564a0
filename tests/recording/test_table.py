"""progress.csv has Stable-Baselines3's cells, in a fixed order of columns."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import CSVOutputFormat

from deltarl.recording.table import FILE, Table

DUMPS: list[dict[str, Any]] = [
    {"time/total_timesteps": 1, "rollout/return": 0.5},
    {"train/z": 1, "train/y": float("nan"), "train/x": 1e-20, "train/w": None, "train/v": 'a "b", c'},
    {"rollout/return": 2.0, "train/x": 3, "eval/return": 4},
]


def test_columns_stand_in_the_order_in_which_they_came_with_the_cells_of_stable_baselines3(tmp_path: Path) -> None:
    table, theirs = Table.open(tmp_path), CSVOutputFormat(str(tmp_path / "theirs.csv"))
    for values in DUMPS:
        table.write(values, {"eval/return": ("tensorboard",)})
        theirs.write(values, {})
    table.close()
    theirs.close()
    with (tmp_path / FILE).open() as ours, (tmp_path / "theirs.csv").open() as other:
        rows = csv.DictReader(ours)
        assert list(rows.fieldnames or ()) == list(dict.fromkeys(key for values in DUMPS for key in values))
        assert list(rows) == list(csv.DictReader(other))


def test_what_is_left_out_of_the_table_has_no_column(tmp_path: Path) -> None:
    table = Table.open(tmp_path)
    table.write({"a": 1, "b": 2}, {"b": ("csv",)})
    table.close()
    assert (tmp_path / FILE).read_text() == "a\n1\n"


def test_measurements_of_torsos_have_no_rows_and_no_value_of_another_dump_is_lost(tmp_path: Path) -> None:
    table = Table.open(tmp_path)
    table.scalars({"torso/gates/q/0/beta_mean": 1.0, "torso/gates/q/1/beta_mean": 1.0}, 3)
    table.scalars({"torso/mine": 2, "time/total_timesteps": 4}, 4)
    table.close()
    assert (tmp_path / FILE).read_text() == "torso/mine,time/total_timesteps\n2,4\n"

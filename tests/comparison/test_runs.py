"""Learning curves of runs show the recorded numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from deltarl import ConfigError
from deltarl.comparison.runs import EVALUATIONS, ROLLOUTS, curve_of, default_key, grouped, learning_curves, runs_in


def run(folder: Path, evaluations: Mapping[int, Sequence[float]], metrics: Sequence[Mapping[str, Any]] = ()) -> Path:
    """The records of a run with an empty config."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").touch()
    rows = [f"{step},{k},{score},10," for step, scores in evaluations.items() for k, score in enumerate(scores)]
    (folder / "evaluations.csv").write_text("\n".join(["step,episode,return,length,success", *rows, ""]))
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"wall_seconds": 1.0, **row}) + "\n" for row in metrics))
    return folder


def test_runs_are_found_at_any_depth_and_once(tmp_path: Path) -> None:
    own = [run(tmp_path / "a" / f"seed-{seed}", {}) for seed in (0, 1)]
    deep = run(tmp_path / "study" / "hopper" / "delta" / "seed-0", {})
    assert runs_in([tmp_path]) == [*own, deep]
    assert runs_in([own[1], tmp_path / "a"]) == own[::-1]


def test_a_curve_is_the_mean_of_each_evaluation(tmp_path: Path) -> None:
    curve = curve_of(run(tmp_path / "seed-0", {10: [1, 3], 20: [5, 5]}), EVALUATIONS)
    assert (curve.steps.tolist(), curve.values.tolist()) == ([10, 20], [2, 5])


def test_a_number_of_the_metrics_is_a_curve_where_it_was_logged(tmp_path: Path) -> None:
    rows = [{"step": 1, "train/loss": 2.0}, {"step": 2}, {"step": 3, "train/loss": None}, {"step": 4, "train/loss": 1}]
    curve = curve_of(run(tmp_path / "seed-0", {}, rows), "train/loss")
    assert (curve.steps.tolist(), curve.values.tolist()) == ([1, 4], [2, 1])


@pytest.mark.parametrize(("evaluations", "key"), [({1: [0]}, ROLLOUTS), ({1: [0], 2: [0]}, EVALUATIONS)])
def test_evaluations_are_drawn_where_there_are_several(
    evaluations: dict[int, list[float]], key: str, tmp_path: Path
) -> None:
    assert default_key([run(tmp_path / "seed-0", evaluations), run(tmp_path / "seed-1", {1: [0], 2: [0]})]) == key


def test_groups_are_named_by_what_differs(tmp_path: Path) -> None:
    folders = [run(tmp_path / "s" / arm / f"seed-{seed}", {1: [0]}) for arm in ("mlp", "delta") for seed in (0, 1)]
    groups = grouped([curve_of(folder, EVALUATIONS) for folder in folders])
    assert {name: len(own) for name, own in groups.items()} == {"mlp": 2, "delta": 2}
    assert list(grouped([curve_of(folders[0], EVALUATIONS)])) == ["mlp"]


def test_seeds_are_drawn_as_a_mean_with_its_interval_where_all_were_looked_at(tmp_path: Path) -> None:
    scores = {0: {10: [1], 20: [2], 30: [9]}, 1: {10: [3], 20: [6]}}
    curves = [curve_of(run(tmp_path / "a" / f"seed-{seed}", own), EVALUATIONS) for seed, own in scores.items()]
    [axis] = learning_curves({"a": curves}, EVALUATIONS).axes
    [line] = axis.lines
    assert (line.get_label(), line.get_xydata().tolist()) == ("a (2 seeds)", [[10, 2], [20, 4]])
    [band] = axis.collections
    low, high = stats.t.interval(0.95, 1, loc=2, scale=1)
    ends = band.get_paths()[0].vertices
    np.testing.assert_allclose([ends[ends[:, 0] == 10, 1].min(), ends[ends[:, 0] == 10, 1].max()], [low, high])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("train/los", "has not recorded 'train/los'; did you mean 'train/loss'"),
        (EVALUATIONS, "has not recorded 'eval/"),
    ],
)
def test_what_was_not_recorded_is_named(key: str, message: str, tmp_path: Path) -> None:
    folder = run(tmp_path / "seed-0", {}, [{"step": 1, "train/loss": 2.0}])
    with pytest.raises(ConfigError, match=message):
        curve_of(folder, key)


@pytest.mark.parametrize(("name", "message"), [("nowhere", "no such folder"), (".", "holds no run")])
def test_a_folder_without_runs_is_refused(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        runs_in([tmp_path / name])

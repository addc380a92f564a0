"""`evaluate`, `play` and `plot` as a user types them."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest

from deltarl import RunResult, rendering
from deltarl.cli.evaluate import over_seeds
from tests.quick import Deltarl, Payload


def test_evaluate_repeats_the_runs_own_score(finished: RunResult, deltarl: Deltarl) -> None:
    status, out, _ = deltarl("evaluate", finished.folder)
    assert status == 0
    assert f"return {finished.final_return_mean:,.1f} +- {finished.final_return_std:,.1f} over 2 episodes" in out
    assert "over 1 episode\n" in deltarl("evaluate", finished.folder, "--episodes", "1", "--seed", "7")[1]


def test_evaluate_scores_all_seeds_of_a_run_and_their_mean(finished: RunResult, deltarl: Deltarl) -> None:
    for seed in (10, 2):
        shutil.copytree(finished.folder, f"runs/quickstart/seed-{seed}")
    status, out, _ = deltarl("evaluate", "runs/quickstart", "--episodes", "1")
    first, score, second, same, over = out.splitlines()
    assert (status, score) == (0, same)
    assert first.endswith("runs/quickstart/seed-2")
    assert second.endswith("runs/quickstart/seed-10")
    assert over == f"2 seeds: mean return {score.split()[1]}"  # the same policy twice: no interval


def test_the_mean_over_seeds_has_an_interval() -> None:
    said = over_seeds([1.0, 3.0, 5.0])
    assert said == "3 seeds: mean return 3.0, 95% interval [-2.0, 8.0] (Student's t over seeds)"


def test_play_writes_a_film_and_opens_no_pickle(
    finished: RunResult, deltarl: Deltarl, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = rendering.working_backend()
    if backend is None:
        pytest.skip("no frame can be drawn here")
    monkeypatch.setenv("MUJOCO_GL", backend)
    shutil.copytree(finished.folder, "seed-0")
    for name in ("model.zip", "vecnormalize.pkl", "policy.pkl"):
        Path("seed-0", name).write_bytes(pickle.dumps(Payload()))
    status, out, _ = deltarl("play", "seed-0", "--video", "film.mp4")
    assert status == 0
    assert out.startswith("film.mp4: ")
    assert Path("film.mp4").stat().st_size > 1000
    assert not Path("opened").exists()


def test_plot_draws_runs_into_a_file(finished: RunResult, deltarl: Deltarl) -> None:
    status, out, _ = deltarl("plot", finished.folder.parent, "--to", "curves.svg")
    assert (status, out) == (0, "curves.svg: rollout/ep_rew_mean of 1 run\n")
    assert "training episodes" in Path("curves.svg").read_text()


def test_a_window_needs_a_screen(deltarl: Deltarl, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    assert "no screen to open a window on; give --video FILE.mp4" in deltarl("play", "nowhere")[2]


def test_the_best_policy_can_be_evaluated_and_played(finished: RunResult, deltarl: Deltarl) -> None:
    status, out, _ = deltarl("evaluate", finished.folder, "--best", "--episodes", "2")
    assert status == 0
    assert f"return {finished.final_return_mean:,.1f} " in out  # a run with one evaluation shows that one
    assert deltarl("evaluate", finished.folder.parents[1], "--best")[0] == 2

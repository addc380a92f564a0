"""Frames of a policy: files, clips, and messages if nothing can be rendered."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deltarl import ConfigError, load_config, load_run, rendering, train
from deltarl.training import playback
from deltarl.training.evaluation import evaluate_policy
from deltarl.training.films import GIF_WIDTH
from tests.quick import QUICK


@pytest.fixture(scope="module")
def backend() -> str:
    found = rendering.working_backend()
    if found is None:
        pytest.skip("no frame can be drawn here")
    return found


@pytest.fixture
def drawing(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", backend)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    [result] = train(load_config("quickstart", *QUICK, f"out={out}", "name=a"), console=Console(file=io.StringIO()))
    return result.folder


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize(("fps", "each"), [(125, 1), (25, 5), (250, 0.5)])
def test_frames_are_drawn_at_a_rate_of_simulated_time(fps: int, each: float, run_folder: Path) -> None:
    run = load_run(run_folder, device="cpu")
    frames: list[Any] = []
    evaluation = playback.record(
        run.policy, run.spec.env, run.normalizer, 2, write=frames.append, fps=fps, max_episode_steps=15
    )
    assert len(frames) == 30 / each  # Hopper takes 125 steps per second
    assert evaluation.lengths == (15, 15)
    # The hopper is visible, and it moves.
    assert frames[0].std() > 5
    assert not np.array_equal(frames[0], frames[-1])


@pytest.mark.usefixtures("drawing")
def test_drawing_changes_no_score(run_folder: Path) -> None:
    run = load_run(run_folder, device="cpu")
    frames: list[Any] = []
    scores = playback.record(run.policy, run.spec.env, run.normalizer, 2, write=frames.append, most=2)
    assert scores == evaluate_policy(run.policy, run.spec.env, run.normalizer, 2)  # one episode after the other, too
    assert len(frames) == 2


@pytest.mark.parametrize(
    ("env", "follows"), [("Hopper-v5", True), ("InvertedPendulum-v5", False), ("CartPole-v1", None)]
)
def test_the_camera_follows_where_the_model_has_one_that_does(env: str, follows: bool | None) -> None:
    made: Any = gym.make(env, render_mode="rgb_array").unwrapped
    rendering.follow_body(made)
    if follows is not None:
        assert (made.mujoco_renderer.camera_id >= 0) is follows


@pytest.mark.slow
@pytest.mark.usefixtures("drawing")
def test_a_clip_is_in_tensorboard_at_each_evaluation_and_changes_no_learning(tmp_path: Path) -> None:
    folders = []
    for video in ("true", "false"):
        overrides = [*QUICK, f"out={tmp_path}", f"name=video-{video}", "eval.every=32", f"eval.video={video}"]
        [result] = train(load_config("quickstart", *overrides), console=Console(file=io.StringIO()))
        folders.append(result.folder)
    events = EventAccumulator(str(folders[0]))
    events.Reload()
    clips = events.Images("eval/clip")
    assert [clip.step for clip in clips] == [32, 64]
    with Image.open(io.BytesIO(clips[0].encoded_image_string)) as film:
        assert film.format == "GIF"
        assert max(film.size) == GIF_WIDTH
    policies = [(folder / "policy.safetensors").read_bytes() for folder in folders]
    assert policies[0] == policies[1]


def test_where_nothing_can_be_drawn_the_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    assert rendering.failure("nonsense") is not None
    with pytest.raises(
        ConfigError, match=r"^rendering: could not render a frame .* apt install libegl1 libgl1, or libosmesa6"
    ):
        train(load_config("quickstart", f"out={tmp_path}", "eval.video=true"))
    assert list(tmp_path.iterdir()) == []

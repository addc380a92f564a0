"""Frames of a policy: files, clips, and what is said where nothing can be drawn."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deltarl import ConfigError, evaluate, load_config, load_run, rendering, train
from deltarl.training import playback

QUICK = ("total_timesteps=64", "agent.n_steps=16", "agent.batch_size=32", "env.n_envs=2", "eval.episodes=1")


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
@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_an_episode_is_written_as_a_film(name: str, run_folder: Path, tmp_path: Path) -> None:
    run = load_run(run_folder, device="cpu")
    frames, fps, evaluation = playback.record(run.policy, run.spec.env, run.normalizer, episodes=2)
    assert fps == 125  # Hopper's steps a second
    assert len(frames) == sum(evaluation.lengths)
    assert evaluation == evaluate(run, episodes=2)
    # The hopper is seen, and it moves.
    assert frames[0].std() > 5
    assert not np.array_equal(frames[0], frames[-1])
    playback.write_video(frames, fps, tmp_path / name)
    if name.endswith("mp4"):
        assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / name))[0] == len(frames)
    else:
        with Image.open(tmp_path / name) as film:
            assert film.n_frames == -(-len(frames) // 5)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("env", "follows"), [("Hopper-v5", True), ("InvertedPendulum-v5", False), ("CartPole-v1", None)]
)
def test_the_camera_follows_where_the_model_has_one_that_does(env: str, follows: bool | None) -> None:
    made: Any = gym.make(env, render_mode="rgb_array").unwrapped
    playback._follow(made)
    if follows is not None:
        assert (made.mujoco_renderer.camera_id >= 0) is follows


@pytest.mark.usefixtures("drawing")
def test_a_clip_stands_in_tensorboard_at_each_evaluation_and_changes_no_learning(tmp_path: Path) -> None:
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
        assert max(film.size) == playback.GIF_WIDTH
    policies = [(folder / "policy.safetensors").read_bytes() for folder in folders]
    assert policies[0] == policies[1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("film.avi", r"film\.avi: a name that ends in \.mp4 or \.gif is wanted"),
        ("nowhere/film.mp4", "nowhere: no such folder"),
    ],
)
def test_a_film_that_cannot_be_written_is_refused(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        playback.check_video_path(tmp_path / name)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(ConfigError, match=r"imageio-ffmpeg: pip install 'deltarl\[video\]'"):
        playback.check_video_path(tmp_path / "film.mp4")
    playback.check_video_path(tmp_path / "film.gif")


def test_where_nothing_can_be_drawn_the_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    assert rendering.failure("nonsense") is not None
    with pytest.raises(ConfigError, match=r"^rendering: no frame .* apt install libegl1 libgl1, or libosmesa6"):
        train(load_config("quickstart", f"out={tmp_path}", "eval.video=true"))
    assert list(tmp_path.iterdir()) == []

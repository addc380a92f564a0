"""Reading a run back."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from deltarl import ConfigError, RunResult, evaluate, load_run


def test_a_run_read_back_scores_the_same(finished: RunResult) -> None:
    evaluation = evaluate(load_run(finished.folder, device="cpu"))
    assert evaluation.return_mean == finished.final_return_mean
    # Another batch size rounds differently.
    assert evaluate(finished.folder, episodes=3).returns[:2] == pytest.approx(evaluation.returns, rel=1e-4)


def test_reading_a_run_leaves_the_random_state_alone(finished: RunResult) -> None:
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]
    evaluate(finished.folder, episodes=1)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])


def test_the_zip_is_read_by_plain_stable_baselines3(finished: RunResult) -> None:
    model = PPO.load(finished.folder / "model.zip", device="cpu")
    envs = VecNormalize.load(str(finished.folder / "vecnormalize.pkl"), make_vec_env("Hopper-v5"))
    ours = load_run(finished.folder, device="cpu")
    assert ours.normalizer is not None
    observation = np.ones((3, 11))
    ours_seen, theirs_seen = (normalizer.normalize_obs(observation) for normalizer in (ours.normalizer, envs))
    assert np.array_equal(ours_seen, theirs_seen)
    assert np.array_equal(
        ours.policy.predict(ours_seen, deterministic=True)[0], model.predict(theirs_seen, deterministic=True)[0]
    )


@pytest.mark.parametrize("missing", ["config.yaml", "policy.safetensors", "result.json"])
def test_a_folder_without_a_finished_run_is_not_read(missing: str, finished: RunResult, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / missing).unlink()
    with pytest.raises(ConfigError, match=f"not a finished run, {missing} is missing"):
        load_run(tmp_path)


def test_a_folder_of_runs_is_distinguished_from_a_run(finished: RunResult, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="contains runs but is not one; give one of seed-0 in it"):
        load_run(finished.folder.parent)
    with pytest.raises(ConfigError, match="no such folder"):
        load_run(tmp_path / "nowhere")


@pytest.mark.parametrize("damaged", ["config.yaml", "policy.safetensors", "normalizer.npz"])
@pytest.mark.parametrize("content", [b"", b": [", b"x" * 100], ids=["empty", "broken", "other"])
def test_a_damaged_file_is_named(damaged: str, content: bytes, finished: RunResult, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / damaged).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{damaged}: missing or damaged: ") as caught:
        load_run(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("episodes", [0, -1])
def test_an_evaluation_has_at_least_one_episode(episodes: int, finished: RunResult) -> None:
    with pytest.raises(ConfigError, match=f"expected at least 1; got {episodes}"):
        evaluate(finished.folder, episodes=episodes)

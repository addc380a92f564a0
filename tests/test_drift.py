"""Tasks that change during training, with MuJoCo's own models."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from pydantic import ValidationError
from stable_baselines3.common.vec_env import VecEnv

from deltarl import ConfigError, evaluate, load_config, load_run, train
from deltarl.drift import DriftSpec
from deltarl.envs import EnvSpec, build_envs, build_training_envs
from deltarl.library import find, read_yaml
from deltarl.training.evaluation import evaluate_policy

DRIFT = {"wrapper": "drift", "at": [6, 10], "strength": [1.0, 0.5, 2.0], "friction": [1.0, 3.0, 0.25]}


def cheetah(**changes: Any) -> EnvSpec:
    return EnvSpec(id="HalfCheetah-v5", kind="locomotion", wrappers=({**DRIFT, **changes},), n_envs=2)  # type: ignore[arg-type]


def factors(envs: VecEnv) -> list[tuple[float, float]]:
    """The gears and frictions of each environment, divided by those of the unchanged task."""
    plain: Any = gym.make("HalfCheetah-v5").unwrapped
    found = []
    for model in envs.get_attr("model"):
        gears = model.actuator_gear[:, 0] / plain.model.actuator_gear[:, 0]
        frictions = model.geom_friction / plain.model.geom_friction
        assert max(np.ptp(gears), np.ptp(frictions)) < 1e-9
        found.append((round(float(gears[0]), 6), round(float(frictions[0, 0]), 6)))
    return found


def test_environments_side_by_side_change_together_by_the_steps_of_all() -> None:
    """With two environments, steps 0, 2 and 4 of the training are in the first phase, 6 and 8 in the second."""
    with closing(build_training_envs(cheetah(), 0)) as envs:
        envs.reset()
        seen = []
        for _ in range(6):
            envs.step(np.zeros((2, 6)))
            seen.append(factors(envs))
        assert seen == [[pair] * 2 for pair in [(1, 1)] * 3 + [(0.5, 3)] * 2 + [(2, 0.25)]]


def test_a_phase_outlives_the_episode() -> None:
    with closing(build_training_envs(cheetah(), 0)) as envs:
        envs.reset()
        for _ in range(4):
            envs.step(np.zeros((2, 6)))
        envs.reset()
        assert factors(envs) == [(0.5, 3)] * 2


def test_weaker_actuators_push_less() -> None:
    speeds = []
    for strength in (1.0, 0.5):
        spec = cheetah(at=[], strength=[strength], friction=[1.0])
        with closing(build_envs(spec, 0, n_envs=1)) as envs:
            envs.reset()
            envs.step(np.ones((1, 6)))
            speeds.append(float(np.abs(envs.get_attr("data")[0].qfrc_actuator).sum()))
    assert speeds[1] == pytest.approx(speeds[0] / 2)


@pytest.mark.parametrize(
    ("steps", "expected"), [(0, (1, 1)), (5, (1, 1)), (6, (0.5, 3)), (10, (2, 0.25)), (None, (2, 0.25))]
)
def test_a_task_is_held_as_it_is_at_a_step(steps: int | None, expected: tuple[float, float]) -> None:
    """Scores are of the last phase, however many steps an evaluation takes."""
    with closing(build_envs(cheetah().held(steps), 0, n_envs=1)) as envs:
        envs.reset()
        for _ in range(12):
            envs.step(np.zeros((1, 6)))
            assert factors(envs) == [expected]


def test_evaluations_are_of_the_phase_that_the_training_is_in(tmp_path: Path) -> None:
    spec = load_config(
        "quickstart",
        "env=half_cheetah",
        "env.wrappers=[{wrapper: drift, at: [128], strength: [1.0, 0.01]}]",
        "env.n_envs=2",
        "agent.n_steps=32",
        "agent.batch_size=32",
        "torso.width=8",
        "torso.depth=1",
        "total_timesteps=256",
        "eval={every: 64, episodes: 1}",
        f"out={tmp_path}",
    )
    train(spec)
    [folder] = tmp_path.glob("*/seed-0")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    phases = {row["step"]: row["eval/phase"] for row in rows if "eval/phase" in row}
    assert phases == {64: 0, 128: 1, 192: 1, 256: 1}
    with (folder / "evaluations.csv").open() as file:
        returns = {int(row["step"]): float(row["return"]) for row in csv.DictReader(file)}
    run = load_run(folder)
    assert returns[256] == evaluate(run).return_mean
    at_first = evaluate_policy(run.policy, run.spec.env.held(0), run.normalizer, 1)
    assert returns[256] != at_first.return_mean


def test_the_shipped_task_changes_at_thirds() -> None:
    spec = EnvSpec.model_validate(read_yaml(find("envs", "half_cheetah_drift", "test")).data)
    [drift] = spec.wrappers
    assert isinstance(drift, DriftSpec)
    assert drift.at == (100_000, 200_000)
    assert [spec.phase(steps) for steps in (0, 99_999, 100_000, 200_000, 300_000)] == [0, 0, 1, 2, 2]


def test_a_task_without_actuators_of_mujoco_is_refused_in_one_line(tmp_path: Path) -> None:
    spec = load_config(
        "quickstart",
        "env={id: CartPole-v1, kind: locomotion, wrappers: [{wrapper: drift, strength: [0.5]}]}",
        f"out={tmp_path}",
    )
    with pytest.raises(
        ConfigError, match=r"^env\.wrappers: drift changes the actuators of MuJoCo's tasks, and CartPole-v1 has none$"
    ):
        train(spec)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"at": [5, 5]}, r"expected steps in increasing order; got \[5, 5\]"),
        ({"at": [5]}, r"expected 2 factors, one per phase; got 3"),
        ({"friction": [1.0]}, r"expected 3 factors, one per phase; got 1"),
        ({"strength": [], "friction": []}, "nothing changes; give strength, friction or both"),
        ({"strength": [1.0, 0.0, 1.0]}, "greater than 0"),
        ({"at": [0, 10]}, "greater than or equal to 1"),
    ],
)
def test_an_invalid_drift_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        cheetah(**changes)

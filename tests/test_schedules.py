"""The learning rate that follows the KL divergence."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import stable_baselines3 as sb3
import torch
from rich.console import Console
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from deltarl import ConfigError, KLAdaptiveLearningRate, fast, load_config, train

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu"}


class Watch(BaseCallback):
    """Records the rate of each update, and the logged values."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[float, float]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        logged = self.logger.name_to_value
        if "train/approx_kl" in logged:
            self.seen.append((logged["train/learning_rate"], logged["train/approx_kl"]))


def learn(
    algorithm: type[BaseAlgorithm], callback: KLAdaptiveLearningRate, **options: Any
) -> list[tuple[float, float]]:
    watch = Watch()
    policy = "MlpLstmPolicy" if algorithm is RecurrentPPO else "MlpPolicy"
    network = {"lstm_hidden_size": 8} if algorithm is RecurrentPPO else {}
    model = algorithm(policy, "Pendulum-v1", policy_kwargs={"net_arch": [8], **network}, **{**SMALL, **options})
    model.learn(32 * 6, callback=[watch, callback])
    return watch.seen


@pytest.mark.parametrize(
    ("rate", "kl", "after"),
    [
        (1e-3, 0.021, 1e-3 / 1.5),
        (1e-3, 0.02, 1e-3),
        (1e-3, 0.005, 1e-3),
        (1e-3, 0.004, 1e-3 * 1.5),
        (1e-3, -1e-5, 1e-3 * 1.5),
        (1.2e-4, 1.0, 1e-4),
        (9e-3, 0.0, 1e-2),
        (1e-3, float("nan"), 1e-3),
        (1e-3, float("inf"), 1e-3),
    ],
)
def test_the_rate_falls_beyond_twice_the_target_and_rises_below_half_of_it(
    rate: float, kl: float, after: float
) -> None:
    assert KLAdaptiveLearningRate(0.01, 1.5, (1e-4, 1e-2)).rate_after(rate, kl) == pytest.approx(after)


@pytest.mark.parametrize("algorithm", [sb3.PPO, fast.PPO, RecurrentPPO])
def test_each_update_is_made_with_what_the_one_before_asks_for(algorithm: type[BaseAlgorithm]) -> None:
    callback = KLAdaptiveLearningRate(target=1e-3, factor=2.0)
    seen = learn(algorithm, callback)
    assert len(seen) == 5  # the sixth update has no rollout after it
    assert len({rate for rate, _ in seen}) > 1
    for (rate, kl), (following, _) in pairwise(seen):
        assert following == callback.rate_after(rate, kl)


def test_lean_steps_come_to_the_same_rates() -> None:
    lean, stock = (learn(algorithm, KLAdaptiveLearningRate(target=1e-3)) for algorithm in (fast.PPO, sb3.PPO))
    assert [rate for rate, _ in lean] == [rate for rate, _ in stock]


def test_a_saved_model_continues_with_the_rate_it_has_come_to(tmp_path: Path) -> None:
    model = fast.PPO("MlpPolicy", "Pendulum-v1", **SMALL)
    callback = KLAdaptiveLearningRate(target=1e-9)
    model.learn(32 * 4, callback=callback)
    assert model.learning_rate == pytest.approx(3e-4 / 1.5**3)
    model.save(tmp_path / "model")
    loaded = fast.PPO.load(tmp_path / "model", env=model.env)
    assert loaded.learning_rate == model.learning_rate
    loaded.learn(32 * 2, callback=KLAdaptiveLearningRate(target=1e-9), reset_num_timesteps=False)
    assert loaded.learning_rate == pytest.approx(3e-4 / 1.5**4)


@pytest.mark.parametrize(
    ("algorithm", "options", "message"),
    [
        ("PPO", {"learning_rate": lambda _: 1e-3}, r"expected a number as learning_rate; got <function"),
        ("PPO", {"learning_rate": 0.1}, r"learning_rate 0\.1 is outside of the bounds \(1e-06, 0\.01\)"),
        ("A2C", {"n_steps": 8}, r"A2C logs no KL divergence \(train/approx_kl\); PPO, RecurrentPPO and MaskablePPO do"),
    ],
)
def test_unsupported_algorithms_are_refused(algorithm: str, options: dict[str, Any], message: str) -> None:
    model = getattr(sb3, algorithm)("MlpPolicy", "Pendulum-v1", device="cpu", **options)
    with pytest.raises(ConfigError, match=message):
        model.learn(64, callback=KLAdaptiveLearningRate())


@pytest.mark.parametrize(
    "options", [{"target": 0}, {"factor": 1}, {"bounds": (1e-2, 1e-3)}, {"bounds": (0, 1e-3)}], ids=str
)
def test_numbers_out_of_their_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected a target above 0, a factor above 1 and bounds"):
        KLAdaptiveLearningRate(**options)


def test_a_config_takes_it_as_a_schedule(tmp_path: Path) -> None:
    settings = (
        "torso.width=8",
        "torso.depth=1",
        "agent.n_steps=32",
        "agent.batch_size=32",
        "env.n_envs=1",
        "eval={every: null, episodes: 1}",
    )
    rate = "agent.learning_rate={schedule: kl_adaptive, target: 1.0e-6, start: 1.0e-3, factor: 2.0}"
    spec = load_config("quickstart", *settings, rate, "total_timesteps=96", f"out={tmp_path}", "device=cpu", "name=run")
    [result] = train(spec, console=Console(file=io.StringIO()))
    table = (result.folder / "progress.csv").read_text()
    torch.testing.assert_close(float(_column(table, "train/learning_rate")[-1]), 5e-4, rtol=1e-6, atol=0)


def _column(table: str, name: str) -> list[str]:
    head, *rows = (line.split(",") for line in table.splitlines())
    return [row[head.index(name)] for row in rows if row[head.index(name)]]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "agent.learning_rate={schedule: cosine}",
            "learning_rate.schedule: unknown name 'cosine'; known are linear, kl_",
        ),
        ("agent.learning_rate={start: 1e-3}", "agent.learning_rate.schedule: missing"),
        (
            "agent.learning_rate={schedule: kl_adaptive, goal: 1}",
            "agent.learning_rate.goal: unknown key; known are sched",
        ),
        (
            "agent.learning_rate={schedule: kl_adaptive, start: 1}",
            "agent.learning_rate.start: 1 is not within the bounds",
        ),
        ("agent.clip_range={schedule: kl_adaptive}", "agent.clip_range.schedule: 'kl_adaptive' is not one of linear"),
    ],
)
def test_a_wrong_schedule_is_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", override)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("agent", ["a2c", "trpo", "sac", "dqn"])
def test_agents_that_log_no_kl_divergence_refuse_it(agent: str) -> None:
    with pytest.raises(ConfigError, match=f"which {agent} does not log; ppo and recurrent_ppo do$"):
        load_config("quickstart", f"agent={agent}", "agent.learning_rate={schedule: kl_adaptive}")

"""Lean algorithms as replacements of Stable-Baselines3's: files, fallbacks, rollouts and side effects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.sac.policies import SACPolicy
from torch import nn

from deltarl import fast
from tests.fast.test_equality import STOCK

OFF_POLICY = ("SAC", "TD3", "DDPG", "TQC", "CrossQ")
SMALL: dict[str, dict[str, Any]] = {
    **{key: {"learning_starts": 20, "buffer_size": 200, "batch_size": 16} for key in OFF_POLICY},
    "PPO": {"n_steps": 16, "batch_size": 8, "n_epochs": 2},
    "A2C": {"n_steps": 8},
}
TORSO = {"torso": {"kind": "delta", "width": 16}}


def make(name: str, library: Any = fast, policy: str = "MlpPolicy", env: Any = "Reacher-v5", **options: Any) -> Any:
    algorithm = STOCK[name] if library is None else getattr(library, name)
    kwargs = options.pop("policy_kwargs", {"net_arch": [16]} if policy == "MlpPolicy" else dict(TORSO))
    return algorithm(policy, env, policy_kwargs=kwargs, seed=0, device="cpu", **{**SMALL[name], **options})


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}


@pytest.mark.parametrize("name", STOCK)
def test_the_constructor_is_stable_baselines3s(name: str) -> None:
    assert issubclass(getattr(fast, name), STOCK[name])
    assert getattr(fast, name).__init__ is STOCK[name].__init__
    assert getattr(fast, name).policy_aliases is STOCK[name].policy_aliases


@pytest.mark.parametrize("name", STOCK)
def test_a_whole_training_learns_what_stable_baselines3_learns(name: str) -> None:
    """This includes rollouts: the same random numbers are drawn in the same order."""
    learned = []
    for library in (fast, None):
        model = make(name, library, env=make_vec_env("Reacher-v5", 2, seed=0))
        model.learn(48)
        learned.append(weights(model))
    start = weights(make(name))
    for key, tensor in learned[1].items():
        torch.testing.assert_close(learned[0][key], tensor, rtol=1e-3, atol=1e-4, msg=f"{key} differs".__add__)
    moved = max(float((tensor - start[key]).abs().max()) for key, tensor in learned[1].items())
    assert moved > 1e-3


@pytest.mark.parametrize("name", STOCK)
@pytest.mark.parametrize("lean_first", [True, False])
def test_files_go_both_ways(name: str, lean_first: bool, tmp_path: Path) -> None:
    """Training then continues from them, including the optimizers."""
    first, second = (getattr(fast, name), STOCK[name]) if lean_first else (STOCK[name], getattr(fast, name))
    env = make_vec_env("Reacher-v5", 1, seed=0)
    model = make(name, fast if lean_first else None, env=env)
    model.learn(40)
    model.save(tmp_path / "model.zip")
    loaded = second.load(tmp_path / "model.zip", env=env, device="cpu")
    assert type(loaded) is second
    for key, tensor in weights(model).items():
        assert torch.equal(weights(loaded)[key], tensor), key
    again = first.load(tmp_path / "model.zip", env=env, device="cpu")
    for each in (loaded, again):
        each.set_random_seed(3)
        each.learn(40, reset_num_timesteps=False)
        groups = [group for _, group in _groups(each)]
        assert not any(group.get("fused") or group.get("capturable") for group in groups)
    for key, tensor in weights(again).items():
        torch.testing.assert_close(weights(loaded)[key], tensor, rtol=1e-3, atol=1e-4, msg=f"{key} differs".__add__)
    for (path, group), (_, other) in zip(_groups(loaded), _groups(again), strict=True):
        assert group == other, path


def _groups(model: Any) -> list[tuple[str, dict[str, Any]]]:
    optimizers = {path: state for path, state in model.get_parameters().items() if "optimizer" in path}
    return [(path, {**group}) for path, state in optimizers.items() for group in state["param_groups"]]


class Image(gym.ObservationWrapper[Any, Any, Any]):
    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(0, 255, (3, 36, 36), np.uint8)

    def observation(self, observation: Any) -> Any:
        return np.full((3, 36, 36), int(abs(observation[0]) * 100) % 256, np.uint8)


class OwnActorCritic(ActorCriticPolicy):
    def evaluate_actions(self, obs: Any, actions: torch.Tensor) -> Any:
        return super().evaluate_actions(obs, actions)


class StillSAC(SACPolicy):
    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        return torch.zeros_like(super()._predict(observation, deterministic))


class Halved(FlattenExtractor):
    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return super().forward(observations) / 2


class OwnSAC(SACPolicy):
    def make_actor(self, features_extractor: Any = None) -> Any:
        actor = super().make_actor(features_extractor)
        actor.__class__ = type("OwnActor", (type(actor),), {})
        return actor


LEFT: dict[str, tuple[str, dict[str, Any]]] = {
    "sac, images": ("SAC", {"policy": "CnnPolicy", "env": lambda: Image(gym.make("Reacher-v5")), "policy_kwargs": {}}),
    "ppo, images": ("PPO", {"policy": "CnnPolicy", "env": lambda: Image(gym.make("Reacher-v5")), "policy_kwargs": {}}),
    "sac, gsde": ("SAC", {"use_sde": True}),
    "ppo, gsde": ("PPO", {"use_sde": True, "policy_kwargs": {}}),
    "ppo, discrete": ("PPO", {"env": "CartPole-v1"}),
    "a2c, discrete": ("A2C", {"env": "CartPole-v1"}),
    "ppo, own policy": ("PPO", {"policy": OwnActorCritic, "policy_kwargs": {}}),
    "sac, own actor": ("SAC", {"policy": OwnSAC, "policy_kwargs": {}}),
    "sac, own prediction": ("SAC", {"policy": StillSAC, "policy_kwargs": {}}),
    "sac, own features": ("SAC", {"policy_kwargs": {"features_extractor_class": Halved}}),
    "sac, dropout": ("SAC", {"policy_kwargs": {"net_arch": [16], "activation_fn": nn.Dropout}}),
    "sac, stochastic depth": (
        "SAC",
        {"policy": "DeltaPolicy", "policy_kwargs": {"torso": {"kind": "residual", "width": 16, "drop_path": 0.5}}},
    ),
    "sac, random slopes": ("SAC", {"policy_kwargs": {"net_arch": [16], "activation_fn": nn.RReLU}}),
    "ppo, goals in features of their own": (
        "PPO",
        {
            "policy": "MultiInputPolicy",
            "env": lambda: gym.make("FetchReach-v4"),
            "policy_kwargs": {"share_features_extractor": False},
        },
    ),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_is_not_known_is_left_to_stable_baselines3(case: str) -> None:
    name, options = LEFT[case]
    options = {**options, "env": options["env"]() if callable(options.get("env")) else options.get("env", "Reacher-v5")}
    learned = []
    for library in (fast, None):
        model = make(name, library, **options)
        model.learn(40)
        learned.append(weights(model))
        if library is fast:
            assert model.lean_update() is None
    for key, tensor in learned[1].items():
        assert torch.equal(learned[0][key], tensor), key


def freeze(model: Any) -> None:
    next(model.policy.parameters()).requires_grad_(False)


def tie(model: Any) -> None:
    networks = model.critic.q_networks if hasattr(model, "critic") else [model.policy.mlp_extractor.policy_net] * 2
    if networks[0] is networks[1]:
        networks[0].append(networks[0][0].__class__(16, 16))
        networks[0].append(networks[0][-1])
    else:
        networks[0][0] = networks[1][0]


def hook(model: Any) -> None:
    model.policy.register_forward_hook(lambda *_: None)


def hook_into_a_gradient(model: Any) -> None:
    next(model.policy.parameters()).register_hook(lambda gradient: gradient)


def shadow(model: Any) -> None:
    model.policy.forward = type(model.policy).forward.__get__(model.policy)


@pytest.mark.parametrize("change", [freeze, tie, hook, hook_into_a_gradient, shadow])
@pytest.mark.parametrize("name", ["SAC", "PPO"])
def test_what_was_changed_is_left_to_stable_baselines3(name: str, change: Any) -> None:
    """It may be changed before the first training or between two trainings."""
    model = make(name)
    model.learn(20)
    assert model.lean_update() is not None
    change(model)
    model.learn(20)
    assert model.lean_update() is None
    assert change is not shadow or "forward" in vars(model.policy)


@pytest.mark.parametrize("name", ["SAC", "PPO"])
def test_an_optimizer_that_takes_the_place_of_another_makes_the_steps(name: str) -> None:
    model = make(name)
    model.learn(40)
    holder = model.policy if name == "PPO" else model.actor
    holder.optimizer = torch.optim.SGD(holder.parameters(), lr=1e-30)
    model.lr_schedule = lambda _: 1e-30
    before = weights(model)
    model.learn(40, reset_num_timesteps=False)
    for key, tensor in weights(model).items():
        assert "critic" in key or torch.allclose(tensor, before[key], atol=1e-12), key


@pytest.mark.parametrize("name", ["SAC", "PPO", "A2C", "TQC"])
def test_a_policy_of_nan_raises_as_stable_baselines3s_does(name: str) -> None:
    """`finite.distributions_named` matches this message."""
    for library in (fast, None):
        model = make(name, library)
        model.learn(20)
        head = model.policy.action_net if name in {"PPO", "A2C"} else model.actor.mu
        with torch.no_grad():
            head.bias.fill_(torch.nan)
        with pytest.raises(ValueError, match=r"Expected parameter loc \((.|\n)*found invalid values"):
            model.learn(20, reset_num_timesteps=False)


def test_observations_to_be_normalized_stay_in_double_precision() -> None:
    """Normalisation leaves small differences of large numbers."""
    env = VecNormalize(make_vec_env("Reacher-v5"))
    assert make("SAC", env=env).replay_buffer.observations.dtype == np.float64
    assert make("SAC").replay_buffer.observations.dtype == np.float32


def test_noise_is_added_to_actions_as_stable_baselines3_adds_it() -> None:
    stored = []
    for library in (fast, None):
        noise = NormalActionNoise(np.zeros(2), np.full(2, 0.5))
        model = make("TD3", library, action_noise=noise)
        model.learn(40)
        stored.append(model.replay_buffer.actions[:40].copy())
    np.testing.assert_allclose(*stored, atol=1e-5)
    assert np.abs(stored[0]).max() <= 1


@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_what_is_done_by_hand_ends_with_the_rollout(name: str) -> None:
    class Look(BaseCallback):
        during: Any = None

        def _on_step(self) -> bool:
            self.during = {"forward", "set_training_mode"} & vars(self.model.policy).keys()
            return True

    look, model = Look(), make(name)
    model.learn(40, callback=look)
    assert look.during
    assert not {"forward", "set_training_mode"} & vars(model.policy).keys()


def test_what_is_done_by_hand_ends_with_an_error_too() -> None:
    class Break(BaseCallback):
        def _on_step(self) -> bool:
            raise KeyboardInterrupt

    model = make("PPO")
    with pytest.raises(KeyboardInterrupt):
        model.learn(40, callback=Break())
    assert "forward" not in vars(model.policy)


def test_a_network_with_modes_is_switched_between_them() -> None:
    """Batch renormalisation has training and evaluation modes."""
    assert not make("SAC").has_modes()
    model = make("CrossQ")
    assert model.has_modes()
    model.learn(40)
    assert model.policy.training


def test_a_policy_that_takes_another_ones_place_is_learned() -> None:
    model, other = make("PPO"), make("PPO")
    model.learn(16)
    model.policy = other.policy
    before = weights(other)
    model.learn(16)
    assert any(not torch.equal(tensor, before[key]) for key, tensor in weights(other).items())


def test_an_early_stop_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    model = make("PPO", target_kl=1e-9, verbose=1)
    model.set_logger(Logger(None, []))
    model.learn(16)
    assert "Early stopping at step 0 due to reaching max kl" in capsys.readouterr().out

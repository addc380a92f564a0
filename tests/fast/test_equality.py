"""Lean training steps equal Stable-Baselines3's, given the same batches and noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import gymnasium as gym
import gymnasium_robotics
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch
from sb3_contrib.common.torch_layers import BatchRenorm1d
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from stable_baselines3.common.utils import LinearSchedule, get_parameters_by_name
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import Tensor

from deltarl import fast
from deltarl.fast import features

gym.register_envs(gymnasium_robotics)

UPDATES = 50
EXACT, SINGLE = 1e-10, 1e-5  # relative, in float64 after 50 updates and in float32 after one
STOCK: Mapping[str, Any] = {
    **{name: getattr(sb3, name) for name in ("SAC", "TD3", "DDPG", "PPO", "A2C")},
    **{name: getattr(sb3_contrib, name) for name in ("TQC", "CrossQ")},
}


class Double(FlattenExtractor):
    """Casts to double precision after Stable-Baselines3 has cast to single."""

    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations).double()


class DoubleOfDict(CombinedExtractor):
    def forward(self, observations: Any) -> Tensor:
        return super().forward(observations).double()


def envs(name: str = "Reacher-v5", n_envs: int = 1) -> VecEnv:
    return make_vec_env(name, n_envs, seed=0)


def normalized() -> VecEnv:
    return VecNormalize(envs())


TORSO = {"width": 16}
DECAY = {"weight_decay": 0.1}
SMALL = {"learning_starts": 60, "batch_size": 32, "buffer_size": 400}
ON_POLICY = {"n_steps": 32}
SAME: Callable[[], VecEnv] = envs


def off_policy(policy: Any = "mlp", env: Callable[[], VecEnv] = envs, **options: Any) -> dict[str, Any]:
    return {"policy": policy, "env": env, **SMALL, **options}


def on_policy(policy: Any = "mlp", env: Callable[[], VecEnv] = envs, **options: Any) -> dict[str, Any]:
    return {"policy": policy, "env": env, **ON_POLICY, **options}


def ppo(policy: Any = "mlp", **options: Any) -> dict[str, Any]:
    return on_policy(policy, n_epochs=13, batch_size=8, **options)


# Small heads and a small start: blocks that erase (docs/mechanism.md).
ERASING = {"kind": "delta", "head_width": 4, "value_start": 0.25, "beta_init": 0.5}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sac": ("SAC", off_policy()),
    "sac, residual": ("SAC", off_policy("residual")),
    "sac, delta": ("SAC", off_policy("delta")),
    "sac, delta that erases": ("SAC", off_policy(ERASING)),
    "sac, delta that only writes": ("SAC", off_policy({**ERASING, "update": "write_only"})),
    "sac, delta with channels": ("SAC", off_policy({"kind": "delta", "channels": 2})),
    "sac, simbav2": ("SAC", off_policy("simbav2")),
    "sac, products": ("SAC", off_policy({"kind": "delta", "products": 2, "residual_scale": 0.5})),
    "sac, sandwich": ("SAC", off_policy({"kind": "residual", "norm_position": "sandwich", "sublayers": 2})),
    "sac, norms behind": ("SAC", off_policy({"kind": "delta", "norm_position": "post", "activation": "tanh"})),
    "sac, no norm": ("SAC", off_policy({"kind": "delta", "norm": "none", "sphere": True})),
    "sac, bronet": ("SAC", off_policy("bronet")),
    "sac, fixed coefficient": ("SAC", off_policy(ent_coef=0.1)),
    "sac, normalized": ("SAC", off_policy(env=normalized)),
    "sac, steps ahead": ("SAC", off_policy(n_steps=3)),
    "sac, targets now and then": ("SAC", off_policy(target_update_interval=3)),
    "sac, schedule": ("SAC", off_policy(learning_rate=LinearSchedule(1e-3, 1e-4, 1.0))),
    "sac, three critics": ("SAC", off_policy(policy_kwargs={"n_critics": 3})),
    "sac, decay": (
        "SAC",
        off_policy(
            "delta", policy_kwargs={"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.1}}
        ),
    ),
    "sac, goals": (
        "SAC",
        off_policy(
            "delta",
            env=lambda: envs("FetchReach-v4"),
            replay_buffer_class=HerReplayBuffer,
        ),
    ),
    "sac, batch renorm": ("SAC", off_policy({"kind": "delta", "norm": "batch_renorm"})),
    "tqc, batch renorm": ("TQC", off_policy({"kind": "delta", "norm": "batch_renorm"})),
    "td3": ("TD3", off_policy()),
    "td3, delta": ("TD3", off_policy("delta")),
    "ddpg, delta": ("DDPG", off_policy("delta")),
    "tqc": ("TQC", off_policy(top_quantiles_to_drop_per_net=5)),
    "tqc, delta": ("TQC", off_policy("delta")),
    "crossq": ("CrossQ", off_policy(policy_kwargs={"net_arch": [16]})),
    "crossq, delta": ("CrossQ", off_policy("delta")),
    "ppo": ("PPO", ppo()),
    "ppo, simbav2": ("PPO", ppo("simbav2")),
    "ppo, delta": ("PPO", ppo("delta", env=lambda: envs(n_envs=2))),
    "ppo, delta that erases": ("PPO", ppo(ERASING, env=lambda: envs(n_envs=2))),
    "ppo, delta that only writes": ("PPO", ppo({"kind": "delta", "update": "write_only"})),
    "ppo, orthogonal": ("PPO", ppo({"kind": "delta", "update": "orthogonal", "residual_scale": 0.5})),
    "ppo, residual": ("PPO", ppo("residual")),
    "ppo, normalized": ("PPO", ppo(env=normalized)),
    "ppo, bounded values": ("PPO", ppo(clip_range_vf=0.05, ent_coef=0.01, clip_range=LinearSchedule(0.05, 0.01, 1.0))),
    "ppo, early stop": ("PPO", ppo("delta", target_kl=0.01)),
    "ppo, advantages as they are": ("PPO", ppo(normalize_advantage=False)),
    "a2c": ("A2C", on_policy()),
    "a2c, delta": ("A2C", on_policy("delta", ent_coef=0.01, normalize_advantage=True)),
    "crossq, past its warm-up": ("CrossQ", off_policy(policy_kwargs={"net_arch": [16], "batch_norm_momentum": 0.5})),
    "a2c, adam": ("A2C", on_policy("delta", use_rms_prop=False)),
}


def make(algorithm: Any, given: Mapping[str, Any], double: bool) -> Any:
    options = {**given}
    policy, env = options.pop("policy"), options.pop("env")()
    kwargs = {**options.pop("policy_kwargs", {})}
    goals = isinstance(env.observation_space, gym.spaces.Dict)
    alias = "MultiInputPolicy" if goals else "MlpPolicy"
    if policy == "mlp":
        kwargs.setdefault("net_arch", [16, 16])
    else:
        alias = f"Delta{alias.removeprefix('Mlp')}"
        kwargs["torso"] = {**TORSO, **(policy if isinstance(policy, dict) else {"kind": policy})}
        if algorithm.__name__ == "CrossQ":
            kwargs["torso"]["norm"] = "batch_renorm"
    # Lean steps cast flat observations to the precision of the networks themselves.
    if double and (goals or algorithm.__module__.split(".")[0] != "deltarl"):
        kwargs["features_extractor_class"] = DoubleOfDict if goals else Double
    model = algorithm(alias, env, policy_kwargs=kwargs, seed=0, device="cpu", **options)
    if double:
        model.policy.double()
        if hasattr(model, "batch_norm_stats"):  # which were taken before the cast
            for name, critic in (("", model.critic), ("_target", model.critic_target)):
                setattr(model, f"batch_norm_stats{name}", get_parameters_by_name(critic, ["running_"]))
        if getattr(model, "log_ent_coef", None) is not None:
            model.log_ent_coef = model.log_ent_coef.detach().double().requires_grad_()
            model.ent_coef_optimizer = torch.optim.Adam([model.log_ent_coef], lr=3e-4)
    return model


def pair(case: str, double: bool) -> tuple[Any, Any]:
    """A stock and a lean algorithm with the same weights and the same experience."""
    name, options = CASES[case]
    theirs = make(STOCK[name], options, double)
    ours = make(getattr(fast, name), options, double)
    if "past" in case:
        for model in (ours, theirs):
            for module in model.policy.modules():
                if isinstance(module, BatchRenorm1d):
                    module.warmup_steps = 20
    ours.policy.load_state_dict(theirs.policy.state_dict())
    # This fills the buffers without learning.
    theirs.train = lambda *_, **__: None
    theirs.learn(32 if "n_epochs" in options or name == "A2C" else 120)
    del theirs.train
    for buffer in (getattr(theirs, "replay_buffer", None), getattr(theirs, "rollout_buffer", None)):
        for name in ("observations", "next_observations"):
            # Stable-Baselines3 rounds to single precision what its extractor then casts up.
            if isinstance(array := getattr(buffer, name, None), np.ndarray) and "normalized" not in case:
                setattr(buffer, name, array.astype(np.float32))
    if isinstance(theirs, OffPolicyAlgorithm):
        ours.replay_buffer = theirs.replay_buffer
        ours._vec_normalize_env = theirs._vec_normalize_env
    else:
        ours.rollout_buffer = deepcopy(theirs.rollout_buffer)
    for model in (ours, theirs):
        model._current_progress_remaining = 0.7
        model.set_logger(Logger(None, []))
        model.policy.set_training_mode(False)
    return ours, theirs


def update(model: BaseAlgorithm, updates: int) -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    if isinstance(model, OffPolicyAlgorithm):
        model.train(updates, 30)  # not a power of two, by which division would be exact
        return
    for _ in range(updates if isinstance(model, sb3.A2C) else 1):
        model.train()


def assert_same(ours: Any, theirs: Any, relative: float) -> None:
    absolute = relative / 10
    parameters, expected = ours.get_parameters(), theirs.get_parameters()
    assert parameters.keys() == expected.keys()
    flat, flat_expected = _leaves(parameters), _leaves(expected)
    assert flat.keys() == flat_expected.keys()
    for path, value in flat_expected.items():
        told = f"{path} differs: "
        torch.testing.assert_close(flat[path], value, rtol=relative, atol=absolute, msg=told.__add__)
    if getattr(theirs, "log_ent_coef", None) is not None:
        torch.testing.assert_close(ours.log_ent_coef, theirs.log_ent_coef, rtol=relative, atol=absolute)
    logged, their_logged = ours.logger.name_to_value, theirs.logger.name_to_value
    assert logged.keys() == their_logged.keys()
    for key, value in their_logged.items():
        assert logged[key] == pytest.approx(value, rel=relative, abs=absolute), key
    assert ours._n_updates == theirs._n_updates


def _leaves(tree: Any, path: str = "") -> dict[str, Any]:
    if isinstance(tree, Mapping):
        return {name: leaf for key, value in tree.items() for name, leaf in _leaves(value, f"{path}/{key}").items()}
    if isinstance(tree, list | tuple):
        return _leaves(dict(enumerate(tree)), path)
    return {path: tree} if isinstance(tree, Tensor) or type(tree) in {int, float} else {}


@pytest.fixture(autouse=True)
def _extractors_that_cast_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "EXTRACTORS", {*features.EXTRACTORS, Double, DoubleOfDict})


@pytest.mark.parametrize("case", CASES)
def test_fifty_updates_in_double_precision(case: str) -> None:
    ours, theirs = pair(case, double=True)
    assert ours.lean_update() is not None
    for model in (ours, theirs):
        update(model, UPDATES)
    assert_same(ours, theirs, EXACT)


@pytest.mark.parametrize("case", CASES)
def test_one_update_in_single_precision(case: str) -> None:
    ours, theirs = pair(case, double=False)
    if CASES[case][0] == "PPO":
        for model in (ours, theirs):
            model.n_epochs, model.batch_size = 1, 32 * model.n_envs
    for model in (ours, theirs):
        update(model, 1)
    assert_same(ours, theirs, SINGLE)

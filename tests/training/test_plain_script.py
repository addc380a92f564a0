"""A run from a config learns exactly what a plain Stable-Baselines3 script with the same settings learns."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from sb3_contrib import TQC
from stable_baselines3 import PPO, SAC, TD3, HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecNormalize

from deltarl import fast, load_config, load_run, train

# A copy, because SB3 adds to the dict.
TORSO = {"torso": {"kind": "delta", "width": 16, "depth": 2}}


def plain_ppo(algorithm: Any) -> Any:
    env = VecNormalize(make_vec_env("Hopper-v5", n_envs=2, seed=3), gamma=0.9)
    return algorithm(
        "DeltaPolicy", env, n_steps=32, batch_size=16, n_epochs=2, gamma=0.9, policy_kwargs=dict(TORSO), seed=3
    )


def plain_sac(algorithm: Any) -> Any:
    env = make_vec_env("HalfCheetah-v5", n_envs=1, seed=3)
    return algorithm("DeltaPolicy", env, learning_starts=50, batch_size=16, policy_kwargs=dict(TORSO), seed=3)


def plain_td3(algorithm: Any) -> Any:
    env = make_vec_env("HalfCheetah-v5", n_envs=1, seed=3)
    noise = NormalActionNoise(np.zeros(6), np.full(6, 0.1))
    return algorithm(
        "DeltaPolicy", env, learning_starts=50, batch_size=16, action_noise=noise, policy_kwargs=dict(TORSO), seed=3
    )


def plain_tqc_her(algorithm: Any) -> Any:
    env = make_vec_env("FetchReach-v4", n_envs=1, seed=3)
    return algorithm(
        "DeltaMultiInputPolicy",
        env,
        learning_starts=60,
        batch_size=16,
        gamma=0.95,
        tau=0.05,
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
        policy_kwargs=dict(TORSO),
        seed=3,
    )


OFF_POLICY = ("agent.batch_size=16",)
SCRIPTS: dict[str, tuple[Any, tuple[Any, Any], str, tuple[str, ...]]] = {
    "ppo": (
        plain_ppo,
        (PPO, fast.PPO),
        "quickstart",
        (
            "env.n_envs=2",
            "agent.n_steps=32",
            "agent.batch_size=16",
            "agent.n_epochs=2",
            "agent.gamma=0.9",
            "agent.target_kl=null",
        ),
    ),
    "sac": (plain_sac, (SAC, fast.SAC), "half_cheetah_sac", ("agent.learning_starts=50", *OFF_POLICY)),
    "td3": (plain_td3, (TD3, fast.TD3), "half_cheetah_td3", ("agent.learning_starts=50", *OFF_POLICY)),
    "tqc_her": (
        plain_tqc_her,
        (TQC, fast.TQC),
        "fetch_push_tqc_her",
        ("env=fetch_reach", "agent.learning_rate=3.0e-4", "agent.learning_starts=60", *OFF_POLICY),
    ),
}


@pytest.mark.parametrize(
    ("name", "implementation"),
    [
        *(pytest.param(name, "deltarl", marks=[pytest.mark.slow] if name == "tqc_her" else []) for name in SCRIPTS),
        ("ppo", "sb3"),
        # tests/fast/test_equality.py covers that both implementations learn the same.
        *(pytest.param(name, "sb3", marks=pytest.mark.slow) for name in SCRIPTS if name != "ppo"),
    ],
)
def test_the_weights_are_the_same_bit_for_bit(name: str, implementation: str, tmp_path: Path) -> None:
    script, algorithms, config, overrides = SCRIPTS[name]
    # The second evaluation interrupts only the run's training.
    common = (
        "total_timesteps=128",
        "torso.width=16",
        "seeds=[3]",
        "env.seeding=consecutive",
        "eval.episodes=1",
        "eval.max_episode_steps=60",
        "eval.every=70",
        "device=cpu",
    )
    spec = load_config(
        config, *overrides, *common, f"agent.implementation={implementation}", f"out={tmp_path}", "name=run"
    )
    [result] = train(spec, console=Console(file=io.StringIO()))
    theirs = script(algorithms[implementation == "deltarl"])
    theirs.learn(128)
    ours = load_run(result.folder, device="cpu").policy.state_dict()
    for key, tensor in theirs.policy.state_dict().items():
        assert torch.equal(tensor.cpu(), ours[key]), key

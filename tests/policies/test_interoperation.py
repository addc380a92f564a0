"""Policies with other software: RL Zoo, action masks, torch.compile, plain scripts, user-defined blocks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import forked
import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import TRPO, MaskablePPO
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

import deltarl
from deltarl.torsos import CustomTorsoSpec, DeltaBlock, DeltaTorsoSpec, Torso
from tests.policies.matrix import KINDS, SUBJECTS, ScaledBlock, actions, make, sample_observations

BY_ALGORITHM = {subject.algorithm: subject for subject in SUBJECTS}


def printed(ended: forked.Ended) -> str:
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


# RL Zoo


def test_rl_zoo_trains_a_policy_named_by_its_import_path(tmp_path: Path) -> None:
    (tmp_path / "sac.yml").write_text(
        """
Reacher-v5:
  n_timesteps: 150
  policy: deltarl.policies.DeltaSACPolicy
  learning_starts: 100
  policy_kwargs: {torso: {kind: delta, width: 16}, critic_torso: {depth: 3}}
"""
    )
    options = "--algo sac --env Reacher-v5 --conf-file sac.yml --log-folder logs --eval-freq -1 --device cpu --seed 0"
    printed(forked.module("rl_zoo3.train", options.split(), tmp_path))
    model = SAC.load(tmp_path / "logs" / "sac" / "Reacher-v5_1" / "Reacher-v5.zip", device="cpu")
    assert type(model.policy) is deltarl.policies.DeltaSACPolicy
    assert (model.policy.actor_torso.depth, model.policy.critic_torso.depth) == (2, 3)
    assert model.num_timesteps == 150


# Action masks


class Recorder(gym.Wrapper[Any, Any, Any, Any]):
    """Records the actions."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.taken: set[int] = set()

    def step(self, action: Any) -> Any:
        self.taken.add(int(action))
        return super().step(action)


@pytest.mark.parametrize("kind", ["delta", "residual"])
def test_masked_actions_are_never_taken(kind: str) -> None:
    forces = np.linspace(-3, 3, 5, dtype=np.float32)[:, None]
    pendulum = gym.make("InvertedPendulum-v5")
    env = Recorder(gym.wrappers.TransformAction(pendulum, lambda action: forces[action], spaces.Discrete(5)))
    masked = ActionMasker(env, lambda _: np.array([True, False, True, False, True]))
    subject = BY_ALGORITHM[MaskablePPO]
    policy_kwargs = {"torso": KINDS[kind]}
    model = MaskablePPO("DeltaPolicy", masked, policy_kwargs=policy_kwargs, seed=0, device="cpu", **subject.options)
    model.learn(64)
    assert env.taken == {0, 2, 4}
    batch = sample_observations(model)
    for allowed in range(5):
        chosen, _ = model.predict(batch, action_masks=np.tile(np.arange(5) == allowed, (len(batch), 1)))
        assert set(chosen.tolist()) == {allowed}


# torch.compile


@pytest.mark.parametrize(
    ("algorithm", "backend"),
    [
        (PPO, "aot_eager"),
        (SAC, "aot_eager"),
        pytest.param(PPO, "inductor", marks=pytest.mark.slow),
        pytest.param(SAC, "inductor", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning"
)  # a warning of PyTorch's own during compilation
@pytest.mark.usefixtures("compiler")
def test_a_compiled_policy_acts_and_trains(algorithm: Any, backend: str) -> None:
    model = make(BY_ALGORITHM[algorithm], torso=KINDS["delta"])
    batch, _ = model.policy.obs_to_tensor(sample_observations(model))
    with torch.no_grad():
        expected = model.policy(batch, deterministic=True)
        model.policy = torch.compile(model.policy, backend=backend)
        torch.testing.assert_close(model.policy(batch, deterministic=True), expected)
    model.learn(32)
    assert np.isfinite(actions(model, sample_observations(model))).all()


# Exported weights


def test_a_run_is_used_by_a_plain_script_that_only_imports_deltarl(tmp_path: Path) -> None:
    overrides = [
        "total_timesteps=64",
        "agent.n_steps=32",
        "agent.batch_size=32",
        "env.n_envs=1",
        "eval.episodes=1",
        "eval.every=null",
    ]
    config = deltarl.load_config("quickstart", *overrides, f"out={tmp_path / 'runs'}", "name=plain", "torso.width=16")
    [result] = deltarl.train(config)
    script = f"""
import deltarl
import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

model = PPO.load(r"{result.folder / "model.zip"}", device="cpu")
env = VecNormalize.load(r"{result.folder / "vecnormalize.pkl"}", make_vec_env("Hopper-v5", seed=5))
env.training = False
fresh = PPO("DeltaPolicy", env, policy_kwargs={{"torso": {{"width": 16}}}}, n_steps=32, batch_size=32, device="cpu")
fresh.set_parameters(r"{result.folder / "model.zip"}")
obs = env.reset()
for policy in (model, fresh):
    print(policy.predict(obs, deterministic=True)[0].tolist())
model.set_env(env)
model.learn(32)
"""
    (tmp_path / "plain.py").write_text(script)
    loaded, filled = printed(forked.script(tmp_path / "plain.py", [], tmp_path)).splitlines()
    assert loaded == filled
    assert "nan" not in loaded


# User-defined blocks


class ClippedDelta(DeltaBlock):
    """A Delta block with a bounded direction: a user's class derived from one of the library."""

    def __init__(self, spec: CustomTorsoSpec) -> None:
        super().__init__(DeltaTorsoSpec(width=spec.width, hidden=spec.hidden, heads=2, beta_init=0.3))

    def rewrite(self, state: Tensor, k: Tensor, source: Tensor) -> Tensor:
        return super().rewrite(state, k.clamp(-0.5, 0.5), source)


class ValueBlock(nn.Module):
    """A block whose Linear TRPO would leave out of the policy's step."""

    def __init__(self, spec: CustomTorsoSpec) -> None:
        super().__init__()
        self.value = nn.Linear(spec.width, spec.width)


OWN: dict[str, dict[str, Any]] = {
    "with an option": {"kind": "custom", "width": 16, "depth": 1, "block": partial(ScaledBlock, gain=0.1)},
    "upon the library's": {"kind": "custom", "width": 16, "depth": 2, "hidden": 8, "block": ClippedDelta},
}


@pytest.mark.parametrize("algorithm", [PPO, SAC, DQN])
@pytest.mark.parametrize("form", OWN)
def test_a_user_defined_block_trains_and_loads(algorithm: type[BaseAlgorithm], form: str, tmp_path: Path) -> None:
    model = make(BY_ALGORITHM[algorithm], torso=OWN[form])
    before = {name: tensor.clone() for name, tensor in model.policy.named_parameters()}
    model.learn(32)
    moved = {name for name, tensor in model.policy.named_parameters() if not torch.equal(tensor, before[name])}
    assert moved == before.keys()
    model.save(tmp_path / "model.zip")
    model.policy.save(tmp_path / "policy.pt")
    batch = sample_observations(model)
    for loaded in (
        algorithm.load(tmp_path / "model.zip", device="cpu"),
        type(model.policy).load(tmp_path / "policy.pt", device="cpu"),
    ):
        assert np.array_equal(actions(loaded, batch), actions(model, batch))


def test_a_user_defined_block_keeps_its_initialisation() -> None:
    policy = make(BY_ALGORITHM[PPO], torso=KINDS["custom"]).policy
    blocks = [module for module in policy.modules() if isinstance(module, ScaledBlock)]
    assert len(blocks) == 4
    assert all(torch.equal(block.linear.weight, torch.eye(16)) for block in blocks)


def test_a_role_can_have_a_user_defined_block_and_another_depth() -> None:
    policy = make(BY_ALGORITHM[SAC], torso=KINDS["custom"], actor_torso="residual", critic_torso={"depth": 3}).policy
    assert (policy.actor_torso.kind, policy.actor_torso.width) == ("residual", 16)
    assert (policy.critic_torso.kind, policy.critic_torso.depth) == ("custom", 3)
    [torso] = (module for module in policy.critic.qf0 if isinstance(module, Torso))
    assert [type(block) for block in torso.blocks] == [ScaledBlock] * 3


def test_a_block_whose_parameters_trpo_would_overlook_is_refused() -> None:
    torso = {"kind": "custom", "width": 16, "block": ValueBlock}
    with pytest.raises(deltarl.ConfigError, match=r"torso\.block: .*ValueBlock.*'value\.weight'.*TRPO"):
        make(BY_ALGORITHM[TRPO], torso=torso)

"""Torsos inside the policies of PPO and SAC: sizes, initialisation, gradients, saving, messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file

import deltarl
from deltarl.blocks import DeltaBlock
from deltarl.torso import Torso

ALGORITHMS: dict[type[BaseAlgorithm], dict[str, Any]] = {
    PPO: {"n_steps": 16, "batch_size": 8, "n_epochs": 2},
    SAC: {"learning_starts": 8, "batch_size": 8, "buffer_size": 200},
}
SMALL: dict[str, dict[str, Any]] = {
    "delta": {"kind": "delta", "width": 16, "depth": 2, "heads": 2},
    "residual": {"kind": "residual", "width": 16, "depth": 1},
    "plain": {"kind": "plain", "width": 16, "depth": 1},
    "mlp": {"kind": "mlp", "net_arch": [16, 8]},
}


class DictEnv(gym.Env[dict[str, np.ndarray], np.ndarray]):
    """A target and a position: the agent is paid for moving towards it."""

    observation_space = spaces.Dict({"position": spaces.Box(-1, 1, (3,)), "goal": spaces.Box(-1, 1, (2,))})
    action_space = spaces.Box(-1, 1, (2,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._left = 10
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        self._left -= 1
        return self._observe(), float(-np.square(action).sum()), False, self._left == 0, {}

    def _observe(self) -> dict[str, np.ndarray]:
        return {
            key: self.np_random.uniform(-1, 1, space.shape).astype(np.float32)
            for key, space in self.observation_space.spaces.items()
        }


def box_env() -> gym.Env[Any, Any]:
    return gym.make("Reacher-v5")


def image_env() -> gym.Env[Any, Any]:
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=False)
    env.observation_space.seed(0)  # where its images come from
    return env


OBSERVATIONS = {
    "DeltaPolicy": box_env,
    "DeltaMultiInputPolicy": DictEnv,
    "DeltaCnnPolicy": image_env,
}


def make(algorithm: type[BaseAlgorithm], alias: str = "DeltaPolicy", **policy_kwargs: Any) -> Any:
    options = {**ALGORITHMS[algorithm], **policy_kwargs.pop("options", {})}
    return algorithm(alias, OBSERVATIONS[alias](), policy_kwargs=policy_kwargs, seed=0, device="cpu", **options)


def observations(model: BaseAlgorithm, rows: int = 5) -> Any:
    model.observation_space.seed(1)
    sampled = [model.observation_space.sample() for _ in range(rows)]
    if isinstance(model.observation_space, spaces.Dict):
        return {key: np.stack([row[key] for row in sampled]) for key in sampled[0]}
    return np.stack(sampled)


def actions(policy: BasePolicy | BaseAlgorithm, batch: Any) -> np.ndarray:
    return policy.predict(batch, deterministic=True)[0]


def torsos(model: BaseAlgorithm) -> list[Torso]:
    return [module for module in model.policy.modules() if isinstance(module, Torso)]


both = pytest.mark.parametrize("algorithm", ALGORITHMS)
every_kind = pytest.mark.parametrize("kind", SMALL)


@both
@every_kind
@pytest.mark.parametrize("alias", OBSERVATIONS)
def test_it_trains_and_every_parameter_moves(algorithm: type[BaseAlgorithm], kind: str, alias: str) -> None:
    model = make(algorithm, alias, torso=SMALL[kind])
    before = {name: parameter.clone() for name, parameter in model.policy.named_parameters()}
    model.learn(32)
    still = {name for name, parameter in model.policy.named_parameters() if torch.equal(parameter, before[name])}
    assert still == set()


@both
@every_kind
@pytest.mark.parametrize("alias", OBSERVATIONS)
def test_a_saved_model_acts_the_same_when_loaded(
    algorithm: type[BaseAlgorithm], kind: str, alias: str, tmp_path: Path
) -> None:
    model = make(algorithm, alias, torso=SMALL["plain"], critic_torso=SMALL[kind], actor_torso=SMALL[kind])
    model.learn(32)
    batch = observations(model)
    model.save(tmp_path / "model.zip")
    model.policy.save(tmp_path / "policy.pt")
    whole = algorithm.load(tmp_path / "model.zip", device="cpu")
    alone = type(model.policy).load(tmp_path / "policy.pt", device="cpu")
    assert np.array_equal(actions(whole, batch), actions(model, batch))
    assert np.array_equal(actions(alone, batch), actions(model, batch))


@both
@pytest.mark.parametrize(
    "policy_kwargs",
    [
        {"share_features_extractor": True},
        {"share_features_extractor": False},
        {"actor_torso": SMALL["residual"], "critic_torso": {"width": 32, "depth": 3, "heads": 4}},
        {"torso": "plain", "actor_torso": {"kind": "mlp", "net_arch": [5], "activation": "tanh"}},
        {"torso": {"kind": "delta", "width": 16, "channels": 4}, "options": {"use_sde": True}},
    ],
    ids=["shared", "apart", "roles", "mixed", "gsde"],
)
def test_options_survive_saving_the_policy_alone(
    algorithm: type[BaseAlgorithm], policy_kwargs: dict[str, Any], tmp_path: Path
) -> None:
    model = make(algorithm, **policy_kwargs)
    model.policy.save(tmp_path / "policy.pt")
    loaded = type(model.policy).load(tmp_path / "policy.pt", device="cpu")
    assert loaded.share_features_extractor == model.policy.share_features_extractor
    assert (loaded.actor_torso, loaded.critic_torso) == (model.policy.actor_torso, model.policy.critic_torso)
    batch = observations(model)
    assert np.array_equal(actions(loaded, batch), actions(model, batch))


@both
@pytest.mark.parametrize(
    ("alias", "own"),
    [("DeltaPolicy", "MlpPolicy"), ("DeltaMultiInputPolicy", "MultiInputPolicy"), ("DeltaCnnPolicy", "CnnPolicy")],
)
def test_an_mlp_torso_is_stable_baselines3_own_policy_bit_for_bit(
    algorithm: type[BaseAlgorithm], alias: str, own: str
) -> None:
    ours = make(algorithm, alias, torso="mlp").learn(32)
    theirs = algorithm(own, OBSERVATIONS[alias](), seed=0, device="cpu", **ALGORITHMS[algorithm]).learn(32)
    expected = theirs.policy.state_dict()
    assert ours.policy.state_dict().keys() == expected.keys()
    for name, value in ours.policy.state_dict().items():
        assert torch.equal(value, expected[name]), name


@both
def test_gates_start_at_beta_init_and_the_stem_as_the_torso_made_it(algorithm: type[BaseAlgorithm]) -> None:
    model = make(algorithm, torso={**SMALL["delta"], "beta_init": 0.3})
    found = torsos(model)
    assert len(found) == {PPO: 2, SAC: 5}[algorithm]
    for torso in found:
        for block in torso.blocks:
            assert isinstance(block, DeltaBlock)
            _, beta = block.value_and_gate(torch.randn(7, 16))
            torch.testing.assert_close(beta, torch.full_like(beta, 0.3))
        # SB3 re-initialises PPO's networks with gain sqrt(2); the torso's stem has gain 1.
        singular = torch.linalg.svdvals(torso.stem.weight)
        torch.testing.assert_close(singular, torch.ones_like(singular))


def test_q_is_not_linear_in_the_action() -> None:
    model = make(SAC, torso=SMALL["delta"])
    batch, _ = model.policy.obs_to_tensor(observations(model, 1))
    with torch.no_grad():
        low, middle, high = (model.critic(batch, torch.full((1, 2), a))[0] for a in (-1.0, 0.0, 1.0))
    assert not torch.allclose(low + high, 2 * middle, atol=1e-4)


def test_twin_critics_differ_and_targets_equal_them() -> None:
    model = make(SAC, torso=SMALL["delta"])
    first, second = (network.state_dict() for network in model.critic.q_networks)
    assert not torch.equal(first["0.stem.weight"], second["0.stem.weight"])
    for name, value in model.critic.state_dict().items():
        assert torch.equal(model.critic_target.state_dict()[name], value)


def test_targets_follow_parameters_and_running_statistics() -> None:
    model = make(SAC, torso={**SMALL["delta"], "norm": "batch_renorm"}, options={"tau": 1.0})
    model.learn(32)
    online, target = model.critic.state_dict(), model.critic_target.state_dict()
    for name, value in online.items():
        if not name.endswith(".steps"):
            assert torch.equal(target[name], value), name
    assert any(name.endswith("running_mean") and value.any() for name, value in target.items())


@both
def test_weight_decay_leaves_gates_norms_and_biases_alone_also_after_a_load(
    algorithm: type[BaseAlgorithm], tmp_path: Path
) -> None:
    options = {"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.1}}
    model = make(algorithm, torso=SMALL["delta"], **options)
    model.save(tmp_path / "model.zip")
    loaded = algorithm.load(tmp_path / "model.zip", env=box_env(), device="cpu")
    loaded.learn(16)
    for tested in (model, loaded):
        owner = tested.policy if algorithm is PPO else tested.policy.actor
        names = {id(parameter): name for name, parameter in owner.named_parameters()}
        decayed, spared = (
            {
                names[id(p)]
                for group in owner.optimizer.param_groups
                if group["weight_decay"] == d
                for p in group["params"]
            }
            for d in (0.1, 0.0)
        )
        assert decayed | spared == set(names.values())
        assert not decayed & spared
        assert all("write" in name or "norm" in name or name.endswith("bias") or name == "log_std" for name in spared)
        assert not any("write" in name or "norm" in name or name.endswith("bias") for name in decayed)


@both
def test_an_mlp_keeps_the_one_parameter_group_of_stable_baselines3(algorithm: type[BaseAlgorithm]) -> None:
    model = make(algorithm, torso="mlp", optimizer_kwargs={"weight_decay": 0.1})
    owner = model.policy if algorithm is PPO else model.policy.critic
    assert len(owner.optimizer.param_groups) == 1


def test_a_role_can_be_an_mlp_beside_a_torso_with_the_algorithms_own_widths() -> None:
    policy = make(SAC, torso=SMALL["delta"], critic_torso="mlp").policy
    assert [m.out_features for m in policy.critic.qf0 if isinstance(m, torch.nn.Linear)] == [256, 256, 1]
    assert isinstance(policy.actor.latent_pi[0], Torso)


@both
def test_dict_observations_are_sent_to_the_policy_that_takes_them(algorithm: type[BaseAlgorithm]) -> None:
    with pytest.raises(deltarl.ConfigError, match='Dict observations need "DeltaMultiInputPolicy"'):
        algorithm("DeltaPolicy", DictEnv(), device="cpu", **ALGORITHMS[algorithm])


def test_options_that_are_none_are_as_good_as_not_given() -> None:
    policy = make(PPO, torso=None, actor_torso=None, net_arch=None, activation_fn=None).policy
    assert policy.actor_torso == policy.critic_torso == deltarl.DeltaTorsoSpec()


def test_gsde_keeps_its_log_std_from_decay() -> None:
    options = {"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.1}}
    policy = make(PPO, torso=SMALL["delta"], options={"use_sde": True}, **options).policy
    [spared] = [group["params"] for group in policy.optimizer.param_groups if not group["weight_decay"]]
    assert any(parameter is policy.log_std for parameter in spared)


def test_trpo_would_find_no_value_in_the_path_of_an_actors_parameter() -> None:
    policy = make(PPO, torso={**SMALL["delta"], "gate_layers": 2, "direction": "generator"}).policy
    paths = [name for name, _ in policy.mlp_extractor.policy_net.named_parameters()]
    assert paths
    assert not any("value" in name for name in paths)


def test_the_zip_names_the_policy_by_import_path_and_the_torso_as_plain_data(tmp_path: Path) -> None:
    model = make(SAC, torso=SMALL["delta"])
    model.save(tmp_path / "model.zip")
    data, _, _ = load_from_zip_file(tmp_path / "model.zip", device="cpu")
    assert data is not None
    assert data["policy_class"] is deltarl.policies.DeltaSACPolicy
    assert data["policy_kwargs"]["torso"] == SMALL["delta"]


@both
@pytest.mark.parametrize(
    ("policy_kwargs", "message"),
    [
        ({"torso": {"kind": "delta", "wdth": 8}}, "torso.wdth: unknown key; did you mean 'width'?"),
        ({"torso": {"kind": "detla"}}, "torso.kind: unknown name 'detla'; did you mean 'delta'?"),
        ({"torso": "residual", "critic_torso": {"depth": 0}}, "critic_torso.depth: input should be greater than or"),
        ({"torso": {"kind": "delta", "heads": 3}}, "torso.heads: 3 heads do not divide width 128; use one of 1, 2, 4"),
        ({"net_arch": [64]}, "net_arch: a torso has width, depth and hidden in its place"),
        ({"activation_fn": torch.nn.ReLU}, "activation_fn: a torso has activation in its place"),
        ({"torso": 3}, "a torso is a kind, a mapping or a spec; got 3"),
        ({"actor_torso": ""}, "actor_torso.kind: unknown name ''"),
        ({"torsoo": "delta"}, "policy_kwargs: unknown option 'torsoo'; did you mean 'torso'?"),
        (
            {"torso": {"kind": "mlp", "activation": "relu"}, "critic_torso": {"activation": "tanh"}},
            "two mlp torsos must name the same one",
        ),
    ],
)
def test_a_wrong_option_is_named(algorithm: type[BaseAlgorithm], policy_kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(deltarl.ConfigError) as caught:
        make(algorithm, **policy_kwargs)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)

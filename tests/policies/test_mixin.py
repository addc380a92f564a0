"""The policy options for torsos, and the messages for invalid ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import ARS, QRDQN, CrossQ, RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file
from torch import nn

import deltarl
from deltarl.policies import DeltaDQNPolicy, policies_of
from deltarl.torsos import Torso
from deltarl.torsos.layers import BatchRenorm
from tests.policies.matrix import KINDS, SUBJECTS, PointEnv, Subject, make

BY_ALGORITHM = {subject.algorithm: subject for subject in SUBJECTS}
every_algorithm = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
families = pytest.mark.parametrize("algorithm", [PPO, SAC, DQN])

DECAY: dict[str, Any] = {"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.1}}


def message_of(make_it: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(deltarl.ConfigError) as caught:
        make_it(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Options


@families
def test_options_that_are_none_count_as_not_given(algorithm: type[BaseAlgorithm]) -> None:
    policy = make(BY_ALGORITHM[algorithm], torso=None, actor_torso=None, net_arch=None, activation_fn=None).policy
    assert {getattr(policy, role) for role in policy.roles} == {deltarl.DeltaTorsoSpec()}


@pytest.mark.parametrize(
    "torso",
    [{"kind": "residual", "width": 8}, deltarl.ResidualTorsoSpec(width=8), {"kind": "residual", "width": 8.0}],
    ids=["data", "spec", "float"],
)
def test_a_torso_can_be_data_or_a_spec(torso: Any) -> None:
    assert make(BY_ALGORITHM[SAC], torso=torso).policy.actor_torso == deltarl.ResidualTorsoSpec(width=8)


def test_a_bare_string_is_a_kind() -> None:
    assert make(BY_ALGORITHM[PPO], torso="plain").policy.critic_torso == deltarl.PlainTorsoSpec()


def test_q_learning_takes_its_torso_under_both_names() -> None:
    for option in ("torso", "critic_torso"):
        assert make(BY_ALGORITHM[DQN], **{option: "residual"}).policy.critic_torso == deltarl.ResidualTorsoSpec()


def test_the_zip_names_the_policy_by_import_path_and_the_torso_as_plain_data(tmp_path: Path) -> None:
    model = make(BY_ALGORITHM[SAC], torso=KINDS["delta"])
    model.save(tmp_path / "model.zip")
    data, _, _ = load_from_zip_file(tmp_path / "model.zip", device="cpu")
    assert data is not None
    assert data["policy_class"] is deltarl.policies.DeltaSACPolicy
    assert data["policy_kwargs"]["torso"] == KINDS["delta"]


def test_trpo_would_find_no_value_in_the_path_of_an_actors_parameter() -> None:
    # TRPO leaves every parameter with "value" in its path out of the policy's step.
    policy = make(BY_ALGORITHM[PPO], torso={**KINDS["delta"], "gate_layers": 2, "direction": "generator"}).policy
    paths = [name for name, _ in policy.mlp_extractor.policy_net.named_parameters()]
    assert paths
    assert not any("value" in name for name in paths)


# Where torsos are installed


def layers(network: nn.Sequential) -> list[str]:
    return [type(module).__name__ for module in network]


def test_a_torso_stands_between_features_and_head() -> None:
    policy = make(BY_ALGORITHM[TD3]).policy
    assert layers(policy.actor.mu) == ["Torso", "Linear", "Tanh"]
    assert layers(policy.critic.qf0) == ["Torso", "Linear"]
    assert layers(make(BY_ALGORITHM[PPO]).policy.mlp_extractor.value_net) == ["Torso"]


def test_crossq_keeps_the_norm_of_its_input_and_has_batch_renorm_in_the_torso() -> None:
    options = {"batch_norm_momentum": 0.02, "renorm_warmup_steps": 5}
    policy = make(BY_ALGORITHM[CrossQ], torso="residual", critic_torso={"depth": 3}, **options).policy
    assert layers(policy.actor.latent_pi) == ["BatchRenorm1d", "Torso"]
    assert layers(policy.critic.qf1) == ["BatchRenorm1d", "Torso", "Linear"]
    norms = [module for module in policy.modules() if isinstance(module, BatchRenorm)]
    assert len(norms) == 3 + 2 * 4
    assert {(norm.momentum, norm.warmup_steps) for norm in norms} == {(0.02, 5)}


def test_crossq_without_batch_norm_takes_every_norm() -> None:
    policy = make(BY_ALGORITHM[CrossQ], torso={"norm": "rms"}, batch_norm=False).policy
    assert layers(policy.critic.qf0) == ["Torso", "Linear"]


def test_an_lstm_feeds_the_torsos() -> None:
    policy = make(BY_ALGORITHM[RecurrentPPO], torso=KINDS["delta"], lstm_hidden_size=9).policy
    for network in (policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net):
        assert isinstance(network[0], Torso)
        assert network[0].stem.in_features == 9


@pytest.mark.parametrize("algorithm", [subject.algorithm for subject in SUBJECTS])
def test_a_subclass_of_an_algorithm_takes_the_policies_of_its_base(algorithm: type[BaseAlgorithm]) -> None:
    found = policies_of(type("Own", (algorithm,), {}))
    assert found["DeltaPolicy"].__module__.startswith("deltarl.policies")
    assert ("DeltaCnnPolicy" in found) == (algorithm is not CrossQ)  # which has no policy for images


def test_an_algorithm_without_torsos_has_no_policies_with_them() -> None:
    assert policies_of(ARS) == {}


def test_recurrent_policies_have_the_common_names_too() -> None:
    for alias in ("DeltaPolicy", "DeltaCnnPolicy", "DeltaMultiInputPolicy"):
        same = RecurrentPPO.policy_aliases[alias.replace("Policy", "LstmPolicy")]
        assert RecurrentPPO.policy_aliases[alias] is same


# Weight decay


@pytest.mark.parametrize("algorithm", [PPO, RecurrentPPO, QRDQN])
def test_an_mlp_keeps_the_one_parameter_group_of_stable_baselines3(algorithm: type[BaseAlgorithm]) -> None:
    model = make(BY_ALGORITHM[algorithm], torso="mlp", optimizer_kwargs={"weight_decay": 0.1})
    assert len(model.policy.optimizer.param_groups) == 1


def test_gsde_keeps_its_log_std_from_decay() -> None:
    policy = make(BY_ALGORITHM[PPO], torso=KINDS["delta"], options={"use_sde": True}, **DECAY).policy
    [spared] = [group["params"] for group in policy.optimizer.param_groups if not group["weight_decay"]]
    assert any(parameter is policy.log_std for parameter in spared)


# Wrong input


@every_algorithm
@pytest.mark.parametrize(
    ("policy_kwargs", "message"),
    [
        ({"torso": {"kind": "delta", "wdth": 8}}, "torso.wdth: unknown key; did you mean 'width'?"),
        ({"torso": {"kind": "detla"}}, "torso.kind: unknown name 'detla'; did you mean 'delta'?"),
        ({"torso": "residual", "critic_torso": {"depth": 0}}, "critic_torso.depth: input should be greater than or"),
        ({"torso": {"kind": "delta", "heads": 3}}, "torso.heads: 3 heads do not divide width 128; use one of 1, 2, 4"),
        ({"net_arch": [64]}, "net_arch: a torso has width, depth and hidden in its place"),
        ({"activation_fn": torch.nn.ReLU}, "activation_fn: a torso has activation in its place"),
        ({"torso": 3}, "expected a torso as a kind, a mapping or a spec; got 3"),
        ({"critic_torso": ""}, "critic_torso.kind: unknown name ''"),
        ({"torsoo": "delta"}, "policy_kwargs: unknown option 'torsoo'; did you mean 'torso'?"),
        ({"n_quantile": 3}, "policy_kwargs: unknown option 'n_quantile'"),
        ({"torso": {"kind": "custom", "block": "MyBlock"}}, "torso.block: expected module:Class; got 'MyBlock'"),
        ({"torso": {"kind": "custom"}}, "torso.block: missing"),
        ({"torso": {"kind": "custom", "block": dict}}, "expected a torch.nn.Module from <class 'dict'>, got {"),
    ],
)
def test_a_wrong_option_is_named(subject: Subject, policy_kwargs: dict[str, Any], message: str) -> None:
    assert message in message_of(make, subject, **policy_kwargs)


@families
def test_two_mlps_have_one_activation(algorithm: type[BaseAlgorithm]) -> None:
    roles = {"torso": {"kind": "mlp", "activation": "relu"}, "critic_torso": {"activation": "tanh"}}
    if algorithm is DQN:
        policy = make(BY_ALGORITHM[DQN], **roles).policy
        assert policy.activation_fn is nn.Tanh
    else:
        assert "two mlp torsos must name the same one" in message_of(make, BY_ALGORITHM[algorithm], **roles)


@pytest.mark.parametrize("algorithm", [DQN, QRDQN])
def test_an_actors_torso_is_refused_where_there_is_no_actor(algorithm: type[BaseAlgorithm]) -> None:
    expected = f"actor_torso: Delta{algorithm.__name__}Policy has no such network; it takes critic_torso"
    assert message_of(make, BY_ALGORITHM[algorithm], actor_torso="residual") == expected


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_crossq_refuses_a_torso_without_batch_renorm(norm: str) -> None:
    for option, named in (("torso", "actor_torso"), ("critic_torso", "critic_torso")):
        message = message_of(make, BY_ALGORITHM[CrossQ], **{option: {"norm": norm}})
        assert message.startswith(f"{named}.norm: CrossQ has no target networks and therefore needs batch_renorm")


@every_algorithm
def test_dict_observations_are_sent_to_the_policy_that_takes_them(subject: Subject) -> None:
    expected = (
        "CrossQ does not support Dict"
        if subject.algorithm is CrossQ
        else 'Dict observations need "DeltaMultiInputPolicy"'
    )
    assert expected in message_of(subject.algorithm, "DeltaPolicy", PointEnv(subject.discrete), device="cpu")


@pytest.mark.parametrize("algorithm", [DQN, QRDQN])
def test_q_learning_with_continuous_actions_is_refused(algorithm: type[BaseAlgorithm]) -> None:
    # Stable-Baselines3 checks the actions itself, before it builds the policy.
    with pytest.raises(AssertionError, match=r"only supports .*Discrete.* as action spaces but Box"):
        algorithm("DeltaPolicy", "Reacher-v5", device="cpu")


def test_a_q_learning_policy_with_continuous_actions_is_refused() -> None:
    env = gym.make("Reacher-v5")
    message = message_of(DeltaDQNPolicy, env.observation_space, env.action_space, lambda _: 1e-3)
    assert message.startswith("DeltaDQNPolicy: Q-learning needs a Discrete action space; got Box(")
    assert isinstance(env.action_space, spaces.Box)


@pytest.mark.parametrize(
    ("algorithm", "alias", "known"),
    [
        (CrossQ, "DeltaCnnPolicy", '"DeltaPolicy"'),
        (CrossQ, "DeltaMultiInputPolicy", '"DeltaPolicy"'),
        (PPO, "DeltaLstmPolicy", '"DeltaPolicy", "DeltaCnnPolicy", "DeltaMultiInputPolicy"'),
        (ARS, "DeltaPolicy", '"MlpPolicy", "LinearPolicy"'),
    ],
)
def test_an_unsupported_policy_is_refused_with_the_supported_ones(
    algorithm: type[BaseAlgorithm], alias: str, known: str
) -> None:
    assert message_of(algorithm, alias, "Reacher-v5", device="cpu") == f'the algorithm has no "{alias}"; it has {known}'

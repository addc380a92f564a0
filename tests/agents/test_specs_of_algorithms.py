"""Agents: SB3's own hyperparameters and defaults, as typed data."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import numpy as np
import pytest
import torch
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.her import HerReplayBuffer

from deltarl.agents import (
    A2CSpec,
    ActionNoiseSpec,
    AlgorithmSpec,
    AnyAgentSpec,
    CrossQSpec,
    DDPGSpec,
    DQNSpec,
    PPOSpec,
    QRDQNSpec,
    RecurrentPPOSpec,
    SACSpec,
    TD3Spec,
    TQCSpec,
    build_agent,
    build_policy,
)
from deltarl.encoders import FlatEncoderSpec
from deltarl.envs import EnvSpec, build_envs
from deltarl.errors import ConfigError
from deltarl.policies import policies_of
from deltarl.torsos import DeltaTorsoSpec

SPECS: list[type[AlgorithmSpec]] = list(get_args(AnyAgentSpec))
# Set by the run, or code; the last three are built from `action_noise`, `her` and the like.
NOT_DATA = {
    "self",
    "policy",
    "env",
    "policy_kwargs",
    "tensorboard_log",
    "verbose",
    "seed",
    "device",
    "_init_setup_model",
    "rollout_buffer_class",
    "rollout_buffer_kwargs",
    "replay_buffer_class",
    "replay_buffer_kwargs",
    "action_noise",
}
# Options of SB3's policies that are code, or that other options replace.
NOT_POLICY_DATA = {
    "observation_space",
    "action_space",
    "lr_schedule",
    "net_arch",
    "activation_fn",
    "use_sde",
    "features_extractor_class",
    "features_extractor_kwargs",
    "normalize_images",
    "optimizer_class",
    "optimizer_kwargs",
    "lstm_kwargs",
    "batch_norm",
}
every_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec().algorithm)

PENDULUM = {"id": "InvertedPendulum-v5", "kind": "locomotion"}
DISCRETE = EnvSpec(**PENDULUM, wrappers=[{"wrapper": "discretize_action", "bins": 3}])
REACH = EnvSpec(id="FetchReach-v4", kind="manipulation")


def build(spec: AlgorithmSpec, env: EnvSpec | None = None) -> Any:
    q_learning = isinstance(spec, DQNSpec | QRDQNSpec)
    env = env or (DISCRETE if q_learning else EnvSpec(id="Reacher-v5", kind="manipulation"))
    torso = DeltaTorsoSpec(width=16, norm="batch_renorm" if isinstance(spec, CrossQSpec) else "layer")
    return build_agent(spec, torso, torso, build_envs(env, seed=0), seed=0, device="cpu", encoder=FlatEncoderSpec())


@every_spec
def test_hyperparameters_and_their_defaults_are_those_of_stable_baselines3(spec: type[AlgorithmSpec]) -> None:
    theirs = inspect.signature(spec.stock).parameters
    ours = spec().hyperparameters()
    assert ours.keys() == theirs.keys() - NOT_DATA
    assert ours == {name: theirs[name].default for name in ours}


@every_spec
def test_every_option_of_the_policy_that_is_data_can_be_given(spec: type[AlgorithmSpec]) -> None:
    policy_class = policies_of(spec.stock)["DeltaPolicy"]
    their_class = next(base for base in policy_class.__mro__ if not base.__module__.startswith("deltarl"))
    theirs = inspect.signature(their_class).parameters.keys() - NOT_POLICY_DATA
    if spec is DDPGSpec:
        theirs -= {"n_critics"}  # one by definition
    ours = type(spec().policy).model_fields.keys() - {"optimizer", "weight_decay"}
    if spec in {DQNSpec, QRDQNSpec}:
        ours -= {"share_features_extractor"}
    assert ours == theirs


@every_spec
def test_the_policy_alone_is_the_one_of_the_agent(spec: type[AlgorithmSpec]) -> None:
    model = build(spec())
    torso = model.policy.critic_torso
    alone = build_policy(spec(), torso, torso, model.get_env(), FlatEncoderSpec())
    assert type(alone) is type(model.policy)
    assert {name: tensor.shape for name, tensor in alone.state_dict().items()} == {
        name: tensor.shape for name, tensor in model.policy.state_dict().items()
    }


def optimizer_of(model: Any) -> torch.optim.Optimizer:
    return getattr(model.policy, "optimizer", None) or model.critic.optimizer


@every_spec
@pytest.mark.parametrize("policy", [{"optimizer": "adam", "weight_decay": 0.1}, {"optimizer": "adamw"}])
def test_an_optimizer_of_ones_choice_keeps_what_stable_baselines3_gives_the_algorithm(
    spec: type[AlgorithmSpec], policy: dict[str, Any]
) -> None:
    own = build(A2CSpec(use_rms_prop=False) if spec is A2CSpec else spec())
    [group, *_] = optimizer_of(own).param_groups
    optimizer = optimizer_of(build(spec(policy=policy)))
    assert isinstance(optimizer, {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[policy["optimizer"]])
    for option in ("eps", "betas", "lr"):
        assert {found[option] for found in optimizer.param_groups} == {group[option]}


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec is not A2CSpec], ids=lambda spec: spec().algorithm)
def test_weight_decay_alone_reaches_the_optimizer(spec: type[AlgorithmSpec]) -> None:
    groups = optimizer_of(build(spec(policy={"weight_decay": 0.1}))).param_groups
    assert {group["weight_decay"] for group in groups} == {0.1, 0.0}


def test_the_rmsprop_of_a2c_takes_no_decay() -> None:
    with pytest.raises(ValueError, match=r"SB3's RMSprop does not support it; set policy\.optimizer too"):
        A2CSpec(policy={"weight_decay": 0.1})


def test_a_linear_schedule_ends_where_it_says() -> None:
    spec = PPOSpec(learning_rate={"schedule": "linear", "start": 1e-3, "end": 1e-4, "fraction": 0.5})
    schedule = build(spec).lr_schedule
    # SB3 passes the remaining progress, from 1 to 0.
    assert [schedule(remaining) for remaining in (1.0, 0.75, 0.5, 0.0)] == pytest.approx([1e-3, 5.5e-4, 1e-4, 1e-4])


def test_the_initial_log_std_reaches_the_policy() -> None:
    assert torch.equal(build(PPOSpec(policy={"log_std_init": -1.5})).policy.log_std, torch.full((2,), -1.5))


def test_the_sizes_of_an_lstm_and_the_number_of_critics_reach_the_policy() -> None:
    lstm = build(RecurrentPPOSpec(policy={"lstm_hidden_size": 12, "n_lstm_layers": 2})).policy.lstm_actor
    assert (lstm.hidden_size, lstm.num_layers) == (12, 2)
    assert len(build(TQCSpec(policy={"n_critics": 3, "n_quantiles": 7})).critic.q_networks) == 3


@pytest.mark.parametrize(
    ("kind", "noise"), [("normal", NormalActionNoise), ("ornstein_uhlenbeck", OrnsteinUhlenbeckActionNoise)]
)
def test_action_noise_has_the_size_of_the_action(kind: str, noise: type[Any]) -> None:
    built = build(TD3Spec(action_noise={"kind": kind, "std": 0.3})).action_noise
    assert isinstance(built, noise)
    np.random.seed(0)
    assert built().shape == (2,)


def test_action_noise_has_the_shape_of_the_action() -> None:
    assert ActionNoiseSpec(std=0.3).build((2, 3))().shape == (2, 3)


def test_training_after_each_episode_is_data() -> None:
    frequency = build(SACSpec(train_freq=[1, "episode"])).train_freq
    assert (frequency.frequency, frequency.unit.value) == (1, "episode")


def test_a_buffer_that_saves_memory_gives_up_telling_time_limits_from_ends() -> None:
    buffer = build(SACSpec(optimize_memory_usage=True, buffer_size=100)).replay_buffer
    assert buffer.optimize_memory_usage
    assert not buffer.handle_timeout_termination


def test_hindsight_has_its_own_buffer() -> None:
    model = build(SACSpec(her={"n_sampled_goal": 2}, learning_starts=50, buffer_size=500), REACH)
    assert isinstance(model.replay_buffer, HerReplayBuffer)
    assert model.replay_buffer.n_sampled_goal == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"her": {}, "optimize_memory_usage": True}, "HER cannot save memory this way"),
        ({"her": {}, "n_steps": 3}, "HER supports one-step returns only"),
        ({"ent_coef": "auto_x"}, "pattern"),
        ({"ent_coef": -1.0}, "greater than or equal to 0"),
        ({"train_freq": [1, "epoch"]}, "'step' or 'episode'"),
        ({"action_noise": {"std": -0.1}}, "greater than or equal to 0"),
    ],
)
def test_a_value_out_of_its_range_is_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SACSpec(**data)


@pytest.mark.parametrize(
    ("spec", "env", "message"),
    [
        (DQNSpec(), EnvSpec(**PENDULUM), "agent: dqn needs Discrete actions; the environment has Box"),
        (SACSpec(), DISCRETE, "agent: sac needs Box actions; the environment has Discrete"),
        (CrossQSpec(), REACH, "agent: crossq does not support Dict observations; sac and tqc do"),
        (SACSpec(her={}), EnvSpec(**PENDULUM), "agent.her: the environment has no goals"),
        (SACSpec(her={}, learning_starts=49), REACH, "agent.learning_starts: HER learns from whole episodes, so at"),
        (
            SACSpec(her={}, learning_starts=99),
            REACH.model_copy(update={"n_envs": 2}),
            r"at least 100 steps \(2 x 50\) have to come first; got 99",
        ),
        (
            SACSpec(her={}, learning_starts=50, buffer_size=50),
            REACH,
            r"agent.buffer_size: HER learns from whole episodes, so more than 50 transitions \(1 x 50\) have to fit",
        ),
        (SACSpec(batch_size=10**12, buffer_size=10), None, "a batch of 1,000,000,000,000 transitions needs at least"),
        (A2CSpec(n_steps=10**12), None, "give a smaller n_steps"),
    ],
)
def test_algorithms_that_do_not_fit_are_refused(spec: AlgorithmSpec, env: EnvSpec | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(spec, env)

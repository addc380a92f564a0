"""Deployed policies act as `predict` does, deterministic."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from deltarl import ConfigError
from deltarl.export.check import TOLERANCE, check, sample
from deltarl.export.observations import entries
from deltarl.export.player import Player
from deltarl.export.policy import PolicyModule, policy_module
from deltarl.policies import DeltaActorCriticPolicy
from tests.policies.matrix import KINDS, SUBJECTS, Case, make, parameters


def player_of(module: PolicyModule) -> Player:
    """Plays the module itself, in no file."""

    def run(fed: dict[str, np.ndarray]) -> list[np.ndarray]:
        found = module(*module.arguments({name: torch.as_tensor(array) for name, array in fed.items()}))
        return [each.numpy() for each in (found if isinstance(found, tuple) else (found,))]

    return Player(run, module.inputs)


def perturb(policy: BasePolicy) -> None:
    """Move gates, scales and everything else away from where they start."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def few(case: Case) -> bool:
    """One cell for each algorithm; every kind of observation and torso occurs."""
    turn = SUBJECTS.index(case.subject)
    observations = list(case.subject.observations)
    # Q networks without images: noise has the same best action in all images.
    observation = observations[2 * (turn + 1) % len(observations)]
    return (case.observation, case.kind) == (observation, list(KINDS)[turn % len(KINDS)])


@pytest.mark.parametrize("case", parameters(covering=few))
def test_actions_are_those_of_predict_for_every_algorithm_observation_and_torso(case: Case) -> None:
    model = make(case.subject, case.observation, torso=case.torso)
    perturb(model.policy)
    module = policy_module(model)
    assert check(model.policy, None, module, player_of(module)) <= TOLERANCE
    assert not any(parameter.requires_grad for parameter in module.parameters())


class Spaces(gym.Env[Any, Any]):
    """Any spaces."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space


def plain_policy(
    observation_space: spaces.Space[Any], action_space: spaces.Space[Any], scale: float = 1.0, **options: Any
) -> BasePolicy:
    """One of Stable-Baselines3's own, with larger outputs than it starts with."""
    kind = MultiInputActorCriticPolicy if isinstance(observation_space, spaces.Dict) else ActorCriticPolicy
    policy = kind(observation_space, action_space, lambda _: 0.0, **options)
    with torch.no_grad():
        policy.action_net.weight.mul_(100 * scale)
    return policy


def normalized(envs: DummyVecEnv, **options: Any) -> VecNormalize:
    """Statistics of some sort, with one entry that never varies."""
    normalizer = VecNormalize(envs, training=False, **options)
    rms: Any = normalizer.obs_rms if normalizer.norm_obs else {}
    rng = np.random.default_rng(3)
    for each in rms.values() if isinstance(rms, dict) else (rms,):
        each.mean, each.var = rng.normal(50, 40, each.mean.shape), rng.uniform(0, 30, each.mean.shape)
        each.var.flat[0] = 0
    return normalizer


BOX = spaces.Box(np.float32([-1, -3]), np.float32([2, 5]))
OBSERVED = {
    "float64": spaces.Box(-np.inf, np.inf, (3,), np.float64),
    "float32": spaces.Box(-1, 1, (2, 2), np.float32),
    "int32": spaces.Box(-1000, 1000, (3,), np.int32),
    "uint8": spaces.Box(0, 255, (3,), np.uint8),
    "discrete": spaces.Discrete(5),
    "multi-discrete": spaces.MultiDiscrete([3, 2, 4]),
    "multi-binary": spaces.MultiBinary(4),
}


@pytest.mark.parametrize("space", OBSERVED.values(), ids=OBSERVED)
def test_observations_of_every_space_are_taken_in_their_own_dtype(space: spaces.Space[Any]) -> None:
    policy = plain_policy(space, BOX, 0.05)
    module = policy_module(policy)
    assert [each.dtype for each in module.inputs] == [space.dtype]
    assert check(policy, None, module, player_of(module)) == 0


@pytest.mark.parametrize(
    "space",
    [
        BOX,
        spaces.Box(-1, 1, (2, 3)),
        spaces.Box(-np.inf, np.inf, (2,)),
        spaces.Box(-2.0, 0.5, (2,), np.float64),
        spaces.Discrete(4),
        spaces.MultiDiscrete([3, 2, 4]),
        spaces.MultiBinary(4),
    ],
    ids=str,
)
def test_actions_of_every_space_are_in_its_shape_dtype_and_bounds(space: spaces.Space[Any]) -> None:
    policy = plain_policy(OBSERVED["float32"], space, 30 if isinstance(space, spaces.Box) else 0.1)
    module = policy_module(policy)
    assert check(policy, None, module, player_of(module)) == 0
    observations = sample(policy.observation_space, None, 64, np.random.default_rng(0))["observation"]
    actions, _ = player_of(module).predict(observations)
    one, _ = player_of(module).predict(observations[:1])
    assert actions.dtype == space.dtype
    assert one.shape == (1, *space.shape)
    assert all(action in space for action in actions)
    if isinstance(space, spaces.Box) and space.is_bounded():
        assert (actions == space.low).any()
        assert (actions == space.high).any()


def test_actions_of_a_squashed_policy_are_rescaled() -> None:
    policy = plain_policy(OBSERVED["float32"], BOX, 0.02, use_sde=True, squash_output=True)
    module = policy_module(policy)
    assert check(policy, None, module, player_of(module)) <= 1e-6


def test_masked_actions_are_never_chosen() -> None:
    [subject] = [each for each in SUBJECTS if each.name == "MaskablePPO"]
    model = make(subject)
    module = policy_module(model)
    fed = sample(model.observation_space, None, 64, np.random.default_rng(0))
    observations = torch.as_tensor(fed["observation"])
    masks = np.random.default_rng(1).random((64, model.action_space.n)) < 0.5
    masks[:, 0] = True
    found = module(observations, torch.as_tensor(masks)).numpy()
    expected, _ = model.predict(fed["observation"], deterministic=True, action_masks=masks)
    assert masks[np.arange(64), found].all()
    np.testing.assert_array_equal(found, expected)


DICT = spaces.Dict({"place": OBSERVED["float64"], "goal": OBSERVED["float32"], "step": OBSERVED["discrete"]})


@pytest.mark.parametrize(
    ("space", "options"),
    [
        (OBSERVED["float64"], {}),
        (OBSERVED["float64"], {"clip_obs": 0.5}),
        (OBSERVED["uint8"], {}),
        (DICT, {"norm_obs_keys": ["place"]}),
        (OBSERVED["float64"], {"norm_obs": False}),
    ],
    ids=["box", "tight", "bytes", "dict", "rewards only"],
)
def test_normalisation_is_inside_and_clips(space: spaces.Space[Any], options: dict[str, Any]) -> None:
    normalizer = normalized(DummyVecEnv([lambda: Spaces(space, BOX)]), **options)
    policy = plain_policy(normalizer.observation_space, BOX, 0.05)
    module = policy_module(policy, normalizer)
    assert {each.name: each.dtype for each in module.inputs} == {
        key: each.dtype for key, each in entries(space).items()
    }
    assert check(policy, normalizer, module, player_of(module)) == 0
    drawn = sample(module.observation_space, normalizer, 100, np.random.default_rng(0))
    if normalizer.norm_obs and space is not OBSERVED["uint8"]:
        key = "place" if "place" in drawn else "observation"
        rms = normalizer.obs_rms[key] if isinstance(normalizer.obs_rms, dict) else normalizer.obs_rms
        assert (np.abs(drawn[key] - rms.mean)[:, 1:] > normalizer.clip_obs * np.sqrt(rms.var[1:])).any()


def test_a_model_brings_its_normaliser() -> None:
    envs = normalized(DummyVecEnv([lambda: Spaces(OBSERVED["float64"], BOX)]))
    module = policy_module(PPO("DeltaPolicy", envs, device="cpu", policy_kwargs={"torso": {"width": 8, "depth": 1}}))
    assert module.inputs[0].dtype == np.float64
    assert torch.equal(module.observations.entries[0][0].mean, torch.as_tensor(envs.obs_rms.mean))


class Sum(nn.Module):
    """An `mlp_extractor` as users write them (Stable-Baselines3's manual, "Advanced example")."""

    latent_dim_pi = latent_dim_vf = 3

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: torch.Tensor) -> torch.Tensor:
        return features.cumsum(-1)

    def forward_critic(self, features: torch.Tensor) -> torch.Tensor:
        return features


class SumPolicy(ActorCriticPolicy):
    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = Sum()  # type: ignore[assignment]


def test_a_user_defined_mlp_extractor_is_kept() -> None:
    policy = SumPolicy(OBSERVED["float64"], BOX, lambda _: 0.0)
    module = policy_module(policy)
    assert check(policy, None, module, player_of(module)) == 0


class Backwards(DeltaActorCriticPolicy):
    """Acts in a way that no module can know of."""

    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        return -super()._predict(observation, deterministic)


@pytest.fixture
def backwards() -> BasePolicy:
    return Backwards(OBSERVED["float64"], BOX, lambda _: 0.0, torso={"width": 8, "depth": 1})


def test_other_actions_are_refused(backwards: BasePolicy) -> None:
    module = policy_module(backwards)
    with pytest.raises(ConfigError, match=r"acts differently: by .* of the range of its actions, where 1e-05"):
        check(backwards, None, module, player_of(module))


def test_discrete_actions_may_differ_only_between_equal_scores() -> None:
    policy = plain_policy(OBSERVED["float64"], spaces.Discrete(3))
    with torch.no_grad():
        policy.action_net.weight[1] = policy.action_net.weight[0]
        policy.action_net.bias[1] = policy.action_net.bias[0]
    module = policy_module(policy)

    def swapped(swap: dict[int, int]) -> Player:
        own = player_of(module).run
        return Player(lambda fed: [np.vectorize(lambda action: swap.get(action, action))(own(fed)[0])], module.inputs)

    assert check(policy, None, module, swapped({0: 1})) == 0
    with pytest.raises(ConfigError, match="acts differently"):
        check(policy, None, module, swapped({2: 1}))


def test_what_cannot_be_deployed_is_refused() -> None:
    policy = plain_policy(OBSERVED["float64"], BOX)
    with pytest.raises(ConfigError, match="the policy was made for observation"):
        policy_module(policy, observation_space=spaces.Box(-1, 1, (7,)))
    with pytest.raises(ConfigError, match=r"^export: no way to deploy a MlpPolicy$"):
        policy_module(type("MlpPolicy", (BasePolicy,), {"_predict": None})(OBSERVED["float64"], BOX))
    space = spaces.Dict({"lstm_cell": OBSERVED["float64"]})
    model = RecurrentPPO("MultiInputLstmPolicy", DummyVecEnv([lambda: Spaces(space, BOX)]), device="cpu")
    with pytest.raises(ConfigError, match="'lstm_cell' is the name of an observation and of another input"):
        policy_module(model)


def test_a_thousand_observations_are_compared() -> None:
    policy = plain_policy(OBSERVED["float64"], BOX)
    module = policy_module(policy)
    rows: list[int] = []

    def run(fed: dict[str, np.ndarray]) -> list[np.ndarray]:
        rows.append(len(fed["observation"]))
        return player_of(module).run(fed)

    check(policy, None, module, Player(run, module.inputs))
    assert (sum(rows), rows[0]) == (1_000, 1)


def test_actions_that_are_no_numbers_are_refused() -> None:
    policy = plain_policy(OBSERVED["float64"], BOX)
    module = policy_module(policy)
    broken = Player(lambda fed: [np.full_like(player_of(module).run(fed)[0], np.nan)], module.inputs)
    with pytest.raises(ConfigError, match="acts differently: by nan"):
        check(policy, None, module, broken)

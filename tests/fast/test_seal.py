"""A lean step is used only where it computes what the step of Stable-Baselines3 would, patches included."""

from __future__ import annotations

from copy import deepcopy
from functools import wraps
from importlib import import_module
from inspect import unwrap
from typing import Any

import pytest
import stable_baselines3 as sb3
import torch
from sb3_contrib.tqc import tqc
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer
from stable_baselines3.common.distributions import DiagGaussianDistribution, SquashedDiagGaussianDistribution
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.sac import policies as sac_policies
from stable_baselines3.sac.policies import SACPolicy
from torch import nn
from torch.nn import functional

from deltarl import fast
from deltarl.fast.lean import training_step
from deltarl.fast.off_policy.shared_replay import SharedReplayBuffer
from deltarl.fast.seal import Seal
from tests.fast.changed import At, make
from tests.fast.test_equality import STOCK

REASONS: dict[str, tuple[str, Any, str]] = {
    "a hook": ("SAC", lambda m: m.actor.mu.register_forward_hook(print), "the policy has methods, hooks"),
    "frozen entropy": ("SAC", lambda m: m.log_ent_coef.requires_grad_(False), "the entropy coefficient is frozen"),
    "gSDE": ("A2C", lambda m: setattr(m, "use_sde", True), "exploration depends on the state (use_sde)"),
    "another target": ("TD3", lambda m: setattr(m, "critic_target", m.critic), "the algorithm has other networks"),
    "other groups": ("PPO", lambda m: setattr(m.policy.optimizer, "param_groups", []), "the optimizer steps"),
    "not squashed": ("TD3", lambda m: setattr(m.policy, "_squash_output", False), "the policy's actions are not"),
    "not all stepped": ("PPO", lambda m: m.policy.optimizer.param_groups[0]["params"].pop(), "the optimizer steps"),
}


def test_a_search_for_nan_in_backward_passes_is_left_to_pytorch() -> None:
    model = make("SAC")
    assert model.lean_update() is not None
    with torch.autograd.set_detect_anomaly(True):
        assert model.lean_update() is None
    assert model.lean_update() is not None


@pytest.mark.parametrize("case", REASONS)
def test_the_reason_for_a_step_of_stable_baselines3_is_named(case: str) -> None:
    name, do, reason = REASONS[case]
    model = make(name)
    assert training_step(model) == {"implementation": "deltarl"}
    do(model)
    step = training_step(model)
    assert step["implementation"] == "sb3"
    assert step["reason"].startswith(reason)


def test_an_algorithm_of_stable_baselines3_takes_its_own_step() -> None:
    assert training_step(make("PPO", None)) == {"implementation": "sb3", "reason": "PPO is not one of deltarl.fast"}


@pytest.mark.parametrize("name", STOCK)
def test_a_plan_is_kept_until_something_changes(name: str) -> None:
    model = make(name)
    model.learn(32)
    update = model.lean_update()
    assert update is not None
    model.policy.predict(model.observation_space.sample())  # leaves a distribution in the policy
    model.policy.state_dict()
    model.num_timesteps, model.gamma = model.num_timesteps + 1, 0.9
    assert model.lean_update() is update
    assert deepcopy(model).lean_update() not in {None, update}
    model.policy.note = 1
    assert model.lean_update() not in {None, update}


@pytest.mark.parametrize("name", STOCK)
def test_a_training_makes_few_plans(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """State that training itself creates, for example in optimizers, is not a change."""
    made: list[Any] = []
    look = Seal.__init__
    monkeypatch.setattr(Seal, "__init__", lambda seal, model: made.append(1) or look(seal, model))
    make(name).learn(64, callback=At(0, print))
    assert len(made) <= 2


PATCHES: dict[str, tuple[str, Any, str, Any]] = {
    "an actor": ("SAC", sac_policies.Actor, "get_action_dist_params", None),
    "a policy": ("PPO", ActorCriticPolicy, "_get_action_dist_from_latent", None),
    "a base": ("TD3", sb3.common.policies.BasePolicy, "scale_action", None),
    "an algorithm": ("A2C", sb3.A2C, "train", None),
    "a distribution": ("TQC", SquashedDiagGaussianDistribution, "log_prob", None),
    "a method of another class": (
        "SAC", SquashedDiagGaussianDistribution, "log_prob", DiagGaussianDistribution.log_prob
    ),
    "a layer": ("PPO", nn.Linear, "forward", None),
    "a buffer": ("PPO", RolloutBuffer, "get", None),
    "a method of the same class": ("PPO", DiagGaussianDistribution, "sample", DiagGaussianDistribution.mode),
    "a method that is written in C": ("TD3", nn.ReLU, "forward", staticmethod(torch.tanh)),
    "an optimizer": ("DDPG", torch.optim.Adam, "step", None),
    "an optimizer's function": ("SAC", import_module("torch.optim.adam"), "adam", None),
    "a distribution of pytorch": ("SAC", torch.distributions.Normal, "log_prob", None),
    "a function": ("TQC", tqc, "quantile_huber_loss", None),
    "a function of pytorch": ("SAC", functional, "mse_loss", functional.smooth_l1_loss),
    "a constant": ("SAC", sac_policies, "LOG_STD_MAX", 0),
}  # fmt: skip


@pytest.mark.parametrize("patch", PATCHES)
def test_what_is_put_into_a_class_or_a_module_is_left_to_stable_baselines3(
    patch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds before and after the first check, even for an object with the name of what it replaces."""
    name, holder, attribute, value = PATCHES[patch]
    model = make(name)
    assert model.lean_update() is not None
    original = getattr(holder, attribute)

    @wraps(original)
    def around(*args: Any, **options: Any) -> Any:
        return original(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(holder, attribute, around if value is None else value)
        assert model.lean_update() is None
        assert make(name).lean_update() is None
    assert model.lean_update() is not None


def test_a_patched_buffer_is_sampled_as_it_was_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    """This also holds if a lean buffer, which has another method, has replaced it."""
    early = make("SAC")
    sample = ReplayBuffer._get_samples
    drawn = []
    monkeypatch.setattr(
        ReplayBuffer, "_get_samples", lambda *args, **options: drawn.append(1) or sample(*args, **options)
    )
    for model in (early, make("SAC")):
        drawn.clear()
        model.learn(30)
        assert drawn
        assert type(model.replay_buffer) is not SharedReplayBuffer


class Described(SACPolicy):
    """Adds a method, and overrides only one that builds a network."""

    def make_critic(self, features_extractor: Any = None) -> Any:
        return super().make_critic(features_extractor)

    def describe(self) -> str:
        return "own"


def overriding(name: str) -> Any:
    return type("Own", (SACPolicy,), {name: getattr(SACPolicy, name)})


class Mixin:
    def unscale_action(self, action: Any) -> Any:
        return super().unscale_action(action)  # type: ignore[misc]


class Mixed(Mixin, SACPolicy):
    pass


class Halving(fast.SAC):
    def predict(self, *args: Any, **options: Any) -> Any:
        action, state = super().predict(*args, **options)
        return action / 2, state


def test_a_users_class_is_lean_if_it_overrides_nothing_that_steps_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make("SAC", policy=Described)
    assert model.lean_update() is not None
    with monkeypatch.context() as later:
        later.setattr(Described, "scale_action", Described.scale_action)
        assert model.lean_update() is None
    for name in ("scale_action", "obs_to_tensor", "extract_features", "__call__", "__getattr__", "parameters"):
        assert make("SAC", policy=overriding(name)).lean_update() is None, name
    assert make("SAC", policy=Mixed).lean_update() is None
    env = make_vec_env("Reacher-v5", seed=0)
    assert Halving("MlpPolicy", env, device="cpu", buffer_size=10).lean_update() is None


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_steps_stay_lean_where_anything_has_been_compiled(name: str) -> None:
    """PyTorch's compiler replaces methods of `nn.Module` in the whole process; a resumed run may not have compiled."""
    compiled = torch.compile(torch.nn.Linear(2, 2), backend="eager")
    compiled(torch.zeros(1, 2))
    assert make(name).lean_update() is not None


def test_steps_stay_lean_where_the_first_optimizer_of_the_process_inherits_its_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyTorch adds a wrapper of that `step` to the class, which inherited it before."""
    adamw: Any = torch.optim.AdamW
    monkeypatch.setattr(adamw, "step", adamw.profile_hook_step(unwrap(torch.optim.Adam.step)))
    kwargs = {"net_arch": [8], "optimizer_class": adamw}
    model = fast.SAC("MlpPolicy", "Reacher-v5", device="cpu", buffer_size=10, policy_kwargs=kwargs)
    assert model.lean_update() is not None

"""Lean algorithms honour whatever a user changes: in a class, on an instance, or during training."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import wraps
from importlib import import_module
from inspect import unwrap
from typing import Any

import gymnasium as gym
import pytest
import stable_baselines3 as sb3
import torch
from sb3_contrib.tqc import tqc
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, CheckpointCallback
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
from deltarl.fast.trust import is_trusted_callback
from tests.fast.test_equality import STOCK

OFF_POLICY = ("SAC", "TD3", "DDPG", "TQC", "CrossQ")
Change = Callable[[Any], None]


def make(name: str, library: Any = fast, policy: Any = "MlpPolicy", env: Any = None, **options: Any) -> Any:
    algorithm = STOCK[name] if library is None else getattr(library, name)
    small: dict[str, Any] = {"learning_starts": 20, "buffer_size": 200, "batch_size": 8, "train_freq": 4}
    if name in {"PPO", "A2C"}:
        small = {"n_steps": 16} | ({"batch_size": 8, "n_epochs": 2} if name == "PPO" else {})
    kwargs = {"net_arch": [8]}
    return algorithm(
        policy,
        env or make_vec_env("Reacher-v5", seed=0),
        policy_kwargs=kwargs,
        seed=0,
        device="cpu",
        **{**small, **options},
    )


class At(BaseCallback):
    """Changes an algorithm once, during a rollout."""

    def __init__(self, step: int, change: Change) -> None:
        super().__init__()
        self.step, self.change, self.left = step, change, torch.zeros(())

    def _on_step(self) -> bool:
        if self.num_timesteps == self.step:
            self.change(self.model)
            self.left = flat(self.model)
        return True


def flat(model: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


def wrapped(holder: Any, name: str, change: Callable[[Any], Any]) -> None:
    """Wrap a method of an instance, as a user would."""
    method = getattr(holder, name)

    @wraps(method)
    def around(*args: Any, **options: Any) -> Any:
        return change(method(*args, **options))

    setattr(holder, name, around)


def freeze(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def pushed(layer: nn.Linear) -> nn.Linear:
    """Replace a layer by another one that the optimizer does not know."""
    new = nn.Linear(layer.in_features, layer.out_features)
    with torch.no_grad():
        new.weight.fill_(0.01)
        new.bias.fill_(0.3)
    return new


def new_heads(model: Any) -> None:
    if hasattr(model, "actor"):
        model.actor.mu = pushed(model.actor.mu)
    else:
        model.policy.action_net = pushed(model.policy.action_net)


def new_targets(model: Any) -> None:
    model.critic_target = model.policy.critic_target = deepcopy(model.critic)
    for parameter in model.critic_target.parameters():
        parameter.data.add_(0.3)


def new_optimizer(model: Any) -> None:
    holder = model.actor if hasattr(model, "actor") else model.policy
    holder.optimizer = torch.optim.SGD(holder.parameters(), lr=0.1)


def larger_averages(model: Any) -> None:
    holder = model.actor if hasattr(model, "actor") else model.policy
    for state in holder.optimizer.state.values():
        state["exp_avg_sq"] = torch.full_like(state["exp_avg_sq"], 1.0)


def fixed_coefficient(model: Any) -> None:
    model.ent_coef_optimizer, model.ent_coef_tensor = None, torch.tensor(5.0)


def fewer_parameters(model: Any) -> None:
    for group in model.critic.optimizer.param_groups:
        group["params"] = group["params"][:2]


class Narrow(DiagGaussianDistribution):
    def proba_distribution(self, mean_actions: Any, log_std: Any) -> Any:
        return super().proba_distribution(0.5 * mean_actions, log_std - 1)


class NarrowSquashed(SquashedDiagGaussianDistribution):
    def proba_distribution(self, mean_actions: Any, log_std: Any) -> Any:
        return super().proba_distribution(0.5 * mean_actions, log_std - 1)


def new_distribution(model: Any) -> None:
    if hasattr(model, "actor"):
        model.actor.action_dist = NarrowSquashed(2)
    else:
        model.policy.action_dist = Narrow(2)


class Doubled(ReplayBuffer):
    def _get_samples(self, *args: Any, **options: Any) -> Any:
        samples = super()._get_samples(*args, **options)
        return samples._replace(rewards=2 * samples.rewards)


def new_buffer(model: Any) -> None:
    model.replay_buffer = Doubled(200, model.observation_space, model.action_space, "cpu")
    # The rollout continues to fill the other one.
    model.replay_buffer.add(*(model._last_obs,) * 2, model.action_space.sample()[None], [1.0], [False], [{}])  # type: ignore[arg-type]


def other_samples(model: Any) -> None:
    wrapped(model.replay_buffer, "sample", lambda samples: samples._replace(rewards=2 * samples.rewards))


def other_minibatches(model: Any) -> None:
    wrapped(model.rollout_buffer, "get", lambda given: (each._replace(returns=-each.returns) for each in given))


def schedules(model: Any) -> None:
    model.lr_schedule = lambda _: 0.02
    model.clip_range = lambda _: 0.01


def sums_of_gradients(model: Any) -> None:
    model.policy.optimizer.zero_grad = lambda *_, **__: None


def critics_beside(model: Any) -> None:
    model.actor.optimizer.add_param_group({"params": list(model.critic.parameters())})


CHANGES: dict[str, tuple[str, Change]] = {
    "frozen actor": ("SAC", lambda model: freeze(model.actor)),
    "frozen critics": ("TQC", lambda model: freeze(model.critic.q_networks[1])),
    "frozen values": ("PPO", lambda model: freeze(model.policy.value_net)),
    "another head": ("SAC", new_heads),
    "another head of ppo": ("PPO", new_heads),
    "one network in the place of two": ("SAC", lambda m: m.critic.q_networks.__setitem__(0, m.critic.qf1)),
    "a network beside the modules": ("SAC", lambda m: m.critic.q_networks.__setitem__(0, deepcopy(m.critic.qf1))),
    "other targets": ("SAC", new_targets),
    "other targets of td3": ("TD3", new_targets),
    "a fixed coefficient": ("SAC", fixed_coefficient),
    "other steps": ("TD3", lambda m: wrapped(m.actor.optimizer, "step", lambda _: m.actor.mu[-2].bias.data.add_(0.1))),
    "another optimizer": ("DDPG", new_optimizer),
    "other averages": ("SAC", larger_averages),
    "other averages of ppo": ("PPO", larger_averages),
    "fewer parameters": ("TD3", fewer_parameters),
    "the critics' parameters beside the actor's": ("TD3", critics_beside),
    "another guard of a distribution": ("SAC", lambda m: setattr(m.actor.action_dist, "epsilon", 0.3)),
    "no zeroing of gradients": ("A2C", sums_of_gradients),
    "another distribution": ("CrossQ", new_distribution),
    "another distribution of a2c": ("A2C", new_distribution),
    "another buffer": ("TD3", new_buffer),
    "other samples": ("SAC", other_samples),
    "other minibatches": ("PPO", other_minibatches),
    "other schedules": ("PPO", schedules),
    "a wrapped forward": ("PPO", lambda m: wrapped(m.policy, "forward", lambda given: (0.5 * given[0], *given[1:]))),
    "a wrapped prediction": ("TD3", lambda m: wrapped(m, "predict", lambda given: (0.5 * given[0], given[1]))),
    "a wrapped scale": ("SAC", lambda m: wrapped(m.policy, "scale_action", lambda action: 0.5 * action)),
    "wrapped log probabilities": ("SAC", lambda m: wrapped(m.actor, "action_log_prob", lambda x: (x[0], 2 * x[1]))),
    "wrapped values": ("A2C", lambda m: wrapped(m.policy, "evaluate_actions", lambda x: (-x[0], *x[1:]))),
    "another mode": ("SAC", lambda m: m.actor.latent_pi.append(nn.Dropout(0.5))),
    "a nudge": ("SAC", lambda m: m.actor.mu.bias.data.add_(1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_callback_changes_is_honoured(change: str) -> None:
    """The lean training learns the same as one of the same seed with Stable-Baselines3."""
    name, do = CHANGES[change]
    learned = []
    for library in (fast, None):
        model = make(name, library)
        at = At(26, do)
        model.learn(48, callback=at)
        learned.append(flat(model))
    ours, theirs = learned
    assert (ours - theirs).norm() <= 0.02 * (theirs - at.left).norm()


REASONS: dict[str, tuple[str, Any, str]] = {
    "a hook": ("SAC", lambda m: m.actor.mu.register_forward_hook(print), "the policy has methods, hooks"),
    "frozen entropy": ("SAC", lambda m: m.log_ent_coef.requires_grad_(False), "the entropy coefficient is frozen"),
    "gSDE": ("A2C", lambda m: setattr(m, "use_sde", True), "exploration depends on the state (use_sde)"),
    "another target": ("TD3", lambda m: setattr(m, "critic_target", m.critic), "the algorithm has other networks"),
    "other groups": ("PPO", lambda m: setattr(m.policy.optimizer, "param_groups", []), "the optimizer steps"),
    "not squashed": ("TD3", lambda m: setattr(m.policy, "_squash_output", False), "the policy's actions are not"),
    "not all stepped": ("PPO", lambda m: m.policy.optimizer.param_groups[0]["params"].pop(), "the optimizer steps"),
}


def test_a_learning_rate_that_freezes_a_layer_is_honoured_at_once() -> None:
    """A schedule is called in the middle of a training step."""
    learned = []
    for library in (fast, None):
        model = make("PPO", library)
        calls: list[float] = []

        def rate(progress: float, model: Any = model, calls: list[float] = calls) -> float:
            calls.append(progress)
            if len(calls) == 2:
                freeze(model.policy.mlp_extractor)
            return 0.001

        model.lr_schedule = rate
        model.learn(32)
        learned.append(flat(model))
    assert (learned[0] - learned[1]).norm() <= 1e-5


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


def test_a_class_of_a_users_is_lean_where_it_overrides_nothing_that_steps_call(
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


def test_a_wrapped_forward_continues_after_the_rollout() -> None:
    """It does not call itself and is not removed; without a wrapper, the class's own method remains."""
    calls = []
    model = make("PPO")
    model.learn(32, callback=At(10, lambda m: wrapped(m.policy, "forward", lambda given: calls.append(1) or given)))
    assert len(calls) == 22
    observation = torch.zeros(1, *model.observation_space.shape)
    values = model.policy(observation)[1]
    assert len(calls) == 23
    torch.testing.assert_close(values, model.policy.predict_values(observation))


def test_only_callbacks_of_the_libraries_are_trusted_within_a_rollout() -> None:
    known = CheckpointCallback(1, "unused")
    assert is_trusted_callback(CallbackList([known]))
    assert not is_trusted_callback(CallbackList([known, At(1, freeze)]))
    model = make("SAC")
    assert not is_trusted_callback(model._init_callback(lambda *_: True))
    assert is_trusted_callback(model._init_callback(None))


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


def means(model: Any) -> nn.Module:
    """The layer that computes the mean action."""
    return model.policy.action_net if isinstance(model, fast.PPO) else model.actor.mu


class Owner(gym.Wrapper[Any, Any, Any, Any]):
    """A user's environment that has a reference to the algorithm and freezes one of its layers."""

    model: Any = None
    weights = torch.zeros(())

    def step(self, action: Any) -> Any:
        if self.model is not None and self.model.num_timesteps == 40:
            freeze(means(self.model))
            self.weights = means(self.model).weight.detach().clone()
        return super().step(action)


@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_an_environment_that_freezes_a_layer_is_honoured(name: str) -> None:
    env = Owner(gym.make("Reacher-v5"))
    env.model = model = make(name, env=env)
    model.learn(64)
    assert torch.equal(means(model).weight, env.weights)


@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_what_is_changed_after_learn_is_seen_though_only_the_libraries_ran(name: str) -> None:
    model = make(name)
    model.learn(64)
    arguments = () if name == "PPO" else (1, 8)
    model.train(*arguments)
    freeze(means(model))
    before = means(model).weight.clone()
    model.train(*arguments)
    assert torch.equal(means(model).weight, before)


def alone(model: Any, **options: Any) -> bool:
    """Whether an algorithm assumes that only the libraries' code runs within `learn`."""
    model._setup_learn(64, **{"callback": None, **options})
    return bool(model.lean_plan().alone)


class Renamed(fast.PPO):
    """A user's class."""


def test_nobody_changes_anything_where_only_the_libraries_run() -> None:
    assert alone(make("SAC"))
    assert alone(make("PPO"), callback=[CheckpointCallback(1, "unused")])
    assert not alone(make("PPO"), callback=lambda *_: True)
    assert not alone(make("PPO", env=Owner(gym.make("Reacher-v5"))))
    assert not alone(make("SAC", learning_rate=lambda _: 1e-3))
    assert not alone(Renamed("MlpPolicy", make_vec_env("Reacher-v5", seed=0), device="cpu"))

"""What a callback changes during training is honoured."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.distributions import DiagGaussianDistribution, SquashedDiagGaussianDistribution
from torch import nn

from deltarl import fast
from tests.fast.changed import At, Change, flat, freeze, make, wrapped


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

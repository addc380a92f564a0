"""Rollouts as tensors, and the networks that they are learned with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from deltarl.fast.actor_critic import Features
from deltarl.fast.gaussian import LOG_ROOT_TWO_PI, checked, log_probability, standard_normal
from deltarl.fast.known import callables, same_features
from deltarl.fast.layers import Gradients
from deltarl.fast.networks import chain_of
from deltarl.fast.numbers import number

_METHODS = callables(RolloutBuffer)
_FIELDS = ("observations", "actions", "values", "log_probs", "advantages", "returns")


def minibatches(buffer: RolloutBuffer, size: int | None) -> Iterator[RolloutBufferSamples]:
    """One pass over a full buffer in random order: the samples of `buffer.get(size)`, with fewer copies.

    Rows are brought into order once and then taken as slices; the order is drawn as Stable-Baselines3 draws it.
    """
    if type(buffer) is not RolloutBuffer or not _METHODS.isdisjoint(vars(buffer)):
        yield from buffer.get(size)
        return
    order = torch.from_numpy(np.random.permutation(buffer.buffer_size * buffer.n_envs))
    if not buffer.generator_ready:
        for name in _FIELDS:
            setattr(buffer, name, buffer.swap_and_flatten(getattr(buffer, name)))
        buffer.generator_ready = True
    # Observations may be numbers of categories; all else is made float32, as there.
    rows = [torch.from_numpy(getattr(buffer, name)).index_select(0, order).to(buffer.device) for name in _FIELDS]
    observations, actions, *columns = rows
    parts = [observations, actions.float(), *(column.flatten().float() for column in columns)]
    yield from map(RolloutBufferSamples, *(torch.split(part, size or len(order)) for part in parts))


def normalized(advantages: Tensor) -> Tensor:
    """Advantages `[n]` less their mean, over their standard deviation, with Stable-Baselines3's guard."""
    return (advantages - advantages.mean()).div_(advantages.std().add_(number(1e-8, advantages)))


class GaussianPolicy:
    """A policy with a Gaussian of state-independent spread, and its value function.

    Args:
        policy: for which `is_one` is true.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        networks: Any = policy.mlp_extractor
        self.mean = chain_of(networks.policy_net, policy.action_net)
        self.value = chain_of(networks.value_net, policy.value_net)
        self.log_std: Tensor = policy.log_std
        self.features = Features(policy, self.log_std.dtype)
        self.parameters = [policy.log_std, *self.mean.parameters, *self.value.parameters]
        self.shape = policy.action_space.shape or ()

    @staticmethod
    def is_one(policy: Any) -> bool:
        """Whether the policy has such a Gaussian and no features to learn."""
        return (
            isinstance(policy, ActorCriticPolicy)
            and type(policy.mlp_extractor) is MlpExtractor
            and type(policy.action_dist) is DiagGaussianDistribution
            and not policy.squash_output
            and same_features([policy])
            and (policy.share_features_extractor or Features(policy, policy.log_std.dtype).flat)
        )

    def act(self, observations: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions `[n, *action shape]`, values `[n, 1]` and log probabilities `[n]`: the policy's own `forward`."""
        with torch.no_grad():
            features = self.features(observations)
            mean, values = self.mean(features), self.value(features)
            noise = torch.zeros_like(mean) if deterministic else standard_normal(mean.shape, mean)
            actions = checked(torch.addcmul(mean, torch.exp(self.log_std), noise), mean, self.log_std)
            log_prob, _ = log_probability(mean, self.log_std, actions)
            return actions.reshape(-1, *self.shape), values, log_prob

    def evaluate(self, observations: Any, actions: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Values `[n]` and log probabilities `[n]` of actions `[n, actions]`, and what `backward` needs."""
        features = self.features(observations)
        mean, of_mean = self.mean.forward(features)
        values, of_value = self.value.forward(features)
        log_prob, z = log_probability(mean, self.log_std, actions)
        return values.view(-1), log_prob, (of_mean, of_value, z)

    @property
    def entropy(self) -> Tensor:
        """Of the Gaussian, log s + 1/2 + log sqrt(2 pi) summed over the actions, `[]`."""
        return self.log_std.sum() + len(self.log_std) * (0.5 + LOG_ROOT_TWO_PI)

    def backward(self, saved: Any, by_log_prob: Tensor, by_values: Tensor, by_entropy: float) -> Gradients:
        """The parameters' gradients, from those by log probabilities `[n]`, values `[n]` and the entropy."""
        of_mean, of_value, z = saved
        by_log_prob = by_log_prob.unsqueeze(1)
        by_mean = (z * by_log_prob).mul_(torch.exp(-self.log_std))
        by_log_std = (z * z).sub_(number(1, z)).mul_(by_log_prob).sum(0).add_(number(by_entropy, z))
        _, of_actor = self.mean.backward(of_mean, by_mean)
        _, of_critic = self.value.backward(of_value, by_values.unsqueeze(1))
        return [by_log_std, *of_actor, *of_critic]

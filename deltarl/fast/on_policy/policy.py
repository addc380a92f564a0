"""The Gaussian policy of PPO and A2C, with its value function."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import Tensor

from deltarl.fast.features import Features, same_features
from deltarl.fast.gaussian import LOG_ROOT_TWO_PI, checked, log_probability, standard_normal
from deltarl.fast.layers import Gradients
from deltarl.fast.networks import chain_of
from deltarl.fast.scalars import number


class GaussianPolicy:
    """A Gaussian policy with state-independent standard deviation, and its value function.

    Args:
        policy: one for which `is_one` is true.
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
        """Whether a policy is such a Gaussian, on features that are not learned."""
        return (
            isinstance(policy, ActorCriticPolicy)
            and type(policy.mlp_extractor) is MlpExtractor
            and type(policy.action_dist) is DiagGaussianDistribution
            and not policy.squash_output
            and same_features([policy])
            and (policy.share_features_extractor or Features(policy, policy.log_std.dtype).flat)
        )

    def act(self, observations: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """The policy's `forward`: actions `[n, *action shape]`, values `[n, 1]` and log probabilities `[n]`."""
        with torch.no_grad():
            features = self.features(observations)
            mean, values = self.mean(features), self.value(features)
            noise = torch.zeros_like(mean) if deterministic else standard_normal(mean.shape, mean)
            actions = checked(torch.addcmul(mean, torch.exp(self.log_std), noise), mean, self.log_std)
            log_prob, _ = log_probability(mean, self.log_std, actions)
            return actions.reshape(-1, *self.shape), values, log_prob

    def evaluate(self, observations: Any, actions: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Values `[n]`, log probabilities `[n]` of actions `[n, actions]`, and what `backward` needs."""
        features = self.features(observations)
        mean, of_mean = self.mean.forward(features)
        values, of_value = self.value.forward(features)
        log_prob, z = log_probability(mean, self.log_std, actions)
        return values.view(-1), log_prob, (of_mean, of_value, z)

    @property
    def entropy(self) -> Tensor:
        """The entropy of the Gaussian, log s + 1/2 + log sqrt(2 pi) summed over the actions, `[]`."""
        return self.log_std.sum() + len(self.log_std) * (0.5 + LOG_ROOT_TWO_PI)

    def backward(self, saved: Any, by_log_prob: Tensor, by_values: Tensor, by_entropy: float) -> Gradients:
        """The gradients of the parameters, given those of log probabilities `[n]`, values `[n]` and the entropy."""
        of_mean, of_value, z = saved
        by_log_prob = by_log_prob.unsqueeze(1)
        by_mean = (z * by_log_prob).mul_(torch.exp(-self.log_std))
        by_log_std = (z * z).sub_(number(1, z)).mul_(by_log_prob).sum(0).add_(number(by_entropy, z))
        _, of_actor = self.mean.backward(of_mean, by_mean)
        _, of_critic = self.value.backward(of_value, by_values.unsqueeze(1))
        return [by_log_std, *of_actor, *of_critic]

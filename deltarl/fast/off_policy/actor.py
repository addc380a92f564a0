"""The stochastic actor of SAC, TQC and CrossQ."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN
from torch import Tensor

from deltarl.fast.gaussian import Squashed, checked, standard_normal
from deltarl.fast.layers import ALL, Gradients
from deltarl.fast.networks import network_of


class SquashedActor:
    """A squashed Gaussian policy.

    Args:
        actor: Stable-Baselines3's or sb3-contrib's, without state-dependent exploration.
    """

    def __init__(self, actor: Any) -> None:
        self.networks = [network_of(module) for module in (actor.latent_pi, actor.mu, actor.log_std)]
        self.latent, self.mean, self.log_std = self.networks
        self.parameters = [*self.latent.parameters, *self.mean.parameters, *self.log_std.parameters]
        self.has_modes = any(network.has_modes for network in self.networks)

    def forward(self, features: Tensor, noise: Tensor) -> tuple[Squashed, Any]:
        """Sample with normal noise `[n, actions]` at features `[n, features]`; also return what `backward` needs."""
        latent, of_latent = self.latent.forward(features)
        mean, of_mean = self.mean.forward(latent)
        log_std, of_log_std = self.log_std.forward(latent)
        return Squashed.sample(mean, log_std, noise), (of_latent, of_mean, of_log_std)

    def sample(self, features: Tensor, noise: Tensor) -> Squashed:
        """Sample actions without keeping anything for `backward`."""
        latent = self.latent(features)
        return Squashed.sample(self.mean(latent), self.log_std(latent), noise)

    def act(self, features: Tensor) -> Tensor:
        """Sample actions `[n, actions]`, drawing the noise as Stable-Baselines3's distribution does."""
        latent = self.latent(features)
        mean, log_std = self.mean(latent), self.log_std(latent)
        std = torch.exp(log_std.clamp(LOG_STD_MIN, LOG_STD_MAX))
        return checked(torch.tanh(torch.addcmul(mean, std, standard_normal(mean.shape, mean))), mean, log_std)

    def backward(self, sample: Squashed, saved: Any, by_actions: Tensor, by_log_prob: Tensor) -> Gradients:
        """The parameters' gradients."""
        of_latent, of_mean, of_log_std = saved
        by_mean, by_log_std = sample.backward(by_actions, by_log_prob)
        one, of_one = self.mean.backward(of_mean, by_mean, inputs=ALL)
        other, of_other = self.log_std.backward(of_log_std, by_log_std, inputs=ALL)
        assert one is not None
        assert other is not None
        _, of_rest = self.latent.backward(of_latent, one.add_(other))
        return [*of_rest, *of_one, *of_other]

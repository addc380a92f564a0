"""Actors and critics of the algorithms that learn from a replay buffer, made of networks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN
from torch import Tensor, nn

from deltarl.fast.gaussian import Squashed, checked, standard_normal
from deltarl.fast.layers import ALL, Gradients
from deltarl.fast.networks import network_of
from deltarl.fast.numbers import number


class Features:
    """The features `[n, features]` of observations, by an extractor that learns nothing.

    Args:
        model: the actor, the critic, or the policy, whose extractor is taken.
        dtype: of the networks behind it.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self.model, self.extractor, self.dtype = model, model.features_extractor, dtype
        space = model.observation_space
        self.flat = (
            type(self.extractor) is FlattenExtractor and isinstance(space, spaces.Box) and not is_image_space(space)
        )

    def of_arrays(self, observations: Any, device: torch.device) -> Tensor:
        """The features of observations as environments give them."""
        if self.flat:
            return torch.from_numpy(observations).to(device, self.dtype).flatten(1)
        return self(obs_as_tensor(observations, device))

    def __call__(self, observations: Any) -> Tensor:
        if self.flat:
            return observations.flatten(1).to(self.dtype)  # type: ignore[no-any-return]
        return self.model.extract_features(observations, self.extractor).to(self.dtype)  # type: ignore[no-any-return]


class SquashedActor:
    """The actor of SAC, TQC and CrossQ: a squashed Gaussian.

    Args:
        actor: Stable-Baselines3's or sb3-contrib's, without state-dependent exploration.
    """

    def __init__(self, actor: Any) -> None:
        self.networks = [network_of(module) for module in (actor.latent_pi, actor.mu, actor.log_std)]
        self.latent, self.mean, self.log_std = self.networks
        self.parameters = [*self.latent.parameters, *self.mean.parameters, *self.log_std.parameters]
        self.has_modes = any(network.has_modes for network in self.networks)

    def forward(self, features: Tensor, noise: Tensor) -> tuple[Squashed, Any]:
        """Actions and what `backward` needs, from features `[n, features]` and normal noise `[n, actions]`."""
        latent, of_latent = self.latent.forward(features)
        mean, of_mean = self.mean.forward(latent)
        log_std, of_log_std = self.log_std.forward(latent)
        return Squashed.sample(mean, log_std, noise), (of_latent, of_mean, of_log_std)

    def sample(self, features: Tensor, noise: Tensor) -> Squashed:
        """The same where nothing is to be learned from it."""
        latent = self.latent(features)
        return Squashed.sample(self.mean(latent), self.log_std(latent), noise)

    def act(self, features: Tensor) -> Tensor:
        """Actions `[n, actions]`, with the noise that Stable-Baselines3's distribution would draw."""
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


class Critics:
    """Several networks of the same input: features and actions side by side.

    Args:
        networks: of a critic, `critic.q_networks`.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.networks = [network_of(network) for network in networks]
        self.parameters = [parameter for network in self.networks for parameter in network.parameters]

    def __call__(self, x: Tensor) -> list[Tensor]:
        """The outputs alone."""
        return [network(x) for network in self.networks]

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Any]]:
        """An output of each, and what the backward passes need."""
        outputs, kept = zip(*(network.forward(x) for network in self.networks), strict=True)
        return list(outputs), list(kept)

    def fit(self, x: Tensor, aim: Tensor, weight: float) -> tuple[Tensor, Gradients]:
        """The mean squared errors times `weight`, summed over the networks, `[]`, and the parameters' gradients.

        Each network goes forward and back before the next one, while what the backward pass needs is in the caches.

        Args:
            x: `[n, features]`.
            aim: of each network's output, `[n, 1]`.
            weight: of the loss.
        """
        slope = number(2 * weight / len(x), x)
        found: Gradients = []
        total = number(0, x)
        for network in self.networks:
            value, kept = network.forward(x)
            error = value - aim
            total = total + (error * error).sum()
            found += network.backward(kept, error.mul_(slope))[1]
        return total.mul_(number(weight / len(x), x)), found

    def by_parameters(self, kept: Sequence[Any], gradients: Sequence[Tensor]) -> Gradients:
        """The parameters' gradients, from those by the outputs."""
        found: Gradients = []
        for network, saved, gradient in zip(self.networks, kept, gradients, strict=True):
            found += network.backward(saved, gradient)[1]
        return found

    def by_actions(self, kept: Sequence[Any], gradients: Sequence[Tensor], actions: int) -> Tensor:
        """The gradient by the last `actions` columns of the input, from those by the outputs."""
        total: Tensor | None = None
        for network, saved, gradient in zip(self.networks, kept, gradients, strict=False):
            found, _ = network.backward(saved, gradient, inputs=slice(-actions, None), parameters=False)
            assert found is not None
            total = found if total is None else total.add_(found)
        assert total is not None
        return total


def least(values: Sequence[Tensor]) -> Tensor:
    """The smallest of several `[n, 1]`."""
    return reduce(torch.minimum, values)


def by_least(values: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
    """The same, and the gradients of its mean's negative by each: all of it by the first of equal ones."""
    smallest, share = values[0], number(-1 / len(values[0]), values[0])
    gradients = [share.expand_as(smallest)]
    for value in values[1:]:
        is_less = value < smallest
        gradients = [*(gradient.masked_fill(is_less, 0) for gradient in gradients), is_less * share]
        smallest = torch.minimum(smallest, value)
    return smallest, gradients


def discounted(batch: ReplayBufferSamples, gamma: float, next_values: Tensor) -> Tensor:
    """Reward + discount next value, `[n, ...]`; after an episode's last step there is no next value."""
    if batch.discounts is None:
        discounts = torch.sub(number(gamma, batch.dones), batch.dones, alpha=gamma)
    else:
        discounts = torch.addcmul(batch.discounts, batch.discounts, batch.dones, value=-1)
    return torch.addcmul(batch.rewards, discounts, next_values)


def mean(x: Tensor) -> Tensor:
    """`x.mean()`, of operations that an update does anyway: code of others has left the caches, and takes longer."""
    return x.sum().mul_(number(1 / x.numel(), x))

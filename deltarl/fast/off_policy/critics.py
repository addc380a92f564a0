"""Critics, and the values that they learn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor, nn

from deltarl.fast.layers import Gradients
from deltarl.fast.networks import network_of
from deltarl.fast.scalars import number


class Critics:
    """Q networks on the same input, the concatenation of features and actions.

    Args:
        networks: a critic's `q_networks`.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.networks = [network_of(network) for network in networks]
        self.parameters = [parameter for network in self.networks for parameter in network.parameters]

    def __call__(self, x: Tensor) -> list[Tensor]:
        """The output of each network."""
        return [network(x) for network in self.networks]

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Any]]:
        """The output of each network, and what the backward passes need."""
        outputs, kept = zip(*(network.forward(x) for network in self.networks), strict=True)
        return list(outputs), list(kept)

    def fit(self, x: Tensor, aim: Tensor, weight: float) -> tuple[Tensor, Gradients]:
        """The mean squared error times `weight`, summed over the networks, `[]`, and the parameters' gradients.

        Each network runs forward and backward before the next one, while its activations are still in the caches.

        Args:
            x: `[n, features]`.
            aim: the target of every network, `[n, 1]`.
            weight: factor of the loss.
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
        """The gradients of the parameters, given those of the outputs."""
        found: Gradients = []
        for network, saved, gradient in zip(self.networks, kept, gradients, strict=True):
            found += network.backward(saved, gradient)[1]
        return found

    def by_actions(self, kept: Sequence[Any], gradients: Sequence[Tensor], actions: int) -> Tensor:
        """The gradient of the last `actions` columns of the input, given those of the outputs."""
        total: Tensor | None = None
        for network, saved, gradient in zip(self.networks, kept, gradients, strict=False):
            found, _ = network.backward(saved, gradient, inputs=slice(-actions, None), parameters=False)
            assert found is not None
            total = found if total is None else total.add_(found)
        assert total is not None
        return total


def least(values: Sequence[Tensor]) -> Tensor:
    """The elementwise minimum of several values `[n, 1]`."""
    return reduce(torch.minimum, values)


def by_least(values: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
    """The elementwise minimum, and the gradient of its negative mean by each value: of equal ones, by the first."""
    smallest, share = values[0], number(-1 / len(values[0]), values[0])
    gradients = [share.expand_as(smallest)]
    for value in values[1:]:
        is_less = value < smallest
        gradients = [*(gradient.masked_fill(is_less, 0) for gradient in gradients), is_less * share]
        smallest = torch.minimum(smallest, value)
    return smallest, gradients


def discounted(batch: ReplayBufferSamples, gamma: float, next_values: Tensor) -> Tensor:
    """Reward + discount * next value, `[n, ...]`, with no next value after the last step of an episode."""
    if batch.discounts is None:
        discounts = torch.sub(number(gamma, batch.dones), batch.dones, alpha=gamma)
    else:
        discounts = torch.addcmul(batch.discounts, batch.discounts, batch.dones, value=-1)
    return torch.addcmul(batch.rewards, discounts, next_values)


def mean(x: Tensor) -> Tensor:
    """`x.mean()`, from operations that an update runs anyway: their code is still in the caches, and so faster."""
    return x.sum().mul_(number(1 / x.numel(), x))

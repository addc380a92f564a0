"""Shared parts of actors and critics, compared with PyTorch's gradients."""

from __future__ import annotations

import pytest
import torch
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor, nn

from deltarl.fast.off_policy.critics import Critics, by_least, discounted, least, mean

ROWS = 12


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("critics", [1, 2, 3])
def test_the_gradient_of_the_smallest_value(critics: int) -> None:
    torch.manual_seed(0)
    values = [drawn(ROWS, 1).requires_grad_() for _ in range(critics)]
    expected = torch.min(torch.cat(values, 1), 1, keepdim=True).values
    by_values = torch.autograd.grad(-expected.mean(), values)
    with torch.no_grad():
        smallest, gradients = by_least(values)
        assert torch.equal(least(values), expected)
    assert torch.equal(smallest, expected)
    for found, wanted in zip(gradients, by_values, strict=True):
        torch.testing.assert_close(found, wanted)


def test_of_equal_values_the_first_is_the_smallest() -> None:
    values = [torch.ones(ROWS, 1, dtype=torch.float64) for _ in range(3)]
    _, gradients = by_least(values)
    assert [gradient.sum().item() for gradient in gradients] == pytest.approx([-1, 0, 0])


@pytest.mark.parametrize("n_steps", [1, 3])
def test_after_the_last_step_there_is_no_next_value(n_steps: int) -> None:
    torch.manual_seed(0)
    rewards, next_values, discounts = drawn(ROWS, 1), drawn(ROWS, 4), torch.full((ROWS, 1), 0.9, dtype=torch.float64)
    dones = (torch.rand(ROWS, 1) < 0.5).double()
    batch = ReplayBufferSamples(
        drawn(ROWS, 2), drawn(ROWS, 2), drawn(ROWS, 2), dones, rewards, None if n_steps == 1 else discounts**n_steps
    )
    expected = rewards + (1 - dones) * 0.9**n_steps * next_values
    torch.testing.assert_close(discounted(batch, 0.9, next_values), expected)


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_squared_errors_are_fitted(weight: float) -> None:
    torch.manual_seed(0)
    networks = [nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1)).double() for _ in range(2)]
    x, aim = drawn(ROWS, 3), drawn(ROWS, 1)
    loss = sum(weight * nn.functional.mse_loss(network(x), aim) for network in networks)
    assert isinstance(loss, Tensor)
    expected = torch.autograd.grad(loss, [parameter for network in networks for parameter in network.parameters()])
    with torch.no_grad():
        found, gradients = Critics(networks).fit(x, aim, weight)
    torch.testing.assert_close(found, loss)
    for own, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(own, wanted)


def test_a_mean() -> None:
    torch.manual_seed(0)
    x = drawn(ROWS, 2)
    torch.testing.assert_close(mean(x), x.mean())

"""Hand-written Gaussians equal Stable-Baselines3's distributions."""

from __future__ import annotations

import torch
from stable_baselines3.common.distributions import DiagGaussianDistribution, SquashedDiagGaussianDistribution
from torch import Tensor

from deltarl.fast.gaussian import Squashed, log_probability

ROWS, ACTIONS = 40, 3


def drawn(*shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64)


def test_a_squashed_sample_its_log_probability_and_gradients() -> None:
    torch.manual_seed(0)
    mean = drawn(ROWS, ACTIONS).requires_grad_()
    log_std = drawn(ROWS, ACTIONS, scale=12).requires_grad_()  # including values beyond both ends of the range
    assert (log_std > 2).any()
    assert (log_std < -20).any()
    by_actions, by_log_prob = drawn(ROWS, ACTIONS), drawn(ROWS, 1)
    distribution = SquashedDiagGaussianDistribution(ACTIONS)
    torch.manual_seed(1)
    actions, log_prob = distribution.log_prob_from_params(mean, log_std.clamp(-20, 2))
    expected = torch.autograd.grad([actions, log_prob[:, None]], [mean, log_std], [by_actions, by_log_prob])

    torch.manual_seed(1)
    with torch.no_grad():
        sample = Squashed.sample(mean, log_std, drawn(ROWS, ACTIONS))
        found = sample.backward(by_actions, by_log_prob)
    assert torch.equal(sample.actions, actions)
    # At a standard deviation of e^-20, dividing by it does not recover the noise exactly.
    wide = (log_std > -12).all(1)
    torch.testing.assert_close(sample.log_prob[wide, 0], log_prob[wide], rtol=1e-9, atol=1e-9)
    for own, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(own[wide], theirs[wide], rtol=1e-9, atol=1e-9)


def test_log_probability_and_its_factors() -> None:
    torch.manual_seed(0)
    mean, log_std, actions = (
        drawn(ROWS, ACTIONS).requires_grad_(),
        drawn(ACTIONS).requires_grad_(),
        drawn(ROWS, ACTIONS),
    )
    log_prob = DiagGaussianDistribution(ACTIONS).proba_distribution(mean, log_std).log_prob(actions)
    by_mean, by_log_std = torch.autograd.grad(log_prob.sum(), [mean, log_std])
    own, z = log_probability(mean.detach(), log_std.detach(), actions)
    torch.testing.assert_close(own, log_prob)
    torch.testing.assert_close(z / log_std.exp(), by_mean)
    torch.testing.assert_close((z.square() - 1).sum(0), by_log_std)

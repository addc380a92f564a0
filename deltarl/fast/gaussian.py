"""Samples, log probabilities and hand-written gradients of Gaussian policies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN
from torch import Tensor

from deltarl.fast.scalars import number

LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)
# The epsilon of Stable-Baselines3's SquashedDiagGaussianDistribution.
EPSILON = 1e-6
_tanh_backward = torch.ops.aten.tanh_backward.default


def standard_normal(shape: torch.Size, like: Tensor) -> Tensor:
    """Draw normal noise as Stable-Baselines3's distributions do: row by row, whatever the memory layout of `like`."""
    return torch.randn(shape, dtype=like.dtype, device=like.device)


def checked(actions: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the actions if mean and standard deviation hold no NaN, as PyTorch's distributions check.

    Raises:
        ValueError: with the message of PyTorch's distributions.
    """
    # One sum settles most cases. Infinities of both signs also make it NaN, so look closer.
    if math.isnan(actions.sum().item()):
        for name, tensor in (("loc", mean), ("scale", log_std)):
            if tensor.isnan().any():
                raise ValueError(
                    f"Expected parameter {name} (Tensor of shape {tuple(tensor.shape)}) of the actions' Gaussian to be "
                    f"real numbers, but found invalid values:\n{tensor}"
                )
    return actions


@dataclass(frozen=True)
class Squashed:
    """A sample a = tanh(m + s e) of a squashed Gaussian, with s = exp(clamp(log s)).

    Attributes:
        actions: a, `[n, actions]`.
        log_prob: of the actions, `[n, 1]`.
    """

    actions: Tensor
    log_prob: Tensor
    _log_std: Tensor
    _clamped: Tensor
    _pulled: Tensor
    _guarded: Tensor

    @classmethod
    def sample(cls, mean: Tensor, log_std: Tensor, noise: Tensor) -> Squashed:
        """Sample, given mean, unclamped log standard deviation and normal noise e, each `[n, actions]`."""
        clamped = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        pulled = torch.exp(clamped).mul_(noise)
        actions = (mean + pulled).tanh_()
        guarded = torch.sub(number(1, actions), actions * actions).add_(number(EPSILON, actions))
        # -e^2 / 2 - log s - log sqrt(2 pi) - log(1 - a^2), summed over the actions
        each = torch.log(guarded).add_(clamped).addcmul_(noise, noise, value=0.5)
        log_prob = torch.sub(number(-LOG_ROOT_TWO_PI * noise.shape[1], each), each.sum(1, keepdim=True))
        return cls(actions, log_prob, log_std, clamped, pulled, guarded)

    def backward(self, by_actions: Tensor, by_log_prob: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the mean and the unclamped log standard deviation, given those of actions and log probability.

        `by_log_prob` may be one number for all rows. With the noise fixed, -e^2 / 2 has no gradient, -log s has -1 by
        log s, and -log(1 - a^2) has 2 a / (1 - a^2) by a.
        """
        by_sample = torch.addcmul(by_actions, by_log_prob, self.actions / self._guarded, value=2)
        by_mean = _tanh_backward(by_sample, self.actions)
        by_log_std = (by_mean * self._pulled).sub_(by_log_prob)
        return by_mean, by_log_std.mul_(self._log_std == self._clamped)


def log_probability(mean: Tensor, log_std: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Log probability of actions `[n, actions]` under a Gaussian with mean `[n, actions]` and log std `[actions]`.

    Returns:
        The log probability `[n]`, and z = (a - m) / s `[n, actions]`, by which its gradients are z / s by m and
        z^2 - 1 by log s.
    """
    z = (actions - mean) * torch.exp(-log_std)
    each = torch.add(log_std, z * z, alpha=0.5)
    return torch.sub(number(-LOG_ROOT_TWO_PI * len(log_std), z), each.sum(1)), z

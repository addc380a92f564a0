"""From the output of a policy's network to actions in the environment's units."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from deltarl.errors import ConfigError

FORBIDDEN = -1e8  # the logit that sb3-contrib gives to a masked action


class Bounded(nn.Module):
    """Continuous actions within their bounds, `[batch, *action]`, in the space's dtype.

    Args:
        space: the action space.
        squash: apply tanh first.
        rescale: map [-1, 1] to the bounds; otherwise only clip.
    """

    low: Tensor
    high: Tensor

    def __init__(self, space: spaces.Box, *, squash: bool, rescale: bool) -> None:
        super().__init__()
        self.shape, self.squash, self.rescale = space.shape, squash, rescale
        self.register_buffer("low", torch.as_tensor(space.low.copy()))
        self.register_buffer("high", torch.as_tensor(space.high.copy()))

    def forward(self, output: Tensor) -> Tensor:
        action = torch.unflatten(output, -1, self.shape) if len(self.shape) > 1 else output
        if self.squash:
            action = torch.tanh(action)
        if self.rescale:
            action = self.low + 0.5 * (action + 1.0) * (self.high - self.low)
        return torch.minimum(torch.maximum(action, self.low), self.high)


class Highest(nn.Module):
    """The action with the highest score: `[batch]`, or `[batch, n]` if there are n components.

    Args:
        sizes: the number of choices of each component, whose scores follow one another.
        several: whether actions are vectors.
    """

    def __init__(self, sizes: list[int], *, several: bool) -> None:
        super().__init__()
        self.sizes, self.several = sizes, several

    def forward(self, scores: Tensor) -> Tensor:
        found = [each.argmax(dim=1) for each in torch.split(scores, self.sizes, dim=1)]
        return torch.stack(found, dim=1) if self.several else found[0]

    def disagreement(self, scores: Tensor, one: Tensor, other: Tensor) -> Tensor:
        """How far the scores of two actions are below the highest ones, whichever is further: `[batch, components]`."""
        found = []
        parts = torch.split(scores, self.sizes, dim=1)
        for index, each in enumerate(parts):
            both = torch.stack([action.reshape(len(scores), -1)[:, index] for action in (one, other)], dim=1)
            found.append(each.amax(1) - each.gather(1, both).amin(1))
        return torch.stack(found, dim=1)


class Likelier(nn.Module):
    """For each bit, 1 if it is more probable than not, else 0; `[batch, n]`, `int8`."""

    def forward(self, logits: Tensor) -> Tensor:
        return (logits > 0).to(torch.int8)

    def disagreement(self, logits: Tensor, one: Tensor, other: Tensor) -> Tensor:
        """How far the logits of bits that differ are from the threshold, `[batch, n]`."""
        return torch.where(one == other, 0.0, logits.abs())


def head(space: spaces.Space[Any], *, squash: bool = False, rescale: bool = False) -> nn.Module:
    """The module that maps a network's output to deterministic actions of `space`.

    Raises:
        ConfigError: for a space that Stable-Baselines3 has no policies for.
    """
    if isinstance(space, spaces.Box):
        return Bounded(space, squash=squash, rescale=rescale)
    if isinstance(space, spaces.Discrete):
        return Highest([int(space.n)], several=False)
    if isinstance(space, spaces.MultiDiscrete):
        return Highest([int(size) for size in space.nvec], several=True)
    if isinstance(space, spaces.MultiBinary):
        return Likelier()
    raise ConfigError(f"export: no way to deploy actions of {space}")

"""How a block's step is added to the state: the shared options that act after a block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deltarl.torsos.base import StackSpec
from deltarl.torsos.block import Block
from deltarl.torsos.layers import DropPath, make_norm


class Join(nn.Module):
    """Norm(X + drop(scale * (X' - X))): scale the step X' - X, drop it at random, normalise the new state.

    `residual_scale` is a learned factor for each feature (LayerScale, arXiv 2103.17239), `drop_path` stochastic depth
    (arXiv 1603.09382), and `norm_position: post` the norm after the shortcut. Options that are not set do nothing.
    """

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        self.start, self.dims = spec.residual_scale, 1 if spec.state_channels == 1 else 2
        self.scale = None if self.start is None else nn.Parameter(torch.empty(spec.width, *[1] * (self.dims - 1)))
        self.drop = DropPath(spec.drop_path, self.dims) if spec.drop_path else None
        self.norm = make_norm(spec.norm if spec.norm_position == "post" else "none", spec.width, spec.eps)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.scale is not None and self.start is not None:
            nn.init.constant_(self.scale, self.start)

    def forward(self, x: Tensor, new: Tensor) -> Tensor:
        if self.scale is not None or self.drop is not None:
            step = new - x
            if self.scale is not None:
                step = step * self.scale
            new = x + (step if self.drop is None else self.drop(step))
        result: Tensor = self.norm(new)
        return result


class StackBlock(Block):
    """Base of the library's blocks; implements the options that all stacks share.

    Attributes:
        join: the module that acts after the block; None if these options are at their defaults.
    """

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        is_plain = spec.residual_scale is None and not spec.drop_path and spec.norm_position != "post"
        self.join = None if is_plain else Join(spec)

    def joined(self, x: Tensor, new: Tensor) -> Tensor:
        """The state after the block, from the state before it and the new state that its formula gives."""
        result: Tensor = new if self.join is None else self.join(x, new)
        return result


def make_context_norm(spec: StackSpec) -> nn.Module:
    """Build the norm before a block's sublayer; the identity with `norm_position: post`."""
    return make_norm("none" if spec.norm_position == "post" else spec.norm, spec.width, spec.eps)

"""How a block's step reaches the state: the options of all stacks that act behind a block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deltarl.torsos.base import StackSpec
from deltarl.torsos.block import Block
from deltarl.torsos.layers import DropPath, make_norm


class Join(nn.Module):
    """Norm(X + scale * drop(X' - X)): the step X' - X scaled, at times left out, and the new state normalised.

    `residual_scale` is a learned factor for each feature (LayerScale, arXiv 2103.17239), `drop_path` stochastic depth
    (arXiv 1603.09382), and `norm_position: post` the norm behind the shortcut. What is not set does nothing.
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
    """Base of the library's blocks in a stack, which honour the options of all stacks.

    Attributes:
        join: what acts behind the block; None with these options at their defaults.
    """

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        is_plain = spec.residual_scale is None and not spec.drop_path and spec.norm_position != "post"
        self.join = None if is_plain else Join(spec)

    def joined(self, x: Tensor, new: Tensor) -> Tensor:
        """The state behind the block, from the state before it and the one that its formula gives."""
        result: Tensor = new if self.join is None else self.join(x, new)
        return result


def make_context_norm(spec: StackSpec) -> nn.Module:
    """The norm before a block's sublayer; with `norm_position: post` there is none."""
    return make_norm("none" if spec.norm_position == "post" else spec.norm, spec.width, spec.eps)

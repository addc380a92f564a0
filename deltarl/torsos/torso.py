"""The torso: stem, blocks and final norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from deltarl.torsos.base import StackSpec

# With `output_scale: mlp`. A normalised feature has a mean magnitude of sqrt(2 / pi) = 0.80, and a hidden unit of the
# two tanh layers of Stable-Baselines3's MLP, on normalised observations, one of 0.43 (benchmarks/torso_start.py).
MLP_SCALE = 0.5


class Torso(nn.Module):
    """Linear stem, `depth` blocks and a final norm; delta, residual and plain differ only in their blocks.

    Maps features `[..., in_features]` to `[..., spec.width]`. A state with value channels starts as copies of the
    stem's output (paper, section 3.2, without the embedding convolution) or, with `expand: linear`, as one projection
    of the features per channel, and ends in a channel compressor. `spec.output_scale` multiplies the final features.

    Args:
        in_features: size of the input, at least 1.
        spec: kind and options.
    """

    def __init__(self, in_features: int, spec: StackSpec) -> None:
        super().__init__()
        self.spec = spec
        self.channels, self.expand = spec.state_channels, spec.channel_start
        self.output_scale = MLP_SCALE if spec.output_scale == "mlp" else spec.output_scale
        self.in_features = in_features
        self.stem = spec.make_stem(in_features)
        self.blocks = nn.ModuleList(spec.make_blocks())
        self.compress = spec.make_readout()
        self.norm = spec.make_final_norm()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise a Linear stem: orthogonal, zero bias, as in SimBa (arXiv 2410.09754).

        Blocks, and stems of another kind, initialise themselves.
        """
        if not isinstance(self.stem, nn.Linear):
            return
        for projection in torch.split(self.stem.weight, self.spec.width):
            nn.init.orthogonal_(projection)
        nn.init.zeros_(self.stem.bias)

    def forward(self, features: Tensor) -> Tensor:
        x = self.stem(features)
        if self.expand == "linear":
            x = x.unflatten(-1, (self.channels, -1)).transpose(-1, -2)
        elif self.channels > 1:
            x = x.unsqueeze(-1).expand(*x.shape, self.channels)
        for block in self.blocks:
            x = block(x)
        result: Tensor = self.norm(self.compress(x))
        return result if self.output_scale is None else result * self.output_scale

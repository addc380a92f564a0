"""A convolutional network whose blocks are those of the torsos, at every position of a feature map."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gymnasium import spaces
from torch import Tensor, nn

from deltarl.encoders.blocks import make_block
from deltarl.encoders.encoder import Encoder
from deltarl.torsos.layers import ACTIVATIONS, make_norm

if TYPE_CHECKING:
    from deltarl.encoders.conv import ConvEncoderSpec


class Conv(Encoder):
    """Maps images `[N, C, H, W]` to features `[N, width]`.

    A stem divides height and width by 4. In each stage the state at a position is a vector over channels, and blocks
    are those of torsos, on states `[N, H, W, channels]`. In F, convolutions stand for Linears: k is normalised at each
    position, and v and beta belong to a position. A convolution with stride 2 leads from stage to stage. A norm, a
    Linear over all positions and an activation come last.

    Args:
        space: of the observations.
        image: C, H and W.
        spec: the options.
    """

    def __init__(self, space: spaces.Space[Any], image: tuple[int, int, int], spec: ConvEncoderSpec) -> None:
        super().__init__(space, spec.width)
        channels, height, width = image
        first, last = spec.channels[0], spec.channels[-1]
        # As in NatureCNN; the padding lets an image of any size through.
        self.stem = nn.Conv2d(channels, first, kernel_size=8, stride=4, padding=4)
        self.downs = nn.ModuleList(
            nn.Conv2d(one, other, kernel_size=3, stride=2, padding=1) for one, other in pairwise(spec.channels)
        )
        stages = []
        for size in spec.channels:
            hidden = spec.inner_of(size)
            stack = spec.torso(size, spec.blocks, hidden)
            blocks = [make_block(stack, ConvSublayer(size, hidden, spec.activation)) for _ in range(spec.depth)]
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.norm = make_norm(spec.norm, last, spec.eps)
        height, width = height // 4 + 1, width // 4 + 1
        for _ in self.downs:
            height, width = (height + 1) // 2, (width + 1) // 2
        self.out = nn.Linear(height * width * last, spec.width)
        self.activation = ACTIVATIONS[spec.activation]()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He initialisation and zero biases; blocks initialise themselves."""
        for layer in (self.stem, *self.downs, self.out):
            start_layer(layer)

    def gated_blocks(self) -> Sequence[nn.Module]:
        return [block for stage in self.stages for block in stage]  # type: ignore[attr-defined]

    def forward(self, observations: Tensor) -> Tensor:
        x = self.stages[0](channels_last(self.stem(observations)))
        for down, stage in zip(self.downs, self.stages[1:], strict=True):
            x = stage(channels_last(down(channels_first(x))))
        features: Tensor = self.activation(self.out(self.norm(x).flatten(1)))
        return features


class ConvSublayer(nn.Module):
    """F: two 3x3 convolutions with an activation between them. Maps `[N, H, W, width]` to the same shape."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, hidden, kernel_size=3, padding=1)
        self.activation = ACTIVATIONS[activation]()
        self.second = nn.Conv2d(hidden, width, kernel_size=3, padding=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He initialisation and zero biases, as in the sublayer of torsos."""
        for layer in (self.first, self.second):
            start_layer(layer)

    def forward(self, x: Tensor) -> Tensor:
        return channels_last(self.second(self.activation(self.first(channels_first(x)))))


def start_layer(layer: nn.Module) -> None:
    """He initialisation and a zero bias."""
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    assert layer.bias is not None
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)


def channels_last(x: Tensor) -> Tensor:
    """`[N, C, H, W]` to `[N, H, W, C]`."""
    return x.movedim(1, -1)


def channels_first(x: Tensor) -> Tensor:
    """`[N, H, W, C]` to `[N, C, H, W]`."""
    return x.movedim(-1, 1)

"""The convolutional network of IMPALA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from deltarl.encoders.encoder import Encoder

if TYPE_CHECKING:
    from deltarl.encoders.impala import ImpalaEncoderSpec


class Impala(Encoder):
    """Maps images `[N, C, H, W]` to features `[N, width]`: IMPALA's large network without its LSTM (figure 3).

    Args:
        space: of the observations.
        image: C, H and W.
        spec: the options.
    """

    def __init__(self, space: spaces.Space[Any], image: tuple[int, int, int], spec: ImpalaEncoderSpec) -> None:
        super().__init__(space, spec.width)
        channels, height, width = image
        stages: list[nn.Module] = []
        for size in spec.channels:
            pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
            stages += [nn.Conv2d(channels, size, kernel_size=3, padding=1), pool, Residual(size), Residual(size)]
            channels, height, width = size, (height + 1) // 2, (width + 1) // 2
        self.stages = nn.Sequential(*stages)
        self.out = nn.Linear(channels * height * width, spec.width)

    def forward(self, observations: Tensor) -> Tensor:
        return torch.relu(self.out(torch.relu(self.stages(observations)).flatten(1)))


class Residual(nn.Module):
    """x + Conv(relu(Conv(relu(x)))) with 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.second = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        step: Tensor = self.second(torch.relu(self.first(torch.relu(x))))
        return x + step

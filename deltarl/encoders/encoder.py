"""The base of encoder modules."""

from __future__ import annotations

from collections.abc import Sequence

from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn


class Encoder(BaseFeaturesExtractor):
    """Base of the library's features extractors.

    Policies keep the weights that an encoder starts with where Stable-Baselines3 would initialise them again, and leave
    the parameters that `undecayed_parameters` names out of weight decay.
    """

    def gated_blocks(self) -> Sequence[nn.Module]:
        """The blocks whose gates are measured, in order; none by default."""
        return ()

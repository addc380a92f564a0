"""Features of observations from extractors without weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor, nn

# Without weights they compute the same features for every network and have nothing to learn.
EXTRACTORS: set[type[nn.Module]] = {FlattenExtractor, CombinedExtractor}


def same_features(models: Iterable[Any]) -> bool:
    """Whether the extractors of several models compute the same features.

    They do if they are of one class among `EXTRACTORS`, without weights or statistics.
    """
    extractors = [model.features_extractor for model in models]
    kinds = {type(extractor) for extractor in extractors}
    return len(kinds) == 1 and kinds <= EXTRACTORS and not any(extractor.state_dict() for extractor in extractors)


class Features:
    """Compute the features `[n, features]` of observations.

    Args:
        model: an actor, critic or policy; its extractor is used.
        dtype: of the networks that take the features.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self.model, self.extractor, self.dtype = model, model.features_extractor, dtype
        space = model.observation_space
        self.flat = (
            type(self.extractor) is FlattenExtractor and isinstance(space, spaces.Box) and not is_image_space(space)
        )

    def of_arrays(self, observations: Any, device: torch.device) -> Tensor:
        """The features of observations as environments return them, NumPy arrays."""
        if self.flat:
            return torch.from_numpy(observations).to(device, self.dtype).flatten(1)
        return self(obs_as_tensor(observations, device))

    def __call__(self, observations: Any) -> Tensor:
        if self.flat:
            return observations.flatten(1).to(self.dtype)  # type: ignore[no-any-return]
        return self.model.extract_features(observations, self.extractor).to(self.dtype)  # type: ignore[no-any-return]

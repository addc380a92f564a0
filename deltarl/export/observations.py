"""From raw observations, as the environment returns them, to the features that a policy's network takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

from deltarl.errors import ConfigError
from deltarl.export.signature import WHOLE

Observation = Tensor | dict[str, Tensor]


def entries(space: spaces.Space[Any]) -> dict[str, spaces.Space[Any]]:
    """The spaces of a Dict by key; any other space under the key `observation`."""
    return dict(space.spaces) if isinstance(space, spaces.Dict) else {WHOLE: space}


def statistics(normalizer: VecNormalize | None, key: str) -> RunningMeanStd | None:
    """The running statistics of one entry of the observation; None if it is not normalised."""
    if normalizer is None or not normalizer.norm_obs:
        return None
    if isinstance(normalizer.obs_rms, dict):
        return normalizer.obs_rms.get(key)
    return normalizer.obs_rms


class Normalized(nn.Module):
    """clip((x - mean) / sqrt(var + epsilon)) in double precision, as in `VecNormalize`; returns single precision."""

    mean: Tensor
    std: Tensor

    def __init__(self, found: RunningMeanStd, epsilon: float, limit: float) -> None:
        super().__init__()
        self.limit = float(limit)
        self.register_buffer("mean", torch.as_tensor(np.asarray(found.mean, np.float64)))
        self.register_buffer("std", torch.as_tensor(np.sqrt(np.asarray(found.var, np.float64) + epsilon)))

    def forward(self, x: Tensor) -> Tensor:
        normalized: Tensor = (x.double() - self.mean) / self.std
        return normalized.clamp(-self.limit, self.limit).float()


class ChannelsFirst(nn.Module):
    """Images `[batch, height, width, channels]` to `[batch, channels, height, width]`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class Scaled(nn.Module):
    """Bytes of an image to numbers in [0, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float() / 255.0


class Single(nn.Module):
    """Any numbers to single precision."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float()


class OneHot(nn.Module):
    """Integers `[batch, *shape]` to one-hot vectors, those of the components of `sizes` one after the other."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.sizes = sizes

    def forward(self, x: Tensor) -> Tensor:
        columns = x.long().flatten(1).unbind(1) if x.ndim > 1 else (x.long(),)
        hot = [column[:, None] == torch.arange(size) for column, size in zip(columns, self.sizes, strict=True)]
        return torch.cat(hot, dim=1).float()


class Observations(nn.Module):
    """Normalisation, channel order, Stable-Baselines3's preprocessing and the policy's features extractor.

    Args:
        raw: the environment's observation space.
        seen: the policy's, which has images channel-first.
        normalizer: the statistics, or None.
        extractor: maps preprocessed observations to features.
        normalize_images: whether the policy divides images by 255.

    Raises:
        ConfigError: if the two spaces do not belong together, or the policy cannot take one of them.
    """

    def __init__(
        self,
        raw: spaces.Space[Any],
        seen: spaces.Space[Any],
        normalizer: VecNormalize | None,
        extractor: nn.Module,
        normalize_images: bool,
    ) -> None:
        super().__init__()
        if entries(raw).keys() != entries(seen).keys():
            raise ConfigError(f"observation_space: the policy was made for {seen}; got {raw}")
        # A list, because a name of a module may not contain a dot.
        self.keys = list(entries(seen))
        self.entries = nn.ModuleList(
            _prepared(entries(raw)[key], entries(seen)[key], normalizer, key, normalize_images) for key in self.keys
        )
        self.extractor = extractor
        self.is_dict = isinstance(seen, spaces.Dict)

    def forward(self, observation: Observation) -> Tensor:
        given = observation if isinstance(observation, Mapping) else {WHOLE: observation}
        prepared = {key: entry(given[key]) for key, entry in zip(self.keys, self.entries, strict=True)}
        features: Tensor = self.extractor(prepared if self.is_dict else prepared[WHOLE])
        return features


def _prepared(
    raw: spaces.Space[Any],
    seen: spaces.Space[Any],
    normalizer: VecNormalize | None,
    key: str,
    normalize_images: bool,
) -> nn.Sequential:
    steps: list[nn.Module] = []
    if (found := statistics(normalizer, key)) is not None and normalizer is not None:
        steps.append(Normalized(found, normalizer.epsilon, normalizer.clip_obs))
    if raw.shape != seen.shape:
        if raw.shape is None or len(raw.shape) != 3 or seen.shape != (raw.shape[2], *raw.shape[:2]):
            raise ConfigError(f"observation_space: the policy was made for {key} {seen}; got {raw}")
        steps.append(ChannelsFirst())
    if isinstance(seen, spaces.Discrete):
        steps.append(OneHot([int(seen.n)]))
    elif isinstance(seen, spaces.MultiDiscrete):
        steps.append(OneHot([int(size) for size in seen.nvec]))
    elif normalize_images and is_image_space(seen):
        steps.append(Scaled())
    elif isinstance(seen, spaces.Box | spaces.MultiBinary):
        steps.append(Single())
    else:
        raise ConfigError(f"export: no way to deploy observations of {seen}")
    return nn.Sequential(*steps)

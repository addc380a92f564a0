"""Rollouts as minibatches of tensors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from deltarl.fast.libraries import callables
from deltarl.fast.scalars import number

_METHODS = callables(RolloutBuffer)
_FIELDS = ("observations", "actions", "values", "log_probs", "advantages", "returns")


def minibatches(buffer: RolloutBuffer, size: int | None) -> Iterator[RolloutBufferSamples]:
    """Iterate once over a full buffer in random order: the samples of `buffer.get(size)`, with fewer copies.

    Rows are permuted once and then sliced; the permutation is drawn as Stable-Baselines3 draws it.
    """
    if type(buffer) is not RolloutBuffer or not _METHODS.isdisjoint(vars(buffer)):
        yield from buffer.get(size)
        return
    order = torch.from_numpy(np.random.permutation(buffer.buffer_size * buffer.n_envs))
    if not buffer.generator_ready:
        for name in _FIELDS:
            setattr(buffer, name, buffer.swap_and_flatten(getattr(buffer, name)))
        buffer.generator_ready = True
    # Observations may be integers; everything else becomes float32, as in Stable-Baselines3.
    rows = [torch.from_numpy(getattr(buffer, name)).index_select(0, order).to(buffer.device) for name in _FIELDS]
    observations, actions, *columns = rows
    parts = [observations, actions.float(), *(column.flatten().float() for column in columns)]
    yield from map(RolloutBufferSamples, *(torch.split(part, size or len(order)) for part in parts))


def normalized(advantages: Tensor) -> Tensor:
    """Advantages `[n]`, normalized to mean 0 and standard deviation 1 with Stable-Baselines3's epsilon."""
    return (advantages - advantages.mean()).div_(advantages.std().add_(number(1e-8, advantages)))

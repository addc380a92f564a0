"""Python numbers as cached tensors."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def number(value: float, like: Tensor) -> Tensor:
    """A number as a tensor `[]` with the dtype and device of `like`; it is shared, so do not write to it.

    PyTorch converts a Python number to a tensor in every operation, which takes longer than adding it to the few rows
    of a minibatch. Here the tensor is made once and cached.
    """
    return _made(value, like.dtype, like.device)


@lru_cache(1024)
def _made(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.full((), value, dtype=dtype, device=device)  # no copy from the CPU

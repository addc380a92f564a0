"""Python's numbers as tensors."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def number(value: float, like: Tensor) -> Tensor:
    """A number as a tensor `[]` of the type and on the device of `like`, to be read only.

    PyTorch makes a tensor of a Python number at each operation, and casts it, which takes longer than to add it to the
    few rows of a minibatch. Those that come by here are made once, and kept if they are constants.
    """
    return _made(value, like.dtype, like.device)


@lru_cache(1024)
def _made(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(value, dtype=dtype, device=device)

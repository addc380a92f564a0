"""Settings that all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.distributions import Distribution


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def compiler() -> Iterator[None]:
    """PyTorch's compiler with nothing compiled; what it switches off in the whole process is on again afterwards."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()
    Distribution.set_default_validate_args(True)

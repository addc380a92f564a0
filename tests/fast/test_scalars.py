"""Python numbers as cached tensors."""

from __future__ import annotations

import pytest
import torch

from deltarl.fast.scalars import number


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_number_has_the_type_of_what_it_goes_with(dtype: torch.dtype) -> None:
    x = torch.ones(3, dtype=dtype)
    found = number(0.1, x)
    assert found.shape == ()
    assert found.dtype == dtype
    assert torch.equal(x * found, x * 0.1)
    assert number(0.1, x) is found

"""A layer whose state changes when it is called, compared with PyTorch's gradients."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from sb3_contrib.common.torch_layers import BatchRenorm1d
from torch import Tensor, nn

from deltarl.fast.layers import Recorded, Renorm
from deltarl.fast.networks import network_of
from deltarl.torsos.layers import BatchRenorm

FEATURES, ROWS = 6, 15


def renorm(kind: type[BatchRenorm1d], *, training: bool, warm: bool) -> BatchRenorm1d:
    """A norm away from its initial state; a warm one has running statistics far from a batch's in some features."""
    torch.manual_seed(0)
    norm = kind(FEATURES, eps=1e-3).double()
    norm.warmup_steps = 3
    with torch.no_grad():
        norm.scale.normal_()
        norm.bias.normal_()
        norm.ra_mean.copy_(torch.tensor([0.0, 0.1, -0.1, 2.0, 90.0, 0.0]))
        norm.ra_var.copy_(torch.tensor([1.0, 0.8, 1.3, 1.0, 1.0, 40.0]))
        norm.steps.fill_(4 if warm else 0)
    return norm.train(training)


@pytest.mark.parametrize("asks", [True, False], ids=["asks", "does not ask"])
@pytest.mark.parametrize("kind", [BatchRenorm1d, BatchRenorm])
@pytest.mark.parametrize(("training", "warm"), [(True, False), (True, True), (False, True)])
def test_batch_renormalisation_and_its_statistics(
    kind: type[BatchRenorm1d], training: bool, warm: bool, asks: bool
) -> None:
    """Whether it asks if warm-up has ended, as on the CPU, or computes both, as elsewhere."""
    module = renorm(kind, training=training, warm=warm)
    network = network_of(deepcopy(module))
    assert isinstance(network, Renorm)
    assert network.asks_if_warm
    network.asks_if_warm = asks
    x = torch.randn(ROWS, FEATURES, dtype=torch.float64)
    if not warm:
        x[:, 3] = 1.0  # without variance
    x.requires_grad_()
    expected = module(x)
    gradient = torch.randn_like(expected)
    by_x, *by_parameters = torch.autograd.grad(expected, [x, module.scale, module.bias], gradient)
    with torch.no_grad():
        y, saved = network.forward(x)
        found, by_own = network.backward(saved, gradient, inputs=slice(None))
        some, none = network.backward(saved, gradient, inputs=slice(-2, None), parameters=False)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(found, by_x)
    torch.testing.assert_close(some, by_x[:, -2:])
    assert none == []
    for one, other in zip(by_own, by_parameters, strict=True):
        torch.testing.assert_close(one, other)
    for one, other in zip(network.norm.buffers(), module.buffers(), strict=True):
        torch.testing.assert_close(one, other)


class Shared(nn.Module):
    """Makes PyTorch return gradients as views: expanded, transposed, and one shared by two parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(2, FEATURES // 2))
        self.one, self.other, self.several = (nn.Parameter(torch.randn(size)) for size in (FEATURES, FEATURES, 3))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.table.t().reshape(-1)) * (self.one + self.other) * self.several.sum()


def test_recorded_gradients_have_memory_of_their_own() -> None:
    """Optimizers and clipping change gradients in place, and assume the usual memory layout."""
    torch.manual_seed(0)
    module = Shared()
    x = torch.randn(ROWS, FEATURES)
    expected = torch.autograd.grad(module(x).sum(), list(module.parameters()))
    network = network_of(module)
    with torch.no_grad():
        y, saved = network.forward(x)
        by_input, found = network.backward(saved, torch.ones_like(y), inputs=slice(None))
    own = [each for each in (by_input, *found) if each is not None]
    assert all(each.is_contiguous() for each in own)
    assert len({each.data_ptr() for each in own}) == len(own) == 5
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_batch_of_one_row_has_no_variance() -> None:
    network = network_of(renorm(BatchRenorm, training=True, warm=False))
    with pytest.raises(ValueError, match="batch_renorm needs at least 2 rows in training mode, got 1"):
        network.forward(torch.ones(1, FEATURES, dtype=torch.float64))


def test_without_weights_it_is_recorded() -> None:
    """It still has parameters, which it does not use."""
    assert isinstance(network_of(BatchRenorm1d(FEATURES, affine=False)), Recorded)

"""Gradients of single rows of a batch by the parameters of each block of a torso, and of its gate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deltarl.torsos import Torso
from deltarl.torsos.block import gate_rows


@dataclass(frozen=True)
class Gradients:
    """Root mean squares over rows of the norm of a row's gradient, one number per block.

    Attributes:
        blocks: with respect to the weights and biases of the block's Linears.
        gates: with respect to those of its gate; NaN without a learned gate.
    """

    blocks: tuple[float, ...]
    gates: tuple[float, ...]


Calls = dict[nn.Linear, tuple[Tensor, Tensor]]


def linears(block: nn.Module) -> list[nn.Linear]:
    """The Linears of a block, whose gradients are measured."""
    return [each for each in block.modules() if isinstance(each, nn.Linear)]


@contextmanager
def recorded(torsos: Sequence[Torso]) -> Iterator[Calls]:
    """Input and output of every Linear in the torsos' blocks at its last call within the context.

    This works with frozen parameters: an output that needs no gradient so far starts a new graph.
    """
    calls: Calls = {}

    def keep(linear: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert isinstance(linear, nn.Linear)
        output = output if output.requires_grad or not torch.is_grad_enabled() else output.detach().requires_grad_()
        calls[linear] = args[0].detach(), output
        return output

    handles = [
        each.register_forward_hook(keep) for torso in torsos for block in torso.blocks for each in linears(block)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def squares(torso: Torso, calls: Calls, by_output: Mapping[nn.Linear, Tensor | None]) -> Tensor:
    """Sums over rows of squared gradient norms, `[2, blocks]`: of all Linears of each block, and of its gate.

    Args:
        torso: the torso.
        calls: from `recorded`; inputs and outputs are `[N, ..., d]`.
        by_output: gradients with respect to the Linears' outputs; None if there is none.
    """
    found = torch.zeros(2, len(torso.blocks), dtype=torch.float64)
    for index, block in enumerate(torso.blocks):
        for linear in linears(block):
            if (by := by_output.get(linear)) is None:
                continue
            x = calls[linear][0]
            found[0, index] += _square(linear, x, by)
            if (rows := gate_rows(block).get(linear)) is not None:
                found[1, index] += _square(linear, x, by[..., rows])
    return found


def root_mean_squares(torso: Torso, sums: Tensor, rows: int) -> Gradients:
    """`Gradients` from sums of `squares` over `rows` rows; NaN for 0 rows."""
    blocks, gates = (sums / (rows or math.nan)).sqrt().tolist()
    gated = [bool(gate_rows(block)) for block in torso.blocks]
    return Gradients(
        tuple(blocks), tuple(gate if is_gate else math.nan for gate, is_gate in zip(gates, gated, strict=True))
    )


def _square(linear: nn.Linear, x: Tensor, by_output: Tensor) -> float:
    """Sum over rows of the squared gradient norm for weight and bias; x and by_output are `[N, ..., d]`."""
    x, by_output = (each.flatten(1, -2) if each.ndim > 2 else each.unsqueeze(1) for each in (x, by_output))
    by_bias = by_output.sum(1).square().sum() if linear.bias is not None else 0.0
    if x.shape[1] == 1:  # the weight's gradient is an outer product, so its norm is the product of norms
        return float((by_output.square().sum(-1) * x.square().sum(-1)).sum() + by_bias)
    return float(torch.einsum("npo,npi->noi", by_output, x).square().sum() + by_bias)

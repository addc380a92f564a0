"""The Block protocol: what a block reports about itself besides mapping a state to a state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class BlockRecord:
    """Measurements of one block on a batch of N; None where they are not defined for the block.

    Attributes:
        update_ratio: `|X' - X| / |X|`, `[N]`; NaN where X is 0.
        k: direction, `[N, heads, width / heads]`.
        v: value, `[N, heads, channels]`; for an additive block its learned magnitude, the same for all inputs.
        beta: gate, `[N, heads]`.
        readout: `k^T X`, `[N, heads, channels]`.
        readout_after: `k^T X'`, `[N, heads, channels]`.
        cos: `|k^T X| / |X|` within a head, per channel, `[N, heads, channels]`.
        cos_pairs: its mean over pairs of different samples for k and X, `[heads, channels]`; NaN for N = 1.
        erases: whether the state loses beta times its part along k.
    """

    update_ratio: Tensor
    k: Tensor | None = None
    v: Tensor | None = None
    beta: Tensor | None = None
    readout: Tensor | None = None
    readout_after: Tensor | None = None
    cos: Tensor | None = None
    cos_pairs: Tensor | None = None
    erases: bool = False

    @property
    def eigenvalue(self) -> Tensor | None:
        """The shortcut's eigenvalue along k, `[N, heads]`: `1 - beta` (paper, section 2.3), 1 without erasure."""
        if self.beta is None:
            return None
        return 1 - self.beta if self.erases else torch.ones_like(self.beta)

    @property
    def erase_share(self) -> Tensor | None:
        """`|k^T X| / (|k^T X| + |v|)`, the share of erasing in the rewrite, `[N, heads, channels]`."""
        if not self.erases or self.readout is None or self.v is None:
            return None
        erased = self.readout.abs()
        return erased / (erased + self.v.abs())


class Block(nn.Module):
    """Base of the library's blocks. Deriving from it is optional: `observe` and `gate_rows` below accept any module.

    If a block, or a module inside one, has a method `project_()`, policies call it after each optimizer step. Layers
    that keep their weights on a sphere use this.

    Attributes:
        erases: whether the state loses beta times its part along k.
    """

    erases: bool = False

    def observe(self, x: Tensor, after: Tensor) -> BlockRecord:
        """Measure the block on a batch.

        Args:
            x: the state before the block, `[N, ...]`.
            after: the state after it, of the same shape.
        """
        return BlockRecord(update_ratio(x, after))

    def gate_rows(self) -> dict[nn.Linear, slice]:
        """The Linears of the learned gate, and which of their output rows belong to it; empty without a gate."""
        return {}


def update_ratio(x: Tensor, after: Tensor) -> Tensor:
    """`|X' - X| / |X|` per sample, `[N]`; NaN where X is 0."""
    moved, length = (after - x).flatten(1).norm(dim=-1), x.flatten(1).norm(dim=-1)
    return torch.where(length > 0, moved / length, torch.nan)


def observe(block: nn.Module, x: Tensor, after: Tensor) -> BlockRecord:
    """`Block.observe` for any module; for other than `Block`s only the update ratio."""
    return block.observe(x, after) if isinstance(block, Block) else BlockRecord(update_ratio(x, after))


def gate_rows(block: nn.Module) -> dict[nn.Linear, slice]:
    """`Block.gate_rows` for any module; empty for other than `Block`s."""
    return block.gate_rows() if isinstance(block, Block) else {}


def undecayed_parameters(module: nn.Module) -> set[str]:
    """Names of the parameters to exclude from weight decay: biases, norms, scales and gates.

    Decay would pull a gate's logits to 0, and so beta to beta_max / 2. A Linear that holds a gate is excluded as a
    whole.
    """
    weights: set[int] = set()
    gates: set[int] = set()
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.RNNBase):
            weights |= ids(parameter for parameter in child.parameters() if parameter.ndim > 1)
        gates |= ids(linear.weight for linear in gate_rows(child))
    return {name for name, parameter in module.named_parameters() if id(parameter) not in weights - gates}


def ids(parameters: Iterable[Tensor]) -> set[int]:
    """Identities of tensors, which compare by value."""
    return set(map(id, parameters))

"""The Block protocol: what a block of a torso tells about itself besides mapping a state to a state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class BlockRecord:
    """One block on a batch of N; None where a block of its kind has no such thing.

    Attributes:
        update_ratio: `|X' - X| / |X|`, `[N]`.
        k: direction, `[N, heads, width / heads]`.
        v: value, `[N, heads, channels]`; of an additive block, which has one for all inputs, that.
        beta: gate, `[N, heads]`.
        readout: `k^T X`, `[N, heads, channels]`.
        readout_after: `k^T X'`, `[N, heads, channels]`.
        cos: `|k^T X| / |X|` within a head, for each channel, `[N, heads, channels]`.
        cos_pairs: the mean of that over the k of one sample and the X of another, `[heads, channels]`; NaN for N = 1.
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
        """`|k^T X| / (|k^T X| + |v|)`: how much of the rewrite is erasure, `[N, heads, channels]`."""
        if not self.erases or self.readout is None or self.v is None:
            return None
        erased = self.readout.abs()
        return erased / (erased + self.v.abs())


class Block(nn.Module):
    """Base of the library's blocks. A block need not derive from it: `observe` and `gate_rows` below take any module.

    A block, or a module within one, that has a method `project_()` has it called after each step of the optimizer, as
    layers need that keep their weights on a sphere.

    Attributes:
        erases: whether the state loses beta times its part along k.
    """

    erases: bool = False

    def observe(self, x: Tensor, after: Tensor) -> BlockRecord:
        """What the block does on a batch.

        Args:
            x: the state before it, `[N, ...]`.
            after: the state behind it, of the same shape.
        """
        return BlockRecord(update_ratio(x, after))

    def gate_rows(self) -> dict[nn.Linear, slice]:
        """The Linears that make the block's learned gate, and which of their output rows do; empty without one."""
        return {}


def update_ratio(x: Tensor, after: Tensor) -> Tensor:
    """`|X' - X| / |X|` for each sample, `[N]`."""
    moved, length = (after - x).flatten(1), x.flatten(1)
    ratio: Tensor = moved.norm(dim=-1) / length.norm(dim=-1)
    return ratio


def observe(block: nn.Module, x: Tensor, after: Tensor) -> BlockRecord:
    """`Block.observe` of any module; of one that is no `Block`, how far it moves the state."""
    return block.observe(x, after) if isinstance(block, Block) else BlockRecord(update_ratio(x, after))


def gate_rows(block: nn.Module) -> dict[nn.Linear, slice]:
    """`Block.gate_rows` of any module; none of one that is no `Block`."""
    return block.gate_rows() if isinstance(block, Block) else {}


def undecayed_parameters(module: nn.Module) -> set[str]:
    """Names of the parameters that weight decay should leave alone: all but the weights of matrix products.

    These are biases, norms, scales such as an action's log standard deviation, and gates.

    Decay pulls a gate's logits, and with them beta, to beta_max / 2. A Linear that holds a gate counts as a whole.
    """
    weights: set[int] = set()
    gates: set[int] = set()
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.RNNBase):
            weights |= ids(parameter for parameter in child.parameters() if parameter.ndim > 1)
        gates |= ids(linear.weight for linear in gate_rows(child))
    return {name for name, parameter in module.named_parameters() if id(parameter) not in weights - gates}


def ids(parameters: Iterable[Tensor]) -> set[int]:
    """Identities: tensors compare by value."""
    return set(map(id, parameters))

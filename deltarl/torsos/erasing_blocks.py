"""Residual blocks that also remove a part of the state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deltarl.functional import gate, orthogonal_update, residual_erase_update, unit_direction
from deltarl.torsos.block import BlockRecord, update_ratio
from deltarl.torsos.delta_blocks import cosines_of_pairs, gate_width_of, start_gate
from deltarl.torsos.delta_options import DeltaOptions
from deltarl.torsos.residual_blocks import PlainBlock


class ResidualEraseBlock(PlainBlock):
    """X + F(c) - beta k (k^T X), k = unit(F(c)): a residual block that erases; at beta = 0 the residual block.

    With several heads, each has its own k and beta and erases within the head.
    """

    erases = True

    def __init__(self, spec: DeltaOptions) -> None:
        super().__init__(spec)
        self.heads, self.eps = spec.heads, spec.eps
        self.beta_init, self.beta_max = spec.beta_init, spec.beta_max
        self.gate_width = gate_width_of(spec)
        self.write = nn.Linear(spec.width, self.gate_width) if self.gate_width else None
        self.gate_out = nn.Linear(self.gate_width, spec.heads) if spec.gate_layers == 2 else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start the gates at `beta_init`, whatever the input."""
        if self.write is not None:
            self.write.reset_parameters()
            start_gate(self.gate_out or self.write, self.heads, self.beta_init, self.beta_max)

    def beta(self, context: Tensor) -> Tensor:
        """The gate, `[..., heads, 1]`."""
        if self.write is None:
            return context.new_full((*context.shape[:-1], self.heads, 1), self.beta_init)
        logits: Tensor = self.write(context)
        if self.gate_out is not None:
            logits = self.gate_out(torch.tanh(logits))
        return gate(logits, self.beta_max).unsqueeze(-1)

    def split_heads(self, x: Tensor) -> Tensor:
        """`[..., heads, width / heads]`."""
        return torch.unflatten(x, -1, (self.heads, -1))

    def rewrite(self, state: Tensor, h: Tensor, context: Tensor) -> Tensor:
        """The new state, from the state and F(c), both split into heads, and the context, which beta is read from."""
        return residual_erase_update(state, h, unit_direction(h, self.eps), self.beta(context))

    def forward(self, x: Tensor) -> Tensor:
        context = self.norm(x)
        new = self.rewrite(self.split_heads(x), self.split_heads(self.sublayer(context)), context)
        return self.joined(x, new.reshape(x.shape))

    @torch.no_grad()
    def observe(self, x: Tensor, after: Tensor) -> BlockRecord:
        """Records |F(c)| / beta as the value: the target of the Delta block that makes the same step."""
        context = self.norm(x)
        h, beta = self.split_heads(self.sublayer(context)), self.beta(context)
        k, state = unit_direction(h, self.eps), self.split_heads(x)
        readout, readout_after = ((k * each).sum(-1, keepdim=True) for each in (state, self.split_heads(after)))
        norm = state.norm(dim=-1, keepdim=True)
        v, cos = h.norm(dim=-1, keepdim=True) / beta, readout.abs() / norm
        pairs = cosines_of_pairs(k, (state / norm).unsqueeze(-1))
        return BlockRecord(update_ratio(x, after), k, v, beta.squeeze(-1), readout, readout_after, cos, pairs, True)

    def gate_rows(self) -> dict[nn.Linear, slice]:
        return {linear: slice(None) for linear in (self.write, self.gate_out) if linear is not None}

    def extra_repr(self) -> str:
        return f"heads={self.heads}, eps={self.eps:g}, beta_init={self.beta_init:g}, beta_max={self.beta_max:g}"


class OrthogonalBlock(PlainBlock):
    """X + F(c) - X (X^T F(c)) / (X^T X + eps): adds only what is orthogonal to the state (arXiv 2505.11881)."""

    def __init__(self, spec: DeltaOptions) -> None:
        super().__init__(spec)
        self.eps = spec.eps

    def forward(self, x: Tensor) -> Tensor:
        return self.joined(x, orthogonal_update(x, self.branch(x), self.eps))

    def extra_repr(self) -> str:
        return f"eps={self.eps:g}"

"""Delta blocks and their variants.

Every block computes the context c = Norm(compress(X)) and F(c), with F the sublayer (Linear, activation, Linear). The
updates differ only in how F(c) changes the state.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from deltarl.functional import delta_update, gate, unit_direction, write_only_update
from deltarl.torsos.block import BlockRecord, update_ratio
from deltarl.torsos.delta_options import DeltaOptions
from deltarl.torsos.join import StackBlock, make_context_norm
from deltarl.torsos.layers import ChannelCompressor, Sublayer, make_norm, start_linear, sublayer_norm
from deltarl.torsos.residual_blocks import PlainBlock

# The authors' code offers a positive target, 4 sigmoid(.), as an alternative to the paper's linear one.
SIGMOID_VALUE_SCALE = 4.0


def gate_width_of(spec: DeltaOptions) -> int:
    """Outputs of the first layer of the gate's branch; 0 for a fixed gate."""
    if spec.gate == "fixed":
        return 0
    gates = spec.heads * spec.products
    return gates if spec.gate_layers == 1 else max(gates, spec.width // 4)


def start_gate(last: nn.Linear, gates: int, beta_init: float, beta_max: float) -> None:
    """Start the gates whose logits are the first outputs of `last` at `beta_init`, whatever the input."""
    with torch.no_grad():
        last.weight[:gates].zero_()
        last.bias[:gates].fill_(math.log(beta_init / (beta_max - beta_init)))


class RankOneBlock(StackBlock, ABC):
    """Base of the blocks that change the state along one direction per head; subclasses implement `rewrite`.

    Maps a state `[..., width]`, or `[..., width, channels]` where `spec.channels` is above 1, to the same shape.

    Args:
        spec: the options.
        sublayer: F, if it is not the spec's own.
    """

    def __init__(self, spec: DeltaOptions, sublayer: nn.Module | None = None) -> None:
        super().__init__(spec)
        self.width, self.heads, self.channels, self.eps = spec.width, spec.heads, spec.channels, spec.eps
        self.products = spec.products
        self.compress = ChannelCompressor(spec.width, spec.channels) if spec.channels > 1 else nn.Identity()
        self.norm = make_context_norm(spec)
        directions = spec.width * spec.products
        if sublayer is None:
            sublayer = spec.make_sublayer(None if spec.direction == "generator" else directions)
        self.sublayer = sublayer
        if spec.direction == "linear":
            self.sublayer = linear = nn.Linear(spec.width, directions)
            start_linear(linear)
            if spec.norm_position == "sandwich":
                self.sublayer = nn.Sequential(linear, make_norm(spec.norm, directions, spec.eps))
        self.generator = (
            Sublayer(spec.width, max(4, spec.width // 4), spec.activation, out=directions)
            if spec.direction == "generator"
            else None
        )

    @abstractmethod
    def rewrite(self, state: Tensor, k: Tensor, source: Tensor) -> Tensor:
        """The new state, from state and direction, both split into heads, and the source of v and beta."""

    def direction(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The direction k `[..., products * heads, width / heads]` and the source of v and beta `[..., width]`.

        k comes from the sublayer and the source is the context; with a generator, k comes from the generator and the
        source is the sublayer's output.
        """
        context = self.norm(self.compress(x))
        h = self.sublayer(context)
        h, source = (h, context) if self.generator is None else (self.generator(context), h)
        return unit_direction(torch.unflatten(h, -1, (self.products * self.heads, -1)), self.eps), source

    def split_heads(self, x: Tensor) -> Tensor:
        """The state with its width split: `[..., heads, width / heads]`, followed by the channels if there are any."""
        return torch.unflatten(x, -self.state_dims, (self.heads, -1))

    @property
    def state_dims(self) -> int:
        """Dimensions of one state: width, and channels if there are any."""
        return 1 if self.channels == 1 else 2

    def forward(self, x: Tensor) -> Tensor:
        k, source = self.direction(x)
        return self.joined(x, self.rewrite(self.split_heads(x), k, source).reshape(x.shape))

    def value_and_beta(self, source: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """v `[N, heads, channels]` and beta `[N, heads]` for a record; None for what the block does not have."""
        del source
        return None, None

    @torch.no_grad()
    def observe(self, x: Tensor, after: Tensor) -> BlockRecord:
        """Products are recorded as further heads: first the heads of the first product, then those of the second.

        Of a state `[N, T, width]`, each of the N * T tokens is a row.
        """
        k, source = self.direction(x)
        x, after = (each.flatten(0, -1 - self.state_dims) for each in (x, after))
        k, source = k.flatten(0, -3), source.flatten(0, -2)
        v, beta = self.value_and_beta(source)
        between = self.states_between(self.split_heads(x), k, source)
        states = [x, *(each.reshape(x.shape) for each in between), after]
        split = [self._with_channels(each) for each in states]
        state, rewritten = torch.cat(split[:-1], dim=1), torch.cat(split[1:], dim=1)
        readout, readout_after = ((k.unsqueeze(-1) * each).sum(-2) for each in (state, rewritten))
        norm = state.norm(dim=-2)
        cos, pairs = readout.abs() / norm, cosines_of_pairs(k, state / norm.unsqueeze(-2))
        return BlockRecord(update_ratio(x, after), k, v, beta, readout, readout_after, cos, pairs, self.erases)

    def states_between(self, state: Tensor, k: Tensor, source: Tensor) -> list[Tensor]:  # noqa: ARG002
        """The states between the products of a block, split into heads; none with a single product."""
        return []

    def _with_channels(self, x: Tensor) -> Tensor:
        """The state as `[N, heads, width / heads, channels]`."""
        split = self.split_heads(x)
        return split.unsqueeze(-1) if self.channels == 1 else split

    def extra_repr(self) -> str:
        products = f", products={self.products}" if self.products > 1 else ""
        return f"heads={self.heads}, channels={self.channels}{products}, eps={self.eps:g}"


class DeltaBlock(RankOneBlock):
    """One Delta block (paper, sections 2.1, 2.2 and 3).

    From the context c = Norm(compress(X)) come the direction k = unit(F(c)), the value v = W_v c + b_v and the gate
    beta = beta_max sigmoid(W_b c + b); the state becomes X + beta k (v^T - k^T X). With several heads the width
    splits into groups, and each has its own k, v and beta. Every gate starts at `spec.beta_init` exactly. With n
    products, n such updates with their own k, v and beta are applied in a row (DeltaProduct, arXiv 2502.10297).

    Args:
        spec: width, hidden, heads, channels and the other options; `spec.depth` is not read.
        sublayer: F, if it is not the spec's own.
    """

    erases = True
    update: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = staticmethod(delta_update)

    def __init__(self, spec: DeltaOptions, sublayer: nn.Module | None = None) -> None:
        super().__init__(spec, sublayer)
        self.beta_init, self.beta_max, self.sigmoid_value = spec.beta_init, spec.beta_max, spec.value == "sigmoid"
        self.value_start, self.sphere = spec.value_start, spec.sphere
        self.gate_width = gate_width_of(spec)
        # One Linear for gate and value: a second small GEMM would cost as much again. Not named "value", because TRPO
        # leaves every parameter with "value" in its path out of the policy's step.
        groups = spec.heads * spec.products
        self.write = nn.Linear(spec.width, self.gate_width + groups * spec.channels)
        self.gate_out = nn.Linear(self.gate_width, groups) if spec.gate_layers == 2 else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start the gates at `beta_init` for every input, and a linear value at `value_start`.

        The gates' last weights start at 0 and their bias at the logit. The value's bias starts at `value_start` times
        `sublayer_norm`. At 1 a block writes as much as the residual block; with PyTorch's default, near 0, a torso is
        almost linear in its features. With several channels, the biases are normal random
        numbers of that scale, so that the channels start apart.
        """
        self.write.reset_parameters()
        groups = self.heads * self.products
        with torch.no_grad():
            if not self.sigmoid_value:
                bias = self.write.bias[self.gate_width :]
                bias.fill_(self.value_start * sublayer_norm(self.width, groups))
                if self.channels > 1:
                    bias.mul_(torch.randn_like(bias))
            if not self.gate_width:
                return
            start_gate(self.gate_out or self.write, groups, self.beta_init, self.beta_max)

    def value_and_gate(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """v `[..., products * heads, channels]` and beta `[..., products * heads, 1]`, read from the source."""
        groups = self.heads * self.products
        logits, v = self.write(source).split([self.gate_width, groups * self.channels], dim=-1)
        v = torch.unflatten(v, -1, (groups, self.channels))
        if self.sigmoid_value:
            v = SIGMOID_VALUE_SCALE * torch.sigmoid(v)
        if self.sphere:
            radius = math.sqrt(self.width / self.heads)
            v = radius * torch.tanh(v / radius)
        if not self.gate_width:
            return v, v.new_full((*v.shape[:-1], 1), self.beta_init)
        if self.gate_out is not None:
            logits = self.gate_out(torch.tanh(logits))
        return v, gate(logits, self.beta_max).unsqueeze(-1)

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return unit_direction(x, self.eps) * math.sqrt(self.width) if self.sphere else x

    def rewrite(self, state: Tensor, k: Tensor, source: Tensor) -> Tensor:
        v, beta = self.value_and_gate(source)
        return self.products_of(self.update, state, k, v, beta)[-1]

    def products_of(
        self,
        update: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
        state: Tensor,
        k: Tensor,
        v: Tensor,
        beta: Tensor,
    ) -> list[Tensor]:
        """The state after each of the block's updates.

        Args:
            update: one of `deltarl.functional`.
            state: split into heads, `[..., heads, width / heads]` and the channels.
            k: `[..., products * heads, width / heads]`, product by product.
            v: `[..., products * heads, channels]`.
            beta: `[..., products * heads, 1]`.
        """
        if self.products == 1:
            return [update(state, k, v, beta)]
        states = []
        for each in zip(*(torch.split(part, self.heads, dim=-2) for part in (k, v, beta)), strict=True):
            state = update(state, *each)
            states.append(state)
        return states

    def states_between(self, state: Tensor, k: Tensor, source: Tensor) -> list[Tensor]:
        return self.products_of(self.update, state, k, *self.value_and_gate(source))[:-1]

    def value_and_beta(self, source: Tensor) -> tuple[Tensor | None, Tensor | None]:
        v, beta = self.value_and_gate(source)
        return v, beta.squeeze(-1)

    def gate_rows(self) -> dict[nn.Linear, slice]:
        if not self.gate_width:
            return {}
        rows = {self.write: slice(self.gate_width)}  # the others make the value
        return rows if self.gate_out is None else {**rows, self.gate_out: slice(None)}

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, beta_init={self.beta_init:g}, beta_max={self.beta_max:g}"


class WriteOnlyBlock(DeltaBlock):
    """X + beta k v^T: a Delta block that writes and does not erase, the control that the paper asks for (section 5)."""

    erases = False
    update = staticmethod(write_only_update)


class AdditiveBlock(RankOneBlock):
    """X + k s^T with a learned, input-independent s: a residual block that uses only the direction of F(c).

    s starts at `value_start` times `sublayer_norm`; at 1 the block starts near the residual one. Several channels start
    apart, as in a Delta block.
    """

    def __init__(self, spec: DeltaOptions) -> None:
        super().__init__(spec)
        self.value_start = spec.value_start
        self.magnitude = nn.Parameter(torch.empty(spec.heads, spec.channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.magnitude, self.value_start * sublayer_norm(self.width, self.heads))
        if self.channels > 1:
            with torch.no_grad():
                self.magnitude.mul_(torch.randn_like(self.magnitude))

    def rewrite(self, state: Tensor, k: Tensor, source: Tensor) -> Tensor:  # noqa: ARG002
        return write_only_update(state, k, self.magnitude, self.magnitude.new_ones(1))

    def value_and_beta(self, source: Tensor) -> tuple[Tensor | None, Tensor | None]:
        return self.magnitude.expand(len(source), -1, -1), None


class LerpBlock(PlainBlock):
    """X + a (F(c) - X) with a learned rate a in (0, 1) for each feature: SimbaV2's form without its sphere.

    a starts at 1 / (depth + 1) (Lee et al., arXiv 2502.15280).
    """

    def __init__(self, spec: DeltaOptions) -> None:
        super().__init__(spec)
        self.depth = spec.depth
        self.rate_logit = nn.Parameter(torch.empty(spec.width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.rate_logit, -math.log(self.depth))

    def forward(self, x: Tensor) -> Tensor:
        return self.joined(x, torch.lerp(x, self.branch(x), torch.sigmoid(self.rate_logit)))


def cosines_of_pairs(k: Tensor, unit: Tensor) -> Tensor:
    """Mean `|k_i^T x_j|` over i != j, `[heads, channels]`: of k `[N, heads, d]`, unit x `[N, heads, d, channels]`.

    Rows of NaN, the directions of states that are 0, are left out.
    """
    means = []
    for head, states in zip(k.unbind(1), unit.unbind(1), strict=True):  # one at a time: [N, N] numbers a channel
        each = torch.einsum("id,jdc->ijc", head, states).abs()
        each.diagonal().fill_(torch.nan)
        means.append(each.nanmean((0, 1)))
    return torch.stack(means)

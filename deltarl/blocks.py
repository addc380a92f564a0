"""Blocks of a torso: what happens to the state between two norms.

Every block reads the normalised, compressed state c = Norm(compress(X)) and shares the sublayer F
(Linear, activation, Linear); the kinds differ only in how F(c) reaches the state.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from sb3_contrib.common.torch_layers import BatchRenorm1d
from torch import Tensor, nn

from deltarl.functional import delta_update, gate, unit_direction, write_only_update
from deltarl.specs import DeltaTorsoSpec, ResidualTorsoSpec, StackSpec

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
}
# The authors' code offers a positive target, 4 sigmoid(.), as an alternative to the paper's linear one.
SIGMOID_VALUE_SCALE = 4.0


class BatchRenorm(BatchRenorm1d):
    """sb3-contrib's batch renormalisation, its statistics under the names that target networks follow.

    Stable-Baselines3 copies a buffer to a target network only if it is called `running_*`.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float) -> None:
        super().__init__(num_features, eps=eps)
        self.register_buffer("running_mean", self._buffers.pop("ra_mean"))
        self.register_buffer("running_var", self._buffers.pop("ra_var"))

    @property
    def ra_mean(self) -> Tensor:
        return self.running_mean

    @ra_mean.setter
    def ra_mean(self, mean: Tensor) -> None:
        self.running_mean = mean

    @property
    def ra_var(self) -> Tensor:
        return self.running_var

    @ra_var.setter
    def ra_var(self, var: Tensor) -> None:
        self.running_var = var

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if self.training and len(rows) < 2:
            raise ValueError(f"batch_renorm needs at least 2 rows in training mode, got {len(rows)}")
        result: Tensor = super().forward(rows)
        return result.reshape(x.shape)


def make_norm(spec: StackSpec) -> nn.Module:
    """The norm that `spec` names, over its width."""
    if spec.norm == "batch_renorm":
        return BatchRenorm(spec.width, eps=spec.eps)
    norm = nn.LayerNorm if spec.norm == "layer" else nn.RMSNorm
    return norm(spec.width, eps=spec.eps)


class Sublayer(nn.Sequential):
    """F: Linear, activation, Linear; He initialisation and zero biases, as in SimBa (arXiv 2410.09754)."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__(nn.Linear(width, hidden), ACTIVATIONS[activation](), nn.Linear(hidden, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self:
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)


def sublayer_norm(width: int, heads: int) -> float:
    """Root mean square of |F(c)| over a head's features at initialisation, for a normalised c and ReLU.

    He initialisation gives each feature of F(c) a variance of 2.
    """
    return math.sqrt(2 * width / heads)


class PlainBlock(nn.Module):
    """F(Norm(x)): a block with no shortcut. Maps `[..., width]` to `[..., width]`."""

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        self.norm = make_norm(spec)
        self.sublayer = Sublayer(spec.width, spec.hidden, spec.activation)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.sublayer(self.norm(x))
        return result


class ResidualBlock(PlainBlock):
    """x + F(Norm(x)): the pre-norm residual block. Maps `[..., width]` to `[..., width]`.

    At the start the last layer of F is `spec.init_scale` times what a plain block's is.
    """

    def __init__(self, spec: ResidualTorsoSpec) -> None:
        super().__init__(spec)
        last = self.sublayer[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight.mul_(spec.init_scale)

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class ChannelCompressor(nn.Module):
    """Mixes the value channels of each feature, `[..., d, d_v]` to `[..., d]` (paper, DDL-CC, appendix A.2).

    It starts at random weights whose squares sum to 1 in expectation, which keeps the size of the state and gives each
    channel a gradient of its own; with a mean over channels, those that start equal would stay so.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(width, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.kernel, std=self.kernel.shape[1] ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.kernel).sum(-1)

    def extra_repr(self) -> str:
        width, channels = self.kernel.shape
        return f"width={width}, channels={channels}"


class RankOneBlock(nn.Module, ABC):
    """What the blocks share that change the state along one direction a head; `rewrite` is what differs.

    Maps a state `[..., width]`, or `[..., width, channels]` where `spec.channels` is above 1, to the same shape.
    """

    def __init__(self, spec: DeltaTorsoSpec) -> None:
        super().__init__()
        self.width, self.heads, self.channels, self.eps = spec.width, spec.heads, spec.channels, spec.eps
        self.compress = ChannelCompressor(spec.width, spec.channels) if spec.channels > 1 else nn.Identity()
        self.norm = make_norm(spec)
        self.sublayer = Sublayer(spec.width, spec.hidden, spec.activation)
        self.generator = (
            Sublayer(spec.width, max(4, spec.width // 4), spec.activation) if spec.direction == "generator" else None
        )

    @abstractmethod
    def rewrite(self, state: Tensor, k: Tensor, source: Tensor) -> Tensor:
        """The new state from the state and its direction, both split into heads, and what v and beta are read from."""

    def direction(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The direction k `[..., heads, width / heads]` and the source of v and beta `[..., width]`.

        k is the sublayer's output, and the source the normalised context; with a generator k comes from that, and
        the sublayer's output is the source.
        """
        context = self.norm(self.compress(x))
        h = self.sublayer(context)
        h, source = (h, context) if self.generator is None else (self.generator(context), h)
        return unit_direction(torch.unflatten(h, -1, (self.heads, -1)), self.eps), source

    def split_heads(self, x: Tensor) -> Tensor:
        """The state with its width split: `[..., heads, width / heads]`, and the channels last if there are any."""
        axis = -1 if self.channels == 1 else -2
        return torch.unflatten(x, axis, (self.heads, -1))

    def forward(self, x: Tensor) -> Tensor:
        k, source = self.direction(x)
        return self.rewrite(self.split_heads(x), k, source).reshape(x.shape)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, channels={self.channels}, eps={self.eps:g}"


class DeltaBlock(RankOneBlock):
    """One Delta block (paper, sections 2.1, 2.2 and 3).

    From the context c = Norm(compress(X)) come the direction k = unit(F(c)), the value v = W_v c + b_v and the gate
    beta = beta_max sigmoid(W_b c + b); the state becomes X + beta k (v^T - k^T X). With several heads the width
    splits into groups, and each has its own k, v and beta. Every gate starts at `spec.beta_init` exactly.

    Args:
        spec: width, hidden, heads, channels and the other options; `spec.depth` is not read.
    """

    erases: ClassVar[bool] = True  # whether the state loses beta times its part along k
    update: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = staticmethod(delta_update)

    def __init__(self, spec: DeltaTorsoSpec) -> None:
        super().__init__(spec)
        self.beta_init, self.beta_max, self.sigmoid_value = spec.beta_init, spec.beta_max, spec.value == "sigmoid"
        self.value_start = spec.value_start
        self.gate_width = 0
        if spec.gate == "learned":
            self.gate_width = spec.heads if spec.gate_layers == 1 else max(spec.heads, spec.width // 4)
        # Gate and value come from one Linear, since each further small GEMM costs as much as this one. It is not
        # called "value": TRPO leaves every parameter with "value" in its path out of the policy's step.
        self.write = nn.Linear(spec.width, self.gate_width + spec.heads * spec.channels)
        self.gate_out = nn.Linear(self.gate_width, spec.heads) if spec.gate_layers == 2 else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start the gates at `beta_init`, whatever the input, and a linear value at `value_start`.

        The gates' last weights start at 0 and their bias at the logit. The value's bias starts at `value_start` times
        `sublayer_norm`; at 1 a block writes as much as the residual block would, and with PyTorch's own start, near 0,
        a torso is almost linear in its features (benchmarks/value_start.py). Several channels start apart, at normal
        random numbers of that size.
        """
        self.write.reset_parameters()
        with torch.no_grad():
            if not self.sigmoid_value:
                bias = self.write.bias[self.gate_width :]
                bias.fill_(self.value_start * sublayer_norm(self.width, self.heads))
                if self.channels > 1:
                    bias.mul_(torch.randn_like(bias))
            if not self.gate_width:
                return
            weight, bias = self.write.weight[: self.gate_width], self.write.bias[: self.gate_width]
            if self.gate_out is not None:
                weight, bias = self.gate_out.weight, self.gate_out.bias
            weight.zero_()
            bias.fill_(math.log(self.beta_init / (self.beta_max - self.beta_init)))

    def value_and_gate(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """v `[..., heads, channels]` and beta `[..., heads, 1]` from the source `[..., width]`."""
        logits, v = self.write(source).split([self.gate_width, self.heads * self.channels], dim=-1)
        v = torch.unflatten(v, -1, (self.heads, self.channels))
        if self.sigmoid_value:
            v = SIGMOID_VALUE_SCALE * torch.sigmoid(v)
        if not self.gate_width:
            return v, v.new_full((*v.shape[:-1], 1), self.beta_init)
        if self.gate_out is not None:
            logits = self.gate_out(torch.tanh(logits))
        return v, gate(logits, self.beta_max).unsqueeze(-1)

    def rewrite(self, state: Tensor, k: Tensor, source: Tensor) -> Tensor:
        v, beta = self.value_and_gate(source)
        return self.update(state, k, v, beta)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, beta_init={self.beta_init:g}, beta_max={self.beta_max:g}"


class WriteOnlyBlock(DeltaBlock):
    """X + beta k v^T: a Delta block that writes and does not erase, the control that the paper asks for (section 5)."""

    erases = False
    update = staticmethod(write_only_update)


class AdditiveBlock(RankOneBlock):
    """X + k s^T with a learned, input-independent s: what is left of a residual block when only F's direction counts.

    s starts at `value_start` times `sublayer_norm`; at 1 the block starts near the residual one. Several channels start
    apart, as a Delta block's do.
    """

    def __init__(self, spec: DeltaTorsoSpec) -> None:
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


class LerpBlock(PlainBlock):
    """X + a (F(c) - X) with a learned rate a in (0, 1) for each feature: SimbaV2's form without its sphere.

    a starts at 1 / (depth + 1) (Lee et al., arXiv 2502.15280).
    """

    def __init__(self, spec: DeltaTorsoSpec) -> None:
        super().__init__(spec)
        self.depth = spec.depth
        self.rate_logit = nn.Parameter(torch.empty(spec.width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.rate_logit, -math.log(self.depth))

    def forward(self, x: Tensor) -> Tensor:
        return torch.lerp(x, super().forward(x), torch.sigmoid(self.rate_logit))


DELTA_BLOCKS: dict[str, Callable[[DeltaTorsoSpec], nn.Module]] = {
    "delta": DeltaBlock,
    "write_only": WriteOnlyBlock,
    "additive": AdditiveBlock,
    "lerp": LerpBlock,
}

"""Blocks of several residual streams, and their learned connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, one_hot, rms_norm

from deltarl.functional import sinkhorn
from deltarl.torsos.join import StackBlock, make_context_norm

if TYPE_CHECKING:
    from deltarl.torsos.hyper import HyperTorsoSpec

# Start of the factor on the part that is read from the state (both papers).
DYNAMIC_START = 0.01
# Start of doubly stochastic connections: the weight of a block's own stream in what it reads, and the logit of the
# mixing matrix's diagonal, the others being 0 (0.95 on the diagonal for four streams).
OWN_SHARE, DIAGONAL = 0.9, 4.0


class SumOfStreams(nn.Module):
    """The sum over streams, `[..., width, channels]` to `[..., width]`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(-1)


class Connections(nn.Module):
    """H_pre `[..., n]`, H_post `[..., n]` and H_res `[..., n, n]` of a state `[..., width, n]`.

    Initially a block reads mainly the stream of its index, writes to all streams and mixes (almost) none. The streams
    start equal and diverge because consecutive blocks read different streams.

    Args:
        spec: channels, connections, mixing and sinkhorn_steps are read.
        index: of the block in its torso.
    """

    def __init__(self, spec: HyperTorsoSpec, index: int) -> None:
        super().__init__()
        self.streams, self.index, self.eps = spec.channels, index, spec.eps
        self.sinkhorn_steps = spec.sinkhorn_steps if spec.mixing == "doubly_stochastic" else 0
        n = spec.channels
        self.pre, self.post = nn.Parameter(torch.empty(n)), nn.Parameter(torch.empty(n))
        self.mix = nn.Parameter(torch.empty(n, n))
        self.read: nn.Linear | None = None
        self.gain: nn.Parameter | None = None
        if spec.connections == "dynamic":
            # mHC reads all streams at once; hyper-connections read each connection from its stream.
            inputs, outputs = (n * spec.width, n * (n + 2)) if self.sinkhorn_steps else (spec.width, n + 2)
            self.read = nn.Linear(inputs, outputs, bias=False)
            self.gain = nn.Parameter(torch.empty(3))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        n = self.streams
        own = one_hot(torch.tensor(self.index % n), n).to(self.pre)
        with torch.no_grad():
            self.mix.copy_(torch.eye(n) * (DIAGONAL if self.sinkhorn_steps else 1))
            if self.sinkhorn_steps:
                self.pre.copy_(torch.logit(own * OWN_SHARE + (1 - own) * (1 - OWN_SHARE) / (n - 1)))
                self.post.zero_()
            else:
                self.pre.copy_(own)
                self.post.fill_(1)
            if self.read is not None and self.gain is not None:
                self.read.weight.zero_()
                self.gain.fill_(DYNAMIC_START)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pre, post, mix = self.pre, self.post, self.mix
        if self.read is not None and self.gain is not None:
            streams = x.transpose(-1, -2)
            if self.sinkhorn_steps:
                flat = streams.flatten(-2)
                found = self.read(rms_norm(flat, flat.shape[-1:], eps=self.eps))
                of_pre, of_post, of_mix = found.split([self.streams, self.streams, self.streams**2], dim=-1)
                of_mix = of_mix.unflatten(-1, (self.streams, self.streams))
            else:
                found = torch.tanh(self.read(layer_norm(streams, streams.shape[-1:], eps=self.eps)))
                of_pre, of_post = found[..., 0], found[..., 1]
                of_mix = found[..., 2:].transpose(
                    -1, -2
                )  # row j of `found` holds the weights that stream j is sent with
            one, two, three = self.gain.unbind()
            pre, post, mix = pre + one * of_pre, post + two * of_post, mix + three * of_mix
        if not self.sinkhorn_steps:
            return pre, post, mix
        return torch.sigmoid(pre), 2 * torch.sigmoid(post), sinkhorn(mix, self.sinkhorn_steps)

    def extra_repr(self) -> str:
        return f"streams={self.streams}, index={self.index}, sinkhorn_steps={self.sinkhorn_steps}"


class HyperBlock(StackBlock):
    """H_res X + H_post^T F(Norm(H_pre X)); maps `[..., width, channels]` to the same shape."""

    def __init__(self, spec: HyperTorsoSpec, index: int = 0) -> None:
        super().__init__(spec)
        self.connections = Connections(spec, index)
        self.norm = make_context_norm(spec)
        self.sublayer = spec.make_sublayer()

    def forward(self, x: Tensor) -> Tensor:
        pre, post, mix = self.connections(x)
        streams = x.transpose(-1, -2)
        # One product mixes the streams and reads from them. Without `expand`, matmul would copy the streams.
        both = torch.cat([mix, pre.unsqueeze(-2)], -2).expand(*streams.shape[:-2], -1, -1)
        kept, read = torch.split(both @ streams, [mix.shape[-1], 1], dim=-2)
        written = self.sublayer(self.norm(read))
        return self.joined(x, torch.addcmul(kept, post.unsqueeze(-1), written).transpose(-1, -2))

"""Networks of layers with gradients by hand: chains and blocks, and how they are made of modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from sb3_contrib.common.torch_layers import BatchRenorm1d
from torch import Tensor, nn

from deltarl.blocks import BatchRenorm, DeltaBlock, PlainBlock, ResidualBlock, Sublayer, WriteOnlyBlock
from deltarl.fast.layers import ALL, Activation, Dense, Gradients, Network, Norm, Recorded, Renorm, columns
from deltarl.fast.numbers import number
from deltarl.torso import Torso


class Chain(Network):
    """One after the other."""

    def __init__(self, parts: Sequence[Network]) -> None:
        self.parts = tuple(parts)
        self.parameters = [parameter for part in parts for parameter in part.parameters]
        self.has_modes = any(part.has_modes for part in parts)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        kept = []
        for part in self.parts:
            x, saved = part.forward(x)
            kept.append(saved)
        return x, kept

    def backward(
        self, saved: Any, gradient: Tensor, *, inputs: slice | None = None, parameters: bool = True
    ) -> tuple[Tensor | None, Gradients]:
        found: list[Gradients] = []
        by_input: Tensor | None = gradient
        for index in range(len(self.parts) - 1, -1, -1):
            assert by_input is not None
            by_input, own = self.parts[index].backward(
                saved[index], by_input, inputs=ALL if index else inputs, parameters=parameters
            )
            found.append(own)
        return by_input, [each for own in reversed(found) for each in own]

    def __call__(self, x: Tensor) -> Tensor:
        # Nothing is kept, so that the memory of one layer is the next one's but one, and still in the caches.
        for part in self.parts:
            x = part(x)
        return x


class Residual(Network):
    """x + F(Norm(x))."""

    def __init__(self, block: ResidualBlock) -> None:
        self.inner = Chain([network_of(block.norm), network_of(block.sublayer)])
        self.parameters, self.has_modes = self.inner.parameters, self.inner.has_modes

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        y, saved = self.inner.forward(x)
        return x + y, saved

    def backward(
        self, saved: Any, gradient: Tensor, *, inputs: slice | None = None, parameters: bool = True
    ) -> tuple[Tensor | None, Gradients]:
        by_input, found = self.inner.backward(saved, gradient, inputs=ALL, parameters=parameters)
        assert by_input is not None
        return columns(None if inputs is None else by_input.add_(gradient), inputs), found


class Delta(Network):
    """X + beta k (v - k^T X) with k = unit(F(c)), v and beta linear in c = Norm(X); without the erasure, + beta k v.

    k = s h with s = 1 / sqrt(|h|^2 + eps^2) is never made: s goes into the factors of h, one number a row and head.
    With p = s h^T X, lacking l = v - p, step t = beta s and reach r = t l, the output is X + r h, and its gradient g
    gives, with u = t s h^T g,

        by v: t h^T g;  by the gate's logit: (by v) l (1 - beta / beta_max)
        by X: g - u h, and what comes through c
        by h: r g - u X - u s (l - p) h
    """

    def __init__(self, block: DeltaBlock) -> None:
        self.norm, self.sublayer, self.write = network_of(block.norm), network_of(block.sublayer), Dense(block.write)
        self.heads, self.beta_max, self.guard = block.heads, float(block.beta_max), block.eps**2
        self.erases = not isinstance(block, WriteOnlyBlock)
        self.parameters = [*self.norm.parameters, *self.sublayer.parameters, *self.write.parameters]
        self.has_modes = self.norm.has_modes or self.sublayer.has_modes

    def split(self, x: Tensor) -> Tensor:
        """`[n, features]` as `[n, heads, features / heads]`; one head needs no axis of its own."""
        return x if self.heads == 1 else x.view(len(x), self.heads, -1)

    def scalars(self, x: Tensor) -> Tensor:
        """`[n, heads]` beside what `split` gives."""
        return x if self.heads == 1 else x.unsqueeze(-1)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        context, kept_norm = self.norm.forward(x)
        h, kept_sublayer = self.sublayer.forward(context)
        written, kept_write = self.write.forward(context)
        state, h, heads = self.split(x), self.split(h), self.heads
        logits, value = self.scalars(written.narrow(1, 0, heads)), self.scalars(written.narrow(1, heads, heads))
        gate = torch.sigmoid(logits).mul_(number(self.beta_max, x))
        scale = (h * h).sum(-1, keepdim=True).add_(number(self.guard, x)).rsqrt_()
        readout = (h * state).sum(-1, keepdim=True).mul_(scale) if self.erases else None
        lacking = value if readout is None else value - readout
        step = gate * scale
        reach = step * lacking
        y = torch.addcmul(state, h, reach).view_as(x)
        return y, (kept_norm, kept_sublayer, kept_write, state, h, gate, scale, readout, lacking, step, reach)

    def backward(
        self, saved: Any, gradient: Tensor, *, inputs: slice | None = None, parameters: bool = True
    ) -> tuple[Tensor | None, Gradients]:
        kept_norm, kept_sublayer, kept_write, state, h, gate, scale, readout, lacking, step, reach = saved
        split = self.split(gradient)
        by_value = (split * h).sum(-1, keepdim=True).mul_(step)
        by_logit = by_value * lacking
        by_logit.addcmul_(by_logit, gate, value=-1 / self.beta_max)
        by_written = torch.cat([by_logit, by_value], 1).view(len(gradient), -1)
        unread = by_value.mul_(scale)
        by_h = split * reach
        if readout is not None:
            by_h.addcmul_(state, unread, value=-1)
            lacking = lacking - readout
        by_h.addcmul_(h, lacking * scale * unread, value=-1)
        by_context, of_sublayer = self.sublayer.backward(
            kept_sublayer, by_h.view_as(gradient), inputs=ALL, parameters=parameters
        )
        assert by_context is not None
        _, of_write = self.write.backward(kept_write, by_written, parameters=parameters)
        by_context = by_context.addmm_(by_written, self.write.weight)
        by_state, of_norm = self.norm.backward(kept_norm, by_context, inputs=ALL, parameters=parameters)
        found = [*of_norm, *of_sublayer, *of_write]
        if inputs is None:
            return None, found
        assert by_state is not None
        by_state = by_state.add_(gradient)
        if readout is not None:
            self.split(by_state).addcmul_(h, unread, value=-1)
        return columns(by_state, inputs), found


def network_of(module: nn.Module) -> Network:
    """The network of a module, by hand where all of it is known, and nobody has hooked into it."""
    if any(each._forward_hooks or each._forward_pre_hooks or each._backward_hooks for each in module.modules()):
        return Recorded(module)
    # Of these classes exactly: a subclass may compute anything.
    if (parts := _parts(module)) is not None:
        return chain_of(*parts)
    by_hand = _BY_HAND.get(type(module))
    return Recorded(module) if by_hand is None or not _is_plain(module) else by_hand(module)


def chain_of(*modules: nn.Module) -> Chain:
    """The network of modules one after the other, those that do nothing left out and chains within laid open."""
    parts: list[Network] = []
    for module in modules:
        if type(module) is not nn.Identity:
            network = network_of(module)
            parts += network.parts if isinstance(network, Chain) else [network]
    for before, part in pairwise(parts):
        if isinstance(part, Activation):
            part.in_place = isinstance(before, Dense)
        if isinstance(before, Activation):
            before.gradient_in_place = isinstance(part, Dense | Norm | Renorm)
    return Chain(parts)


_BY_HAND: Mapping[type[nn.Module], Callable[[Any], Network]] = {
    nn.Linear: Dense,
    nn.ReLU: Activation,
    nn.Tanh: Activation,
    nn.LayerNorm: Norm,
    BatchRenorm1d: Renorm,
    BatchRenorm: Renorm,
    ResidualBlock: Residual,
    DeltaBlock: Delta,
    WriteOnlyBlock: Delta,
}


def _parts(module: Any) -> list[nn.Module] | None:
    """What a module calls one after the other; None if it does anything else."""
    kind = type(module)
    if kind in {nn.Sequential, Sublayer}:
        return list(module)
    if kind is PlainBlock:
        return [module.norm, module.sublayer]
    if kind is Torso and module.channels == 1 and module.output_scale is None:
        return [module.stem, *module.blocks, module.norm]
    return None


def _is_plain(module: Any) -> bool:
    """Whether a module has no option that its network leaves out."""
    if isinstance(module, nn.LayerNorm):
        return module.weight is not None and module.bias is not None
    if isinstance(module, BatchRenorm1d):
        return module.affine
    if isinstance(module, DeltaBlock):
        return (
            module.channels == 1
            and type(module.write) is nn.Linear
            and module.generator is None
            and module.gate_out is None
            and module.gate_width == module.heads
            and not module.sigmoid_value
        )
    return True

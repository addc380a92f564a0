"""Networks of layers with gradients by hand: chains and blocks, and how they are made of modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from sb3_contrib.common.torch_layers import BatchRenorm1d
from torch import Tensor, nn

from deltarl.errors import Spec
from deltarl.fast.layers import ALL, Activation, Dense, Gradients, Network, Norm, Recorded, Renorm, Scale, columns
from deltarl.fast.numbers import number
from deltarl.torsos import Torso
from deltarl.torsos.delta_blocks import DeltaBlock, WriteOnlyBlock
from deltarl.torsos.erasing_blocks import ResidualEraseBlock
from deltarl.torsos.layers import BatchRenorm, Sublayer
from deltarl.torsos.residual import PlainBlock, ResidualBlock


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
        self.inner = chain_of(block.norm, block.sublayer)
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

    A residual block that erases, X + h - beta k k^T X with h = F(c), has v = 0, and 1 + t l for the reach.

    k = s h with s = 1 / sqrt(|h|^2 + eps^2) is never made: s goes into the factors of h, one number a row and head.
    With p = s h^T X, lacking l = v - p, step t = beta s and reach r = t l, the output is X + r h, and its gradient g
    gives, with u = t s h^T g,

        by v: t h^T g;  by the gate's logit: (by v) l (1 - beta / beta_max)
        by X: g - u h, and what comes through c
        by h: r g - u (X + s (l - p) h); without the erasure r g - u (s v h)

    For few rows an operation takes as long as any other, and one of a kind that was not called for a while takes
    longer: there are few, and of few kinds.
    """

    def __init__(self, block: DeltaBlock | ResidualEraseBlock) -> None:
        assert block.write is not None
        self.norm, self.sublayer, self.write = network_of(block.norm), network_of(block.sublayer), Dense(block.write)
        self.has_value = not isinstance(block, ResidualEraseBlock)
        self.heads, self.beta_max, self.guard = block.heads, float(block.beta_max), block.eps**2
        self.erases = not isinstance(block, WriteOnlyBlock)
        self.parameters = [*self.norm.parameters, *self.sublayer.parameters, *self.write.parameters]
        self.has_modes = self.norm.has_modes or self.sublayer.has_modes

    def split(self, x: Tensor) -> Tensor:
        """`[n, features]` as `[n, heads, features / heads]`; one head needs no axis of its own."""
        return x if self.heads == 1 else x.view(len(x), self.heads, -1)

    def joined(self, x: Tensor) -> Tensor:
        """The same the other way round."""
        return x if self.heads == 1 else x.flatten(1)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        context, kept_norm = self.norm.forward(x)
        h, kept_sublayer = self.sublayer.forward(context)
        written, kept_write = self.write.forward(context)
        state, h = self.split(x), self.split(h)
        # Gates first, then values, each one number a head.
        if not self.has_value:
            logits = written if self.heads == 1 else written.view(len(x), self.heads, 1)
            value = torch.zeros_like(logits)
        elif self.heads == 1:
            logits, value = written.narrow(1, 0, 1), written.narrow(1, 1, 1)
        else:
            logits, value = written.view(len(x), 2, self.heads, 1).unbind(1)
        gate = torch.sigmoid(logits).mul_(number(self.beta_max, x))
        scale = (h * h).sum(-1, keepdim=True).add_(number(self.guard, x)).rsqrt_()
        lacking = torch.addcmul(value, (h * state).sum(-1, keepdim=True), scale, value=-1) if self.erases else value
        step = gate * scale
        reach = step * lacking if self.has_value else (step * lacking).add_(1)
        y = self.joined(torch.addcmul(state, h, reach))
        return y, (kept_norm, kept_sublayer, kept_write, state, h, value, gate, scale, lacking, step, reach)

    def backward(
        self, saved: Any, gradient: Tensor, *, inputs: slice | None = None, parameters: bool = True
    ) -> tuple[Tensor | None, Gradients]:
        kept_norm, kept_sublayer, kept_write, state, h, value, gate, scale, lacking, step, reach = saved
        split = self.split(gradient)
        by_value = (split * h).sum(-1, keepdim=True).mul_(step)
        by_logit = by_value * lacking
        by_logit.addcmul_(by_logit, gate, value=-1 / self.beta_max)
        by_written = self.joined(torch.cat([by_logit, by_value], 1) if self.has_value else by_logit)
        unread = by_value.mul_(scale)
        by_h = split * reach
        if self.erases:
            half = torch.sub(lacking, value, alpha=0.5).mul_(scale)  # of s (l - p), since p = v - l
            by_h.addcmul_(torch.addcmul(state, h, half, value=2), unread, value=-1)
        else:
            by_h.addcmul_(h, value * scale * unread, value=-1)
        by_context, of_sublayer = self.sublayer.backward(
            kept_sublayer, self.joined(by_h), inputs=ALL, parameters=parameters
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
        if self.erases:
            self.split(by_state).addcmul_(h, unread, value=-1)
        return columns(by_state, inputs), found


def network_of(module: nn.Module) -> Network:
    """The network of a module, by hand where all of it is known, and nobody has hooked into it."""
    if any(each._forward_hooks or each._forward_pre_hooks or each._backward_hooks for each in module.modules()):
        return Recorded(module)
    # Of these classes exactly: a subclass may compute anything.
    if (known := _KNOWN.get(type(module))) is None or not known.covers(module):
        return Recorded(module)
    network = known.network(module)
    return network if isinstance(network, Network) else chain_of(*network)


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


@dataclass(frozen=True)
class Known:
    """How the network of a module is made, and what of the module it honours: anything else is left to PyTorch.

    Args:
        network: a network by hand, or the modules that the module calls one after the other.
        honours: names of the attributes, parameters, buffers and children that the network heeds, or that matter only
            when the module is made. An option that is not among them cannot be left out unseen.
        of_spec: the same of the fields of a spec that the module keeps; others are left to PyTorch where they are away
            from their default.
        only: attributes that are honoured at one value.
        when: what else has to hold.
    """

    network: Callable[[Any], Network | Iterable[nn.Module]]
    honours: str = ""
    of_spec: str = ""
    only: Mapping[str, Any] = field(default_factory=dict)
    when: Callable[[Any], bool] = lambda _: True

    def covers(self, module: nn.Module) -> bool:
        """Whether the network computes all that the module does."""
        own = {*(vars(module).keys() - _PLAIN_MODULE), *module._parameters, *module._buffers}
        if not isinstance(module, nn.Sequential):
            own |= module._modules.keys()
        specs = [value for value in vars(module).values() if isinstance(value, Spec)]
        return (
            own <= {*self.honours.split(), *self.only}
            and {name for spec in specs for name in _away_from_default(spec)} <= set(self.of_spec.split())
            and all(getattr(module, name) == value for name, value in self.only.items())
            and self.when(module)
        )


_PLAIN_MODULE = vars(nn.Module()).keys()


def _away_from_default(spec: Spec) -> Iterable[str]:
    for name, option in type(spec).model_fields.items():
        computed = option.is_required() or option.default_factory is not None
        if computed or getattr(spec, name) != option.default:
            yield name


def _network_of_torso(torso: Torso) -> Network:
    chain = chain_of(torso.stem, *torso.blocks, torso.compress, torso.norm)
    return chain if torso.output_scale is None else Chain([*chain.parts, Scale(torso.output_scale)])


_RENORM = Known(
    Renorm,
    "eps momentum num_features rmax dmax warmup_steps scale bias ra_mean ra_var running_mean running_var steps",
    only={"affine": True},
)
_DELTA = Known(
    Delta,
    "width heads eps beta_init beta_max value_start gate_width compress norm sublayer write",
    only={
        "join": None,
        "channels": 1,
        "products": 1,
        "generator": None,
        "gate_out": None,
        "sigmoid_value": False,
        "sphere": False,
    },
    when=lambda block: (
        block.gate_width == block.heads
        and type(block.compress) is nn.Identity
        and isinstance(network_of(block.write), Dense)
    ),
)
_ERASING = Known(
    Delta,
    "heads eps beta_init beta_max gate_width norm sublayer write",
    only={"join": None, "gate_out": None},
    when=lambda block: block.gate_width == block.heads and isinstance(network_of(block.write), Dense),
)
_KNOWN: Mapping[type[nn.Module], Known] = {
    nn.Linear: Known(Dense, "in_features out_features weight bias"),
    nn.ReLU: Known(Activation, "inplace"),
    nn.Tanh: Known(Activation),
    nn.LayerNorm: Known(
        Norm,
        "normalized_shape eps elementwise_affine weight bias",
        when=lambda norm: norm.weight is not None and norm.bias is not None,
    ),
    BatchRenorm1d: _RENORM,
    BatchRenorm: _RENORM,
    nn.Sequential: Known(list),
    Sublayer: Known(list),
    nn.Identity: Known(lambda _: []),
    PlainBlock: Known(lambda block: [block.norm, block.sublayer], "norm sublayer", only={"join": None}),
    ResidualBlock: Known(Residual, "norm sublayer", only={"join": None}),
    DeltaBlock: _DELTA,
    WriteOnlyBlock: _DELTA,
    ResidualEraseBlock: _ERASING,
    # What a torso's spec says of the stem, the blocks and the norm is in these, and they are looked at.
    Torso: Known(
        _network_of_torso,
        "spec expand output_scale stem blocks compress norm",
        "kind width depth hidden activation norm norm_position residual_scale drop_path sublayers products eps "
        "output_scale init_scale block "
        "head_width heads channels expand beta_init beta_max gate gate_layers value value_start direction sphere "
        "update",
        only={"channels": 1},
    ),
}

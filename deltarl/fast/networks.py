"""Builds layers with hand-written gradients from PyTorch's modules; says which modules and options are supported."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sb3_contrib.common.torch_layers import BatchRenorm1d
from torch import nn

from deltarl.errors import Spec
from deltarl.fast.blocks import Chain, Delta, Orthogonal, Residual, Scaled, Sphere
from deltarl.fast.layers import Activation, Dense, Layer, Norm, Recorded, Renorm, Scale
from deltarl.torsos import Torso
from deltarl.torsos.bronet_blocks import BroNetBlock
from deltarl.torsos.delta_blocks import DeltaBlock, WriteOnlyBlock
from deltarl.torsos.erasing_blocks import OrthogonalBlock, ResidualEraseBlock
from deltarl.torsos.join import Join, StackBlock
from deltarl.torsos.layers import BatchRenorm, Sublayer
from deltarl.torsos.residual_blocks import PlainBlock, ResidualBlock


def network_of(module: nn.Module) -> Layer:
    """The layer of a module: hand-written if all of it is supported and it has no hooks, else recorded by PyTorch."""
    if any(each._forward_hooks or each._forward_pre_hooks or each._backward_hooks for each in module.modules()):
        return Recorded(module)
    # Exactly these classes: a subclass may compute anything.
    if (known := _KNOWN.get(type(module))) is None or not known.covers(module):
        return Recorded(module)
    network = known.network(module)
    return network if isinstance(network, Layer) else chain_of(*network)


def chain_of(*modules: nn.Module) -> Chain:
    """The chain of several modules, without identities and with nested chains flattened."""
    parts: list[Layer] = []
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
    """How to make the layer of a module, and which options of the module it supports.

    Args:
        network: makes the layer, or lists the modules that the module calls one after the other.
        honours: names of the attributes, parameters, buffers and children that the layer supports, or that only matter
            when the module is constructed. A module with any other is left to PyTorch.
        of_spec: the same for the fields of a spec that the module keeps. If another field differs from its default,
            the module is left to PyTorch.
        only: attributes that are supported at one value only.
        when: a further condition on the module.
    """

    network: Callable[[Any], Layer | Iterable[nn.Module]]
    honours: str = ""
    of_spec: str = ""
    only: Mapping[str, Any] = field(default_factory=dict)
    when: Callable[[Any], bool] = lambda _: True

    def covers(self, module: nn.Module) -> bool:
        """Whether the layer computes everything that the module does."""
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


def _network_of_torso(torso: Torso) -> Layer:
    chain = chain_of(torso.stem, *torso.blocks, torso.compress, torso.norm)
    return chain if torso.output_scale is None else Chain([*chain.parts, Scale(torso.output_scale)])


def _delta(block: DeltaBlock | ResidualEraseBlock) -> Layer:
    layer = _joined(block, Delta(block, network_of(block.norm), network_of(block.sublayer)))
    if isinstance(block, DeltaBlock) and block.sphere:
        layer = Chain([layer, Sphere(math.sqrt(block.width), block.eps)])
    return layer


def _plain(block: PlainBlock) -> Layer:
    return _joined(block, chain_of(block.norm, block.sublayer))


def _residual(block: ResidualBlock) -> Layer:
    return _joined(block, Residual(chain_of(block.norm, block.sublayer)))


def _orthogonal(block: OrthogonalBlock) -> Layer:
    return _joined(block, Orthogonal(chain_of(block.norm, block.sublayer), block.eps))


def _bronet(block: BroNetBlock) -> Layer:
    return _joined(block, Residual(chain_of(block.sublayer)))


def _joined(block: StackBlock, layer: Layer) -> Layer:
    """The layer with the options that act after a block."""
    join = block.join
    if join is None:
        return layer
    if join.scale is not None:
        layer = Scaled(layer, join.scale)
    return layer if type(join.norm) is nn.Identity else Chain([layer, network_of(join.norm)])


# It takes two states, so it is no layer; blocks ask whether all of it is supported. Stochastic depth is not.
_JOIN = Known(lambda join: [join.norm], "start dims scale norm", only={"drop": None})


def _joins(block: StackBlock) -> bool:
    return block.join is None or (type(block.join) is Join and block.join.dims == 1 and _JOIN.covers(block.join))


_RENORM = Known(
    Renorm,
    "eps momentum num_features rmax dmax warmup_steps scale bias ra_mean ra_var running_mean running_var steps",
    only={"affine": True},
)
_DELTA = Known(
    _delta,
    "width heads eps beta_init beta_max value_start gate_width sphere compress norm sublayer write join",
    only={
        "channels": 1,
        "products": 1,
        "generator": None,
        "gate_out": None,
        "sigmoid_value": False,
    },
    when=lambda block: (
        block.gate_width == block.heads
        and type(block.compress) is nn.Identity
        and _joins(block)
        and isinstance(network_of(block.write), Dense)
    ),
)
_ERASING = Known(
    _delta,
    "heads eps beta_init beta_max gate_width norm sublayer write join",
    only={"gate_out": None},
    when=lambda block: block.gate_width == block.heads and _joins(block) and isinstance(network_of(block.write), Dense),
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
    PlainBlock: Known(_plain, "norm sublayer join", when=_joins),
    ResidualBlock: Known(_residual, "norm sublayer join", when=_joins),
    OrthogonalBlock: Known(_orthogonal, "norm sublayer eps join", when=_joins),
    BroNetBlock: Known(_bronet, "sublayer join", when=_joins),
    DeltaBlock: _DELTA,
    WriteOnlyBlock: _DELTA,
    ResidualEraseBlock: _ERASING,
    # The spec's options of the stem, the blocks and the norm are checked in those modules.
    Torso: Known(
        _network_of_torso,
        "spec in_features expand output_scale stem blocks compress norm",
        "kind width depth hidden activation norm norm_position residual_scale drop_path sublayers products eps "
        "output_scale init_scale block "
        "head_width heads channels expand beta_init beta_max gate gate_layers value value_start direction sphere "
        "update",
        only={"channels": 1},
    ),
}

"""The torso: stem, blocks and final norm, between a policy's features and its heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deltarl.blocks import (
    DELTA_BLOCKS,
    ChannelCompressor,
    DeltaBlock,
    PlainBlock,
    ResidualBlock,
    make_norm,
)
from deltarl.errors import ConfigError
from deltarl.specs import CustomTorsoSpec, DeltaTorsoSpec, PlainTorsoSpec, ResidualTorsoSpec

# With `output_scale: mlp`. A normalised feature has a mean magnitude of sqrt(2 / pi) = 0.80, and a hidden unit of the
# two tanh layers of Stable-Baselines3's MLP, on normalised observations, one of 0.43 (benchmarks/torso_start.py).
MLP_SCALE = 0.5
BlockSpec = DeltaTorsoSpec | ResidualTorsoSpec | PlainTorsoSpec | CustomTorsoSpec


class Torso(nn.Module):
    """Linear stem, `depth` blocks and a final norm; the kinds differ in their blocks alone.

    Maps features `[..., in_features]` to `[..., spec.width]`. A state with value channels starts as as many copies
    of the stem's output (paper, section 3.2, without embedding convolution), or, with `expand: linear`, as a projection
    of the features for each, and ends in a channel compressor. `spec.output_scale` is a factor on the final features.

    Args:
        in_features: size of the input, at least 1.
        spec: kind and options. `mlp` is not a torso but the absence of one.
    """

    def __init__(self, in_features: int, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        self.channels = spec.channels if isinstance(spec, DeltaTorsoSpec) else 1
        self.expand = spec.expand if isinstance(spec, DeltaTorsoSpec) else "copy"
        self.output_scale = MLP_SCALE if spec.output_scale == "mlp" else spec.output_scale
        self.stem = nn.Linear(in_features, spec.width * (self.channels if self.expand == "linear" else 1))
        self.blocks = nn.ModuleList(make_block(spec) for _ in range(spec.depth))
        self.compress = ChannelCompressor(spec.width, self.channels) if self.channels > 1 else nn.Identity()
        self.norm = make_norm(spec)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the stem: orthogonal, zero bias, as in SimBa (arXiv 2410.09754). The blocks do their own."""
        for projection in torch.split(self.stem.weight, self.spec.width):
            nn.init.orthogonal_(projection)
        nn.init.zeros_(self.stem.bias)

    def forward(self, features: Tensor) -> Tensor:
        x = self.stem(features)
        if self.expand == "linear":
            x = x.unflatten(-1, (self.channels, -1)).transpose(-1, -2)
        elif self.channels > 1:
            x = x.unsqueeze(-1).expand(*x.shape, self.channels)
        for block in self.blocks:
            x = block(x)
        result: Tensor = self.norm(self.compress(x))
        return result if self.output_scale is None else result * self.output_scale


def make_block(spec: BlockSpec) -> nn.Module:
    """One block of the kind that `spec` names.

    Raises:
        ConfigError: if a class of the user's own gives something else than a module, or a module with "value" in the
            path of a parameter, which TRPO would leave out of the policy's step.
    """
    match spec:
        case DeltaTorsoSpec():
            return DELTA_BLOCKS[spec.update](spec)
        case ResidualTorsoSpec():
            return ResidualBlock(spec)
        case PlainTorsoSpec():
            return PlainBlock(spec)
        case CustomTorsoSpec():
            block = spec.block(spec)
            if not isinstance(block, nn.Module):
                raise ConfigError(f"torso.block: a block is a torch.nn.Module; {spec.block!r} gave {block!r}")
            for name, _ in block.named_parameters():
                if "value" in name:
                    raise ConfigError(
                        f"torso.block: {spec.block!r} has a parameter '{name}'; TRPO leaves all with 'value' in their "
                        "path out of the policy's step, so give it another name"
                    )
            return block


def undecayed_parameters(module: nn.Module) -> set[str]:
    """Names of the parameters that weight decay should leave alone: all but the weights of matrix products.

    These are biases, norms, scales such as an action's log standard deviation, and gates.

    Decay pulls a gate's logits, and with them beta, to beta_max / 2. A Linear that holds a gate counts as a whole.
    """
    weights: set[int] = set()
    gates: set[int] = set()
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.RNNBase):
            weights |= {id(parameter) for parameter in child.parameters() if parameter.ndim > 1}
        elif isinstance(child, DeltaBlock) and child.gate_width:
            gates |= {id(linear.weight) for linear in (child.write, child.gate_out) if linear is not None}
    return {name for name, parameter in module.named_parameters() if id(parameter) not in weights - gates}

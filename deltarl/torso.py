"""The torso: stem, blocks and final norm, between a policy's features and its heads."""

from __future__ import annotations

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

BlockSpec = DeltaTorsoSpec | ResidualTorsoSpec | PlainTorsoSpec | CustomTorsoSpec


class Torso(nn.Module):
    """Linear stem, `depth` blocks and a final norm; the kinds differ in their blocks alone.

    Maps features `[..., in_features]` to `[..., spec.width]`. A state with value channels starts as as many copies
    of the stem's output (paper, section 3.2, without embedding convolution) and ends in a channel compressor.

    Args:
        in_features: size of the input, at least 1.
        spec: kind and options. `mlp` is not a torso but the absence of one.
    """

    def __init__(self, in_features: int, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        self.channels = spec.channels if isinstance(spec, DeltaTorsoSpec) else 1
        self.stem = nn.Linear(in_features, spec.width)
        self.blocks = nn.ModuleList(make_block(spec) for _ in range(spec.depth))
        self.compress = ChannelCompressor(spec.width, self.channels) if self.channels > 1 else nn.Identity()
        self.norm = make_norm(spec)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the stem: orthogonal, zero bias, as in SimBa (arXiv 2410.09754). The blocks do their own."""
        nn.init.orthogonal_(self.stem.weight)
        nn.init.zeros_(self.stem.bias)

    def forward(self, features: Tensor) -> Tensor:
        x = self.stem(features)
        if self.channels > 1:
            x = x.unsqueeze(-1).expand(*x.shape, self.channels)
        for block in self.blocks:
            x = block(x)
        result: Tensor = self.norm(self.compress(x))
        return result


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

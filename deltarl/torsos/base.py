"""The protocol of torso specs. A spec imports its modules when it builds them: configs are read without PyTorch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializationInfo, field_serializer, model_validator
from pydantic.json_schema import WithJsonSchema

from deltarl.errors import Spec, complaint

if TYPE_CHECKING:
    from torch import nn

    from deltarl.torsos.layers import Sublayer
    from deltarl.torsos.torso import Torso

Activation = Literal["relu", "tanh", "gelu", "silu", "elu"]
Norm = Literal["layer", "rms", "batch_renorm", "none"]


class TorsoSpec(Spec, ABC):
    """A torso as plain data, and the interface of its family to the rest of the library.

    Attributes:
        in_files: whether a YAML file needs to name no code of the user's with the kind.
    """

    in_files: ClassVar[bool] = True
    kind: str

    @classmethod
    @abstractmethod
    def formulas(cls) -> dict[str, str]:
        """The formulas of its blocks, keyed by the setting that selects each: a kind, or a kind and an option."""

    @abstractmethod
    def build(self, in_features: int) -> Torso | None:
        """Build the network between `in_features` features and a head; None keeps Stable-Baselines3's own."""

    @property
    @abstractmethod
    def layers(self) -> tuple[int, ...] | None:
        """Widths of the hidden layers that Stable-Baselines3 builds; a torso asks for one and replaces it.

        None for the policy's own default.
        """

    @property
    def layer_activations(self) -> tuple[type[nn.Module] | None, ...]:
        """Activation of those layers, None for the policy's own default; empty if a torso replaces them."""
        return ()

    @property
    @abstractmethod
    def inner(self) -> int | tuple[int, ...] | None:
        """The widths that a comparison may change to give arms equal sizes; None if there are none."""

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """The same torso with its inner widths times `factor`, rounded, at least 1. Only for specs with `inner`."""

    @abstractmethod
    def label(self) -> str:
        """Kind and size in a few characters, for summaries."""

    @property
    @abstractmethod
    def least_weights(self) -> int:
        """A lower bound on the number of its weights."""

    @property
    @abstractmethod
    def kept_numbers(self) -> int:
        """A lower bound on the numbers kept per row of a batch for the backward pass."""

    @property
    def erases(self) -> bool:
        """Whether its blocks erase a part of the state that they choose."""
        return False

    @classmethod
    def kept(cls, base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
        """The options of `base`, a torso of this kind as plain data, that are kept when `change` is merged into it."""
        del change
        return dict(base)


class StackSpec(TorsoSpec):
    """Base of torsos that are a stack of blocks: stem, blocks of one inner width, norms.

    Attributes:
        formula: the state after a block, as text.
        unread: options that this kind does not read; any value but the default is refused.
    """

    formula: ClassVar[str]
    unread: ClassVar[tuple[str, ...]] = ()

    width: int = Field(128, ge=4, le=65_536, description="Width d of the state that runs through the blocks.")
    depth: int = Field(2, ge=1, le=1_000, description="Number of blocks.")
    hidden: Annotated[int, WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]})] = Field(
        default_factory=lambda data: 2 * data["width"],
        ge=1,
        description="Inner width of each block's sublayer (Linear, activation, Linear); null: twice the width.",
    )
    activation: Activation = Field("relu", description="Activation inside the sublayer.")
    norm: Norm = Field("layer", description="Norm before each block and after the last; none disables all norms.")
    norm_position: Literal["pre", "post", "sandwich"] = Field(
        "pre",
        description="pre: before the sublayer; post: after the shortcut; sandwich: before and after the sublayer.",
    )
    eps: float = Field(1e-5, gt=0, le=1e-1, description="Guard inside the norms and the direction's normalisation.")
    residual_scale: float | None = Field(
        None, gt=0, le=1, description="Start of a learned scale per feature on what each block adds; null: no scale."
    )
    drop_path: float = Field(
        0.0, ge=0, lt=1, description="Probability of skipping a block for a sample in training (stochastic depth)."
    )
    sublayers: int = Field(
        1,
        ge=1,
        le=4,
        description="If above 1, the sublayer is this number of groups of Linear, norm and activation; 4 with silu is "
        "the block of arXiv 2503.14858.",
    )
    output_scale: Annotated[float, Field(gt=0, le=1_000)] | Literal["mlp"] | None = Field(
        None,
        description="Factor on the final features; `mlp` gives them the mean magnitude that those of SB3's MLP start "
        "with, half of a torso's own.",
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default_width(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("hidden", 0) is None:
            return {key: value for key, value in data.items() if key != "hidden"}
        return data

    @model_validator(mode="after")
    def _kind_reads_every_option(self) -> Self:
        for option in self.unread:
            if getattr(self, option) != type(self).model_fields[option].default:
                raise complaint(f"{option} has no effect with kind {self.kind}; leave it out", key=option)
        return self

    @model_validator(mode="after")
    def _norms_have_a_place(self) -> Self:
        if self.norm == "none" and self.norm_position != "pre":
            raise complaint("norm_position has no effect with norm none; leave it out", key="norm_position")
        return self

    @field_serializer("hidden")
    def _hidden_as_given(self, hidden: int, info: SerializationInfo) -> int | None:
        # Files store null, so that a new width gets its own default; comparisons and digests use the number.
        return None if info.mode == "python" and "hidden" not in self.model_fields_set else hidden

    @classmethod
    def formulas(cls) -> dict[str, str]:
        return {cls.model_fields["kind"].default: cls.formula}

    @classmethod
    def kept(cls, base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
        """All but the options that this kind does not read."""
        del change
        return {option: value for option, value in base.items() if option not in cls.unread}

    @abstractmethod
    def make_block(self) -> nn.Module:
        """Build one block on `[..., width]`, or on `[..., width, channels]` if `state_channels` is above 1."""

    def make_blocks(self) -> list[nn.Module]:
        """Build all blocks, in order."""
        return [self.make_block() for _ in range(self.depth)]

    def make_stem(self, in_features: int) -> nn.Module:
        """Build the layer before the blocks. The torso initialises a Linear; other modules initialise themselves."""
        from torch import nn

        return nn.Linear(in_features, self.width * (self.state_channels if self.channel_start == "linear" else 1))

    def make_readout(self) -> nn.Module:
        """Build the module that maps the state to `[..., width]`."""
        from torch import nn

        from deltarl.torsos.layers import ChannelCompressor

        return ChannelCompressor(self.width, self.state_channels) if self.state_channels > 1 else nn.Identity()

    def make_final_norm(self) -> nn.Module:
        """Build the norm after the last block."""
        from deltarl.torsos.layers import make_norm

        return make_norm(self.norm, self.width, self.eps)

    def make_sublayer(self, out: int | None = None) -> Sublayer:
        """F of one block: maps `[..., width]` to `[..., out]`; `out` defaults to the width."""
        from deltarl.torsos.layers import Sublayer

        return Sublayer(
            self.width,
            self.hidden,
            self.activation,
            out=out,
            groups=self.sublayers,
            norm=self.norm,
            eps=self.eps,
            normalized=self.norm_position == "sandwich",
        )

    @property
    def state_channels(self) -> int:
        """Value channels of the state."""
        return 1

    @property
    def channel_start(self) -> Literal["copy", "linear"]:
        """How value channels start: as copies of the stem's output, or as one projection of the features each."""
        return "copy"

    def build(self, in_features: int) -> Torso:
        from deltarl.torsos.torso import Torso

        return Torso(in_features, self)

    @property
    def layers(self) -> tuple[int]:
        return (self.width,)

    @property
    def inner(self) -> int | None:
        return self.hidden

    def scaled(self, factor: float) -> Self:
        return self.model_copy(update={"hidden": max(1, round(self.hidden * factor))})

    def label(self) -> str:
        return f"{self.kind} {self.width}x{self.depth}"

    @property
    def least_weights(self) -> int:
        return self.depth * self.width * self.hidden

    @property
    def kept_numbers(self) -> int:
        return self.depth * (self.width + self.hidden)

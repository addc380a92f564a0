"""Torsos as plain data: the only place that holds their defaults and ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from deltarl.errors import ConfigError, Spec, complaint, first_complaint

Activation = Literal["relu", "tanh", "gelu", "silu", "elu"]
Norm = Literal["layer", "rms", "batch_renorm"]


class StackSpec(Spec):
    """What delta, residual and plain torsos share: stem, blocks of one inner width, norms."""

    kind: str
    width: int = Field(128, ge=4, le=65_536, description="Width d of the state that runs through the blocks.")
    depth: int = Field(2, ge=1, le=1_000, description="Number of blocks.")
    hidden: int = Field(
        default_factory=lambda data: 2 * data["width"],
        ge=1,
        description="Inner width of each block's sublayer (Linear, activation, Linear); twice the width if not given.",
    )
    activation: Activation = Field("relu", description="Activation inside the sublayer.")
    norm: Norm = Field("layer", description="Norm before each block and after the last.")
    eps: float = Field(1e-5, gt=0, le=1e-1, description="Guard inside the norms and the direction's normalisation.")
    output_scale: Annotated[float, Field(gt=0, le=1_000)] | Literal["mlp"] | None = Field(
        None,
        description="Factor on the final features; `mlp` gives them the mean magnitude that those of SB3's MLP start "
        "with, half of a torso's own.",
    )


class ResidualTorsoSpec(StackSpec):
    """Pre-norm residual blocks, x + F(Norm(x)), as in SimBa (Lee et al., arXiv 2410.09754)."""

    kind: Literal["residual"] = "residual"
    init_scale: float = Field(
        1.0,
        gt=0,
        le=10,
        description="Factor on the last layer of each block at the start; below 1, blocks start small.",
    )


class PlainTorsoSpec(StackSpec):
    """The same blocks with no shortcut, F(Norm(x))."""

    kind: Literal["plain"] = "plain"


# The options that each update reads; a value other than the default for an unread one would mislead.
_UNREAD_OPTIONS: dict[str, tuple[str, ...]] = {
    "delta": (),
    "write_only": (),
    "additive": ("beta_init", "beta_max", "gate", "gate_layers", "value", "direction"),
    "lerp": (
        "head_width",
        "heads",
        "channels",
        "expand",
        "beta_init",
        "beta_max",
        "gate",
        "gate_layers",
        "value",
        "value_start",
        "direction",
    ),
}


def _heads(data: dict[str, Any]) -> int:
    head_width = data.get("head_width")
    return 1 if head_width is None else max(1, int(data.get("width", head_width)) // head_width)


class DeltaTorsoSpec(StackSpec):
    """Delta blocks, X + beta k (v^T - k^T X) (Deep Delta Learning, arXiv 2601.00417), and the block's variants."""

    kind: Literal["delta"] = "delta"
    head_width: int | None = Field(
        None, ge=4, description="Features of each head, from which `heads` follows; null: all of them, in one head."
    )
    heads: int = Field(
        default_factory=_heads,
        ge=1,
        description="Groups that the width splits into, each with its own k, v and beta; width / head_width if not "
        "given.",
    )
    channels: int = Field(1, ge=1, description="Value channels d_v of the state; above 1 with a channel compressor.")
    expand: Literal["copy", "linear"] = Field(
        "copy",
        description="How channels start: as copies of the stem's output, or each as its own projection of the input.",
    )
    beta_init: float = Field(1.0, gt=0, description="Where every gate starts, exactly.")
    beta_max: float = Field(
        2.0, gt=0, le=2, description="Upper end of the gates' range; above 1 the readout can go past v."
    )
    gate: Literal["learned", "fixed"] = Field("learned", description="A fixed gate keeps beta = beta_init.")
    gate_layers: Literal[1, 2] = Field(1, description="Layers of the gate branch; the second one follows a tanh.")
    value: Literal["linear", "sigmoid"] = Field("linear", description="v as it is, or 4 sigmoid(v).")
    value_start: float = Field(
        1.0,
        gt=0,
        le=10,
        description="Start of a linear value, in units of the norm of the sublayer's output, sqrt(2 width / heads).",
    )
    direction: Literal["sublayer", "generator"] = Field(
        "sublayer", description="k from the sublayer, or from a light MLP of its own (the sublayer then feeds v)."
    )
    update: Literal["delta", "write_only", "additive", "lerp"] = Field(
        "delta",
        description="delta: X + beta k (v^T - k^T X); write_only: X + beta k v^T; additive: X + k s^T with a learned, "
        "input-independent s; lerp: X + a (F(c) - X) with a learned a in (0, 1) for each feature.",
    )

    @field_validator("heads")
    @classmethod
    def _heads_divide_width(cls, heads: int, info: Any) -> int:
        width = info.data.get("width")
        if width is not None and (width % heads or heads > width // 4):
            fitting = [n for n in range(1, width // 4 + 1) if width % n == 0]
            reason = f"do not divide width {width}" if width % heads else f"leave width {width} under 4 features a head"
            raise complaint(f"{heads} heads {reason}; use one of {', '.join(map(str, fitting))}")
        return heads

    @field_validator("head_width")
    @classmethod
    def _head_width_divides_width(cls, head_width: int | None, info: Any) -> int | None:
        width = info.data.get("width")
        if width is not None and head_width is not None and width % head_width:
            fitting = [n for n in range(4, width + 1) if width % n == 0]
            raise complaint(
                f"heads of {head_width} features do not divide width {width}; use one of {', '.join(map(str, fitting))}"
            )
        return head_width

    @model_validator(mode="after")
    def _every_option_is_read(self) -> DeltaTorsoSpec:
        fields = type(self).model_fields
        for option in _UNREAD_OPTIONS[self.update]:
            default = fields[option].get_default(call_default_factory=True, validated_data={"head_width": None})
            if getattr(self, option) != default:
                raise complaint(f"{option} has no effect with update {self.update}; leave it out", key=option)
        if self.value == "sigmoid" and self.value_start != 1:
            raise complaint("value_start has no effect with value sigmoid; leave it out", key="value_start")
        if self.channels == 1 and self.expand != "copy":
            raise complaint("expand has no effect with a single channel; leave it out", key="expand")
        return self

    @model_validator(mode="after")
    def _heads_and_their_width_agree(self) -> DeltaTorsoSpec:
        if self.head_width is not None and self.heads * self.head_width != self.width:
            raise complaint(
                f"{self.heads} heads of width {self.width} have {self.width // self.heads} features each, and not "
                f"head_width = {self.head_width}; give one of the two",
                key="heads",
            )
        return self

    @model_validator(mode="after")
    def _gate_starts_inside_its_range(self) -> DeltaTorsoSpec:
        if self.gate == "fixed":
            if self.beta_init > self.beta_max:
                raise complaint(
                    f"a fixed gate's beta_init must be in (0, beta_max = {self.beta_max:g}]; got {self.beta_init:g}",
                    key="beta_init",
                )
        elif self.beta_init >= self.beta_max:
            raise complaint(
                f"beta_init must be in (0, beta_max = {self.beta_max:g}), ends excluded, as the gate is "
                f"beta_max * sigmoid(.); got {self.beta_init:g}",
                key="beta_init",
            )
        if self.gate == "fixed" and self.gate_layers != 1:
            raise complaint("gate_layers has no effect on a fixed gate; leave it out", key="gate_layers")
        return self


class MLPTorsoSpec(Spec):
    """Stable-Baselines3's own network, its modules and initialisation untouched."""

    kind: Literal["mlp"] = "mlp"
    net_arch: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, description="Widths of the hidden layers; the algorithm's own in Stable-Baselines3 if not given."
    )
    activation: Activation | None = Field(
        None, description="Activation; the algorithm's own in Stable-Baselines3 if not given."
    )


class CustomTorsoSpec(StackSpec):
    """Blocks of a class of the user's own, between the same stem and norm; from Python alone, as no file can hold it.

    For options of the class itself, `functools.partial(MyBlock, option=...)` serves as `block`.
    """

    kind: Literal["custom"] = "custom"
    block: Callable[[CustomTorsoSpec], Any] = Field(
        description="Called with this spec once for each block; gives a torch.nn.Module that maps [..., width] to "
        "[..., width]."
    )


TorsoSpec = Annotated[DeltaTorsoSpec | ResidualTorsoSpec | PlainTorsoSpec | MLPTorsoSpec, Field(discriminator="kind")]
AnyTorsoSpec = DeltaTorsoSpec | ResidualTorsoSpec | PlainTorsoSpec | MLPTorsoSpec | CustomTorsoSpec
_ADAPTER: TypeAdapter[AnyTorsoSpec] = TypeAdapter(Annotated[AnyTorsoSpec, Field(discriminator="kind")])
# The kinds that can stand in a file.
TORSO_KINDS = ("delta", "residual", "plain", "mlp")
_SPECS: dict[str, type[Spec]] = {
    "delta": DeltaTorsoSpec,
    "residual": ResidualTorsoSpec,
    "plain": PlainTorsoSpec,
    "mlp": MLPTorsoSpec,
    "custom": CustomTorsoSpec,
}


def merge_torso(base: Mapping[str, Any], change: str | Mapping[str, Any] | Spec) -> dict[str, Any]:
    """Lay `change` over `base`; a new kind keeps the options that both kinds have and drops the old kind's own.

    A `hidden` that is twice the old width is taken for its default, and follows a new width. `heads` and `head_width`
    say the same thing, so that a new one of them, or a new width beside a kept `head_width`, drops the old other one.

    Args:
        base: a torso as plain data.
        change: a kind, options as plain data, or a spec.

    Returns:
        The merged torso as plain data, not validated yet.
    """
    new = torso_data(change)
    kind = new.get("kind", base.get("kind", "delta"))
    kept = dict(base)
    if kind != base.get("kind", "delta") and isinstance(kind, str) and kind in _SPECS:
        shared = _SPECS[kind].model_fields
        kept = {key: value for key, value in base.items() if key in shared and value is not None}
    if "width" in new and isinstance(width := kept.get("width"), int) and kept.get("hidden") == 2 * width:
        del kept["hidden"]
    if "heads" in new:
        kept.pop("head_width", None)
    elif "head_width" in new or ("width" in new and kept.get("head_width") is not None):
        kept.pop("heads", None)
    return {**kept, **new, "kind": kind}


def torso_data(torso: str | Mapping[str, Any] | Spec) -> dict[str, Any]:
    """A torso as plain data: a bare string is a kind, and a spec gives the options that were set in it.

    Raises:
        ConfigError: if it is none of these.
    """
    if isinstance(torso, str):
        return {"kind": torso}
    if isinstance(torso, Spec):
        return {"kind": getattr(torso, "kind", None), **torso.model_dump(exclude_unset=True)}
    if isinstance(torso, Mapping):
        return dict(torso)
    raise ConfigError(f"a torso is a kind, a mapping or a spec; got {torso!r}")


def parse_torso(torso: Mapping[str, Any], option: str) -> AnyTorsoSpec:
    """Validate a torso given as plain data.

    Args:
        torso: plain data with a `kind`.
        option: what the user called it, for the message ("torso", "critic_torso").

    Raises:
        ConfigError: naming the option and what would be right.
    """
    try:
        return _ADAPTER.validate_python(dict(torso))
    except ValidationError as error:
        path, message = first_complaint(error, torso)
        raise ConfigError(f"{'.'.join((option, *path))}: {message}") from None

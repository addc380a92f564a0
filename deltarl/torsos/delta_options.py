"""Options of Delta blocks, and which of them can be combined."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from deltarl.errors import complaint
from deltarl.torsos.base import StackSpec

# The state that each update makes, with the context c = Norm(X), the sublayer F and k = unit(F(c)).
FORMULAS = {
    "delta": "X + beta k (v^T - k^T X)",
    "write_only": "X + beta k v^T",
    "additive": "X + k s^T with a learned, input-independent s",
    "lerp": "X + a (F(c) - X) with a learned a in (0, 1) for each feature",
    "residual_erase": "X + F(c) - beta k (k^T X)",
    "orthogonal": "X + F(c) - X (X^T F(c)) / (X^T X + eps)",
}
# The options that each update does not read; a value other than the default for an unread one would mislead.
_UNREAD_OPTIONS: dict[str, tuple[str, ...]] = {
    "delta": (),
    "write_only": (),
    "additive": ("beta_init", "beta_max", "gate", "gate_layers", "value", "direction", "sphere", "products"),
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
        "sphere",
        "products",
    ),
    "residual_erase": ("channels", "expand", "value", "value_start", "direction", "sphere", "products"),
}
_UNREAD_OPTIONS["orthogonal"] = _UNREAD_OPTIONS["lerp"]
_UNREAD_OPTIONS["lerp"] += ("residual_scale",)  # it has a learned rate per feature already


# Defaults of earlier versions, whose resolved configs contain every option.
_EARLIER: dict[str, Any] = {"head_width": None, "heads": 1, "beta_init": 1.0, "value_start": 1.0}


def _head_width(data: Mapping[str, Any]) -> int | None:
    width = data.get("width", 0)
    return next((features for features in range(16, 3, -1) if width and width % features == 0), None)


def _heads(data: Mapping[str, Any]) -> int:
    head_width = data.get("head_width")
    return 1 if head_width is None else max(1, int(data.get("width", head_width)) // head_width)


def _beta_init(data: Mapping[str, Any]) -> float:
    """The product of all blocks' shortcuts keeps three quarters of what the stem wrote, on average over directions."""
    width, updates = data.get("width", 1), data.get("depth", 1) * data.get("products", 1)
    return float(min(0.5, 0.25 * width / (data.get("heads", 1) * updates)))


class DeltaOptions(StackSpec):
    """Options of Delta blocks."""

    head_width: int | None = Field(
        default_factory=_head_width,
        ge=4,
        description="Features of each head, from which `heads` follows; null: all of them, in one head. If neither is "
        "given, the largest divisor of the width from 16 down to 4; null if there is none.",
    )
    heads: int = Field(
        default_factory=_heads,
        ge=1,
        description="Groups that the width splits into, each with its own k, v and beta; width / head_width if not "
        "given.",
    )
    channels: int = Field(1, ge=1, description="Value channels d_v of the state; above 1 with a channel compressor.")
    expand: Literal["copy", "linear"] = Field(
        default_factory=lambda data: "copy" if data.get("channels", 1) == 1 else "linear",
        description="How several channels start: each as its own projection of the input, or as copies of the stem's "
        "output, which stay alike.",
    )
    products: int = Field(
        1,
        ge=1,
        le=4,
        description="Number of updates in a row in each block, all read from one context, each with its own k, v and "
        "beta.",
    )
    beta_init: float = Field(
        default_factory=_beta_init,
        gt=0,
        description="Where every gate starts, exactly. By default 0.5, and in deep stacks at most width / (4 heads "
        "depth products).",
    )
    beta_max: float = Field(
        2.0, gt=0, le=2, description="Upper end of the gates' range; above 1 the readout can go past v."
    )
    gate: Literal["learned", "fixed"] = Field("learned", description="A fixed gate keeps beta = beta_init.")
    gate_layers: Literal[1, 2] = Field(1, description="Layers of the gate branch; the second one follows a tanh.")
    value: Literal["linear", "sigmoid"] = Field("linear", description="v as it is, or 4 sigmoid(v).")
    value_start: float = Field(
        0.25,
        gt=0,
        le=10,
        description="Start of a linear value, in units of the norm of the sublayer's output, sqrt(2 width / (heads "
        "products)).",
    )
    direction: Literal["sublayer", "generator", "linear"] = Field(
        "sublayer",
        description="k from the sublayer; from a light MLP (the sublayer then feeds v); or from a single Linear in the "
        "sublayer's place.",
    )
    sphere: bool = Field(
        False,
        description="Put the state back on the sphere of radius r = sqrt(width) after each block, and v through "
        "a tanh into (-r, r) / sqrt(heads).",
    )
    update: Literal["delta", "write_only", "additive", "lerp", "residual_erase", "orthogonal"] = Field(
        "delta", description="; ".join(f"{update}: {formula}" for update, formula in FORMULAS.items()) + "."
    )

    @field_validator("heads")
    @classmethod
    def _heads_divide_width(cls, heads: int, info: Any) -> int:
        width = info.data.get("width")
        if width is not None and (width % heads or heads > width // 4):
            fitting = [n for n in range(1, width // 4 + 1) if width % n == 0]
            reason = (
                f"do not divide width {width}"
                if width % heads
                else f"leave fewer than 4 features per head at width {width}"
            )
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

    @model_validator(mode="before")
    @classmethod
    def _heads_alone_say_their_width(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("heads") is not None and "head_width" not in data:
            return {**data, "head_width": None}
        return data

    @model_validator(mode="after")
    def _every_option_is_read(self) -> Self:
        fields = type(self).model_fields

        def is_default(option: str) -> bool:
            before = dict(takewhile(lambda item: item[0] != option, vars(self).items()))
            default = fields[option].get_default(call_default_factory=True, validated_data=before)
            return getattr(self, option) in (default, _EARLIER.get(option, default))

        for option in _UNREAD_OPTIONS[self.update]:
            if not is_default(option):
                raise complaint(f"{option} has no effect with update {self.update}; leave it out", key=option)
        if self.value == "sigmoid" and not is_default("value_start"):
            raise complaint("value_start has no effect with value sigmoid; leave it out", key="value_start")
        if self.direction == "linear":
            for option, default in (
                ("hidden", 2 * self.width),
                ("activation", fields["activation"].default),
                ("sublayers", 1),
            ):
                if getattr(self, option) != default:
                    raise complaint(f"{option} has no effect with direction linear; leave it out", key=option)
        if self.sphere and self.channels > 1:
            raise complaint(f"sphere supports only one channel; got channels = {self.channels}", key="sphere")
        if self.sphere and self.value == "sigmoid":
            raise complaint("sphere already bounds the value; leave sigmoid out", key="value")
        if self.norm_position == "post" and (self.channels > 1 or self.sphere):
            what = "a sphere, which normalises the state itself" if self.sphere else f"channels = {self.channels}"
            raise complaint(f"norm_position post cannot be combined with {what}", key="norm_position")
        if self.channels == 1 and self.expand != "copy":
            raise complaint("expand has no effect with a single channel; leave it out", key="expand")
        return self

    @model_validator(mode="after")
    def _heads_and_their_width_agree(self) -> Self:
        if self.head_width is not None and self.heads * self.head_width != self.width:
            raise complaint(
                f"{self.heads} heads at width {self.width} have {self.width // self.heads} features each, but "
                f"head_width is {self.head_width}; give only one of the two",
                key="heads",
            )
        return self

    @model_validator(mode="after")
    def _gate_starts_inside_its_range(self) -> Self:
        if self.gate == "fixed":
            if self.beta_init > self.beta_max:
                raise complaint(
                    f"expected a fixed gate's beta_init in (0, beta_max = {self.beta_max:g}], got {self.beta_init:g}",
                    key="beta_init",
                )
        elif self.beta_init >= self.beta_max:
            raise complaint(
                f"expected beta_init strictly between 0 and beta_max = {self.beta_max:g}, because the gate is "
                f"beta_max * sigmoid(.); got {self.beta_init:g}",
                key="beta_init",
            )
        if self.gate == "fixed" and self.gate_layers != 1:
            raise complaint("gate_layers has no effect on a fixed gate; leave it out", key="gate_layers")
        return self

    @classmethod
    def formulas(cls) -> dict[str, str]:
        return {
            "delta" if update == "delta" else f"delta, update: {update}": formula
            for update, formula in FORMULAS.items()
        }

    @property
    def state_channels(self) -> int:
        return self.channels

    @property
    def channel_start(self) -> Literal["copy", "linear"]:
        return self.expand

    @property
    def erases(self) -> bool:
        return self.update in {"delta", "residual_erase"}

    @property
    def inner(self) -> int | None:
        return None if self.direction == "linear" else self.hidden

    @property
    def least_weights(self) -> int:
        return self.depth * self.width * (self.width if self.inner is None else self.inner)

    @property
    def kept_numbers(self) -> int:
        return self.depth * (self.width + (self.inner or 0))

    @classmethod
    def kept(cls, base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
        """Without what follows from other options, which the change may touch.

        `heads` and `head_width` say the same thing: each goes where the other is new, and `heads` where the width is.
        Options with their default go too, since that depends on the sizes.
        """
        kept = dict(base)
        if "head_width" in kept and kept["head_width"] == _head_width(base):
            del kept["head_width"]
            kept.pop("heads", None)
        if "beta_init" in kept and kept["beta_init"] == _beta_init(base):
            del kept["beta_init"]
        if "heads" in change:
            kept.pop("head_width", None)
        elif "head_width" in change or ("width" in change and kept.get("head_width") is not None):
            kept.pop("heads", None)
        return kept

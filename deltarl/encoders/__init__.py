"""Encoders, which stand before torsos: a file with the spec and its options, and one with the module that it builds.

`ENCODERS` is the only list of kinds. The union of specs, the JSON Schema, merging, the tables of options and the test
matrix are derived from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field, TypeAdapter, ValidationError

from deltarl import lazily
from deltarl.encoders.base import EncoderSpec, HistoryReaderSpec
from deltarl.encoders.conv import ConvEncoderSpec
from deltarl.encoders.flat import FlatEncoderSpec
from deltarl.encoders.gru import GRUEncoderSpec
from deltarl.encoders.history import HistoryEncoderSpec
from deltarl.encoders.images import ImageReaderSpec
from deltarl.encoders.impala import ImpalaEncoderSpec
from deltarl.encoders.last import LastEncoderSpec
from deltarl.errors import ConfigError, Spec, first_complaint

if TYPE_CHECKING:
    from deltarl.encoders.encoder import Encoder
else:
    __getattr__, __dir__ = lazily.names(__name__, {"Encoder": "deltarl.encoders.encoder"})

ENCODERS: tuple[type[EncoderSpec], ...] = (
    FlatEncoderSpec,
    LastEncoderSpec,
    GRUEncoderSpec,
    HistoryEncoderSpec,
    ImpalaEncoderSpec,
    ConvEncoderSpec,
)

__all__ = [
    "ENCODERS",
    "ENCODER_KINDS",
    "ConvEncoderSpec",
    "Encoder",
    "EncoderSpec",
    "FileEncoderSpec",
    "FlatEncoderSpec",
    "GRUEncoderSpec",
    "HistoryEncoderSpec",
    "HistoryReaderSpec",
    "ImageReaderSpec",
    "ImpalaEncoderSpec",
    "LastEncoderSpec",
    "merge_encoder",
    "parse_encoder",
]

ENCODER_KINDS: dict[str, type[EncoderSpec]] = {family.model_fields["kind"].default: family for family in ENCODERS}

if TYPE_CHECKING:
    FileEncoderSpec = EncoderSpec
else:
    FileEncoderSpec = Annotated[Union[ENCODERS], Field(discriminator="kind")]  # noqa: UP007 - of a tuple
_ADAPTER: TypeAdapter[Any] = TypeAdapter(FileEncoderSpec)


def merge_encoder(base: Mapping[str, Any], change: str | Mapping[str, Any] | Spec) -> dict[str, Any]:
    """Merge `change` into `base`. A new kind keeps the options that both kinds share and drops the rest.

    Args:
        base: an encoder as plain data.
        change: a kind, options as plain data, or a spec.

    Returns:
        The merged encoder as plain data, not yet validated.

    Raises:
        ConfigError: for a change of any other type.
    """
    new = _data(change)
    kind = new.get("kind", base.get("kind", "flat"))
    kept = dict(base)
    if isinstance(kind, str) and (family := ENCODER_KINDS.get(kind)) is not None and kind != base.get("kind", "flat"):
        kept = {key: value for key, value in base.items() if key in family.model_fields and value is not None}
    return {**kept, **new, "kind": kind}


def _data(encoder: str | Mapping[str, Any] | Spec) -> dict[str, Any]:
    if isinstance(encoder, str):
        return {"kind": encoder}
    if isinstance(encoder, Spec):
        return {"kind": getattr(encoder, "kind", None), **encoder.model_dump(exclude_unset=True)}
    if isinstance(encoder, Mapping):
        return dict(encoder)
    raise ConfigError(f"expected an encoder as a kind, a mapping or a spec; got {encoder!r}")


def parse_encoder(encoder: str | Mapping[str, Any] | Spec) -> EncoderSpec:
    """Validate an encoder given as a kind, as plain data or as a spec.

    Raises:
        ConfigError: naming the option and the accepted values.
    """
    data = merge_encoder({}, encoder)
    try:
        spec: EncoderSpec = _ADAPTER.validate_python(data)
    except ValidationError as error:
        path, message = first_complaint(error, data)
        raise ConfigError(f"{'.'.join(('encoder', *path))}: {message}") from None
    return spec

"""Torso families: a file with the spec and its options, and one with the blocks that it builds.

`FAMILIES` is the only list of kinds. The union of specs, the JSON Schema, merging, the tables of options, size matching
and the test matrix are derived from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, TypeAdapter, ValidationError

from deltarl import lazily
from deltarl.errors import ConfigError, Spec, first_complaint
from deltarl.torsos.base import StackSpec, TorsoSpec
from deltarl.torsos.bronet import BroNetTorsoSpec
from deltarl.torsos.custom import CustomTorsoSpec
from deltarl.torsos.delta import DeltaTorsoSpec
from deltarl.torsos.hyper import HyperTorsoSpec
from deltarl.torsos.mlp import MLPTorsoSpec
from deltarl.torsos.residual import PlainTorsoSpec, ResidualTorsoSpec
from deltarl.torsos.simbav2 import SimbaV2TorsoSpec

if TYPE_CHECKING:
    from deltarl.torsos.block import Block, BlockRecord, undecayed_parameters
    from deltarl.torsos.delta_blocks import DeltaBlock
    from deltarl.torsos.residual_blocks import ResidualBlock
    from deltarl.torsos.torso import Torso
else:
    __getattr__, __dir__ = lazily.names(
        __name__,
        {
            "Block": "deltarl.torsos.block",
            "BlockRecord": "deltarl.torsos.block",
            "DeltaBlock": "deltarl.torsos.delta_blocks",
            "ResidualBlock": "deltarl.torsos.residual_blocks",
            "Torso": "deltarl.torsos.torso",
            "undecayed_parameters": "deltarl.torsos.block",
        },
    )

FAMILIES: tuple[type[TorsoSpec], ...] = (
    DeltaTorsoSpec,
    ResidualTorsoSpec,
    PlainTorsoSpec,
    MLPTorsoSpec,
    HyperTorsoSpec,
    SimbaV2TorsoSpec,
    BroNetTorsoSpec,
    CustomTorsoSpec,
)

__all__ = [
    "FAMILIES",
    "KINDS",
    "TORSO_KINDS",
    "Block",
    "BlockRecord",
    "BroNetTorsoSpec",
    "CustomTorsoSpec",
    "DeltaBlock",
    "DeltaTorsoSpec",
    "FileTorsoSpec",
    "HyperTorsoSpec",
    "MLPTorsoSpec",
    "PlainTorsoSpec",
    "ResidualBlock",
    "ResidualTorsoSpec",
    "SimbaV2TorsoSpec",
    "StackSpec",
    "Torso",
    "TorsoSpec",
    "merge_torso",
    "parse_torso",
    "pickled_data",
    "torso_data",
    "undecayed_parameters",
]

KINDS: dict[str, type[TorsoSpec]] = {family.model_fields["kind"].default: family for family in FAMILIES}
# The kinds that need no code of the user's.
TORSO_KINDS = tuple(kind for kind, family in KINDS.items() if family.in_files)


def _any_of(kinds: Iterable[str]) -> Any:
    """For pydantic: a spec of one of these kinds."""
    return Annotated[Union[tuple(KINDS[kind] for kind in kinds)], Field(discriminator="kind")]  # noqa: UP007


if TYPE_CHECKING:
    FileTorsoSpec = TorsoSpec
else:
    FileTorsoSpec = _any_of(KINDS)
_ADAPTER: TypeAdapter[Any] = TypeAdapter(_any_of(KINDS))


def merge_torso(base: Mapping[str, Any], change: str | Mapping[str, Any] | Spec) -> dict[str, Any]:
    """Merge `change` into `base`. A new kind keeps the options that both kinds share and drops the rest.

    Which of the shared options survive a change is decided by the family (`TorsoSpec.kept`).

    Args:
        base: a torso as plain data.
        change: a kind, options as plain data, or a spec.

    Returns:
        The merged torso as plain data, not yet validated.
    """
    new = torso_data(change)
    kind = new.get("kind", base.get("kind", "delta"))
    kept = dict(base)
    if isinstance(kind, str) and (family := KINDS.get(kind)) is not None:
        if kind != base.get("kind", "delta"):
            kept = {key: value for key, value in base.items() if key in family.model_fields and value is not None}
        kept = family.kept(kept, new)
    return {**kept, **new, "kind": kind}


def torso_data(torso: str | Mapping[str, Any] | Spec) -> dict[str, Any]:
    """Convert a torso to plain data. A string is a kind; a spec yields the options that were set explicitly.

    Raises:
        ConfigError: for any other type.
    """
    if isinstance(torso, str):
        return {"kind": torso}
    if isinstance(torso, Spec):
        return {"kind": getattr(torso, "kind", None), **torso.model_dump(exclude_unset=True), **_class_in(torso)}
    if isinstance(torso, Mapping):
        return dict(torso)
    raise ConfigError(f"expected a torso as a kind, a mapping or a spec; got {torso!r}")


def pickled_data(torso: TorsoSpec, mode: Literal["json", "python"] = "python") -> dict[str, Any]:
    """All options of a torso for policies, with the class of a user's blocks, which unpickling imports by itself."""
    return {**torso.model_dump(mode=mode), **_class_in(torso)}


def _class_in(torso: Spec) -> dict[str, Any]:
    return {"block": torso.block} if isinstance(torso, CustomTorsoSpec) else {}


def parse_torso(torso: Mapping[str, Any], option: str) -> TorsoSpec:
    """Validate a torso given as plain data.

    Args:
        torso: plain data with a `kind`.
        option: the user's name for it in error messages ("torso", "critic_torso").

    Raises:
        ConfigError: naming the option and the accepted values.
    """
    try:
        spec: TorsoSpec = _ADAPTER.validate_python(dict(torso))
    except ValidationError as error:
        path, message = first_complaint(error, torso)
        raise ConfigError(f"{'.'.join((option, *path))}: {message}") from None
    return spec

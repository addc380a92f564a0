"""Classes that stand in older checkpoints under the name of another module than today's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MOVED: Mapping[str, str] = {
    f"deltarl.{old}.{name}": f"deltarl.torsos.{new}.{name}"
    for old, new, names in (
        ("torso", "base", "Torso"),
        ("specs", "custom", "CustomTorsoSpec"),
        ("specs", "delta", "DeltaTorsoSpec"),
        ("specs", "mlp", "MLPTorsoSpec"),
        ("specs", "residual", "PlainTorsoSpec ResidualTorsoSpec"),
        ("blocks", "delta_blocks", "AdditiveBlock DeltaBlock LerpBlock RankOneBlock WriteOnlyBlock"),
        ("blocks", "layers", "BatchRenorm ChannelCompressor Sublayer"),
        ("blocks", "residual", "PlainBlock ResidualBlock"),
    )
    for name in names.split()
}


def renamed(tree: Any) -> Any:
    """A snapshot's tree with all classes under their present names."""
    if isinstance(tree, list):
        return [renamed(each) for each in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        key: _MOVED.get(value, value) if key in {"class", "type"} and isinstance(value, str) else renamed(value)
        for key, value in tree.items()
    }

"""Classes that have moved since older checkpoints recorded their modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MOVED: Mapping[str, str] = {
    f"deltarl.{old}.{name}": f"deltarl.{new}.{name}"
    for old, new, names in (
        ("torso", "torsos.torso", "Torso"),
        ("torsos.base", "torsos.torso", "Torso"),
        ("specs", "torsos.custom", "CustomTorsoSpec"),
        ("specs", "torsos.delta", "DeltaTorsoSpec"),
        ("specs", "torsos.mlp", "MLPTorsoSpec"),
        ("specs", "torsos.residual", "PlainTorsoSpec ResidualTorsoSpec"),
        ("blocks", "torsos.delta_blocks", "AdditiveBlock DeltaBlock LerpBlock RankOneBlock WriteOnlyBlock"),
        ("blocks", "torsos.layers", "BatchRenorm ChannelCompressor Sublayer"),
        ("blocks", "torsos.residual_blocks", "PlainBlock ResidualBlock"),
        ("torsos.residual", "torsos.residual_blocks", "PlainBlock ResidualBlock"),
        ("torsos.bronet", "torsos.bronet_blocks", "BroNetBlock"),
        ("torsos.hyper", "torsos.hyper_blocks", "Connections HyperBlock SumOfStreams"),
        ("torsos.simbav2", "torsos.simbav2_blocks", "Embedding Scaler SimbaV2Block UnitLinear"),
        ("fast.ppo", "fast.on_policy.ppo", "PPO"),
        ("fast.a2c", "fast.on_policy.a2c", "A2C"),
        ("fast.sac", "fast.off_policy.sac", "SAC"),
        ("fast.td3", "fast.off_policy.td3", "DDPG TD3"),
        ("fast.tqc", "fast.off_policy.tqc", "TQC"),
        ("fast.crossq", "fast.off_policy.crossq", "CrossQ"),
        ("fast.shared", "fast.off_policy.shared_replay", "SharedReplayBuffer"),
    )
    for name in names.split()
}


def renamed(tree: Any) -> Any:
    """A snapshot's tree with all classes under their current names."""
    if isinstance(tree, list):
        return [renamed(each) for each in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        key: _MOVED.get(value, value) if key in {"class", "type"} and isinstance(value, str) else renamed(value)
        for key, value in tree.items()
    }

"""The former place of torso specs, now `deltarl.torsos`: models saved before the move name it in their pickles."""

from deltarl.torsos import CustomTorsoSpec, DeltaTorsoSpec, MLPTorsoSpec, PlainTorsoSpec, ResidualTorsoSpec

__all__ = ["CustomTorsoSpec", "DeltaTorsoSpec", "MLPTorsoSpec", "PlainTorsoSpec", "ResidualTorsoSpec"]

"""Former module of the torso specs, now in `deltarl.torsos`; pickles of models saved before the move refer to it."""

from deltarl.torsos import CustomTorsoSpec, DeltaTorsoSpec, MLPTorsoSpec, PlainTorsoSpec, ResidualTorsoSpec

__all__ = ["CustomTorsoSpec", "DeltaTorsoSpec", "MLPTorsoSpec", "PlainTorsoSpec", "ResidualTorsoSpec"]

"""Former module of `Torso`, now in `deltarl.torsos`; pickles of models saved before the move may refer to it."""

from deltarl.torsos import Torso, undecayed_parameters

__all__ = ["Torso", "undecayed_parameters"]

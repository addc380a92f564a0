"""The former place of `Torso`, now `deltarl.torsos`: models saved before the move may name it in their pickles."""

from deltarl.torsos import Torso, undecayed_parameters

__all__ = ["Torso", "undecayed_parameters"]

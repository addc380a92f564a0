"""The scoreboard: what training costs here, beside Stable-Baselines3 and, where it is installed, SBX."""

from deltarl.bench.cases import Case, chosen
from deltarl.bench.measure import measure
from deltarl.bench.tables import scoreboard

__all__ = ["Case", "chosen", "measure", "scoreboard"]

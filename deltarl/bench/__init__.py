"""The benchmark: the cost of training here, compared with Stable-Baselines3 and, if installed, SBX."""

from deltarl.bench.cases import Case, chosen
from deltarl.bench.measure import measure
from deltarl.bench.tables import scoreboard

__all__ = ["Case", "chosen", "measure", "scoreboard"]

"""Runs: their specs, training, evaluation and folders."""

from deltarl.training.evaluation import Evaluation
from deltarl.training.finite import NonFiniteError
from deltarl.training.load import Run, evaluate, load_run
from deltarl.training.result import RunResult
from deltarl.training.signals import TrainingStopped
from deltarl.training.spec import RunSpec

__all__ = [
    "Evaluation",
    "NonFiniteError",
    "Run",
    "RunResult",
    "RunSpec",
    "TrainingStopped",
    "evaluate",
    "load_run",
]

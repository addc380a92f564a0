"""Runs: their specs, training, evaluation and folders."""

from typing import TYPE_CHECKING

from deltarl import lazily

if TYPE_CHECKING:
    from deltarl.errors import NonFiniteError
    from deltarl.training.evaluation import Evaluation
    from deltarl.training.load import Run, evaluate, load_run
    from deltarl.training.result import RunResult
    from deltarl.training.signals import TrainingStopped
    from deltarl.training.spec import RunSpec
else:
    __getattr__, __dir__ = lazily.names(
        __name__,
        {
            "Evaluation": "deltarl.training.evaluation",
            "NonFiniteError": "deltarl.errors",
            "Run": "deltarl.training.load",
            "RunResult": "deltarl.training.result",
            "RunSpec": "deltarl.training.spec",
            "TrainingStopped": "deltarl.training.signals",
            "evaluate": "deltarl.training.load",
            "load_run": "deltarl.training.load",
        },
    )

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

"""Runs: their specs, training, evaluation and folders."""

from deltarl.training.evaluation import Evaluation
from deltarl.training.run import Run, RunResult, evaluate, load_run, train
from deltarl.training.spec import RunSpec

__all__ = ["Evaluation", "Run", "RunResult", "RunSpec", "evaluate", "load_run", "train"]

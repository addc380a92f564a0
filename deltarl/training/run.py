"""What scripts import from here: how a run is built, judged and read back. Each has a file of its own."""

from deltarl.training.best import Best
from deltarl.training.build import built
from deltarl.training.load import Run, evaluate, load_run
from deltarl.training.result import RunResult, result_in

__all__ = ["Best", "Run", "RunResult", "built", "evaluate", "load_run", "result_in"]

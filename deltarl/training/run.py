"""Names that scripts import from here; the code is in the modules below."""

from deltarl.training.best import Best
from deltarl.training.build import built
from deltarl.training.load import Run, evaluate, load_run
from deltarl.training.result import RunResult, result_in

__all__ = ["Best", "Run", "RunResult", "built", "evaluate", "load_run", "result_in"]

"""Where runs are trained: in this process, or side by side in processes of their own."""

from deltarl.launch.runs import SeedFailedError, resume, train

__all__ = ["SeedFailedError", "resume", "train"]

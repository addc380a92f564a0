"""Where runs are trained: in this process, or side by side in separate processes."""

from typing import TYPE_CHECKING

from deltarl import lazily
from deltarl.errors import SeedFailedError

if TYPE_CHECKING:
    from deltarl.launch.runs import resume, train
else:
    __getattr__, __dir__ = lazily.names(__name__, dict.fromkeys(("resume", "train"), "deltarl.launch.runs"))

__all__ = ["SeedFailedError", "resume", "train"]

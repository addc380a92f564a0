"""Where a run's numbers and figures go: TensorBoard, progress.csv, metrics.jsonl and trackers, each a sink."""

from typing import TYPE_CHECKING

from deltarl import lazily

if TYPE_CHECKING:
    from deltarl.recording.drawn import png_of
    from deltarl.recording.metrics import Metrics, metrics_in
    from deltarl.recording.sink import MEASURED, FileSink, Sink, cut_back
    from deltarl.recording.sinks import SINKS, logged, make_logger, sinks_of, sizes, truncate, write_summary
    from deltarl.recording.tensorboard import TensorBoard
    from deltarl.recording.tracker import About
else:
    __getattr__, __dir__ = lazily.names(
        __name__,
        {
            "MEASURED": "deltarl.recording.sink",
            "SINKS": "deltarl.recording.sinks",
            "About": "deltarl.recording.tracker",
            "FileSink": "deltarl.recording.sink",
            "Metrics": "deltarl.recording.metrics",
            "Sink": "deltarl.recording.sink",
            "TensorBoard": "deltarl.recording.tensorboard",
            "cut_back": "deltarl.recording.sink",
            "logged": "deltarl.recording.sinks",
            "make_logger": "deltarl.recording.sinks",
            "metrics_in": "deltarl.recording.metrics",
            "png_of": "deltarl.recording.drawn",
            "sinks_of": "deltarl.recording.sinks",
            "sizes": "deltarl.recording.sinks",
            "truncate": "deltarl.recording.sinks",
            "write_summary": "deltarl.recording.sinks",
        },
    )

__all__ = [
    "MEASURED",
    "SINKS",
    "About",
    "FileSink",
    "Metrics",
    "Sink",
    "TensorBoard",
    "cut_back",
    "logged",
    "make_logger",
    "metrics_in",
    "png_of",
    "sinks_of",
    "sizes",
    "truncate",
    "write_summary",
]

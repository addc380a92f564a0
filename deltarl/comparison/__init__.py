"""Comparisons: arms of equal size, trained side by side on the same tasks and seeds, and what their scores allow."""

from typing import TYPE_CHECKING

from deltarl import lazily

if TYPE_CHECKING:
    from deltarl.comparison.conduct import Compared, compare
    from deltarl.comparison.report import write_report
    from deltarl.comparison.spec import Comparison, ComparisonSpec, load_comparison
else:
    __getattr__, __dir__ = lazily.names(
        __name__,
        {
            **dict.fromkeys(("Compared", "compare"), "deltarl.comparison.conduct"),
            **dict.fromkeys(("Comparison", "ComparisonSpec", "load_comparison"), "deltarl.comparison.spec"),
            "write_report": "deltarl.comparison.report",
        },
    )

__all__ = ["Compared", "Comparison", "ComparisonSpec", "compare", "load_comparison", "write_report"]

"""Comparisons: arms of equal size, trained on the same tasks and seeds, and what their scores support."""

from typing import TYPE_CHECKING

from deltarl import lazily

if TYPE_CHECKING:
    from deltarl.comparison.conduct import Compared, compare
    from deltarl.comparison.load import load_comparison
    from deltarl.comparison.report import write_report
    from deltarl.comparison.spec import Comparison, ComparisonSpec
else:
    __getattr__, __dir__ = lazily.names(
        __name__,
        {
            **dict.fromkeys(("Compared", "compare"), "deltarl.comparison.conduct"),
            **dict.fromkeys(("Comparison", "ComparisonSpec"), "deltarl.comparison.spec"),
            "load_comparison": "deltarl.comparison.load",
            "write_report": "deltarl.comparison.report",
        },
    )

__all__ = ["Compared", "Comparison", "ComparisonSpec", "compare", "load_comparison", "write_report"]

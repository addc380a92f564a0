"""Comparisons: arms of equal size, trained side by side on the same tasks and seeds, and what their scores allow."""

from deltarl.comparison.compare import Compared, compare
from deltarl.comparison.report import write_report
from deltarl.comparison.spec import Comparison, ComparisonSpec, load_comparison

__all__ = ["Compared", "Comparison", "ComparisonSpec", "compare", "load_comparison", "write_report"]

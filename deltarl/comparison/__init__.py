"""Comparisons: arms of equal size, trained side by side on the same tasks and seeds, and what their scores allow."""

from deltarl.comparison.run import Compared, compare
from deltarl.comparison.spec import Comparison, ComparisonSpec, load_comparison

__all__ = ["Compared", "Comparison", "ComparisonSpec", "compare", "load_comparison"]

"""The TD error of critics on transitions that they have not been trained on yet."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

# Over the transitions so far, of each critic: their number, and the sums of the squared TD error, of the target and of
# the squared target. Plain data, for checkpoints.
Sums = dict[str, tuple[float, float, float, float]]


def added(sums: Sums, found: Mapping[str, tuple[Tensor, Tensor]]) -> Sums:
    """The sums with further transitions.

    Args:
        sums: so far; not changed.
        found: values and targets `[N]` by critic, from `values_and_targets`.
    """
    return sums | {name: _sum(sums.get(name, (0.0, 0.0, 0.0, 0.0)), *pair) for name, pair in found.items()}


def _sum(before: tuple[float, ...], values: Tensor, targets: Tensor) -> tuple[float, float, float, float]:
    values, targets = values.double(), targets.double()
    further = (len(values), *(float(x.sum()) for x in ((values - targets) ** 2, targets, targets**2)))
    count, errors, total, squares = (old + new for old, new in zip(before, further, strict=True))
    return count, errors, total, squares


def td_statistics(sums: Sums) -> dict[str, dict[str, float]]:
    """By critic: `td_error`, the root mean square, and `td_unexplained`, its square over the targets' variance.

    `td_error` is in units of the return, so it grows with what the agent earns; `td_unexplained` does not: 0 for a
    critic that knows its targets, 1 for one that knows their mean. It is NaN where all targets are the same.
    """
    found = {}
    for name, (count, errors, total, squares) in sums.items():
        variance = squares / count - (total / count) ** 2
        # Rounding leaves a remainder where all targets are equal.
        varies = variance > 1e-12 * squares / count
        found[name] = {
            "td_error": math.sqrt(errors / count),
            "td_unexplained": errors / count / variance if varies else math.nan,
        }
    return found

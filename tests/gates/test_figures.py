"""Figures of a gate record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

from deltarl.gates import Record, read_record
from deltarl.gates.figures import MOST_NAMED, figures, lines

KEPT = Path(__file__).parents[2] / "results" / "compare" / "mechanism_ppo" / "hopper" / "erasing" / "seed-0"


def record_of(depth: int, times: int = 3) -> Record:
    random = np.random.default_rng(0)
    return {"steps": np.arange(times)} | {
        f"gates/policy/{name}": random.random((times, depth)) for name in ("beta_mean", "beta_std", "erase_share")
    }


@pytest.mark.parametrize(("depth", "times"), [(1, 1), (2, 3), (20, 3)])
def test_each_block_has_its_colour_in_both_charts(depth: int, times: int) -> None:
    record = record_of(depth, times)
    figure = lines(record)
    above, below = figure.axes
    drawn = [[line for line in axis.lines if len(line.get_xdata()) == times] for axis in (above, below)]
    colours = [[to_hex(line.get_color()) for line in each] for each in drawn]
    assert colours[0] == colours[1]
    assert len(set(colours[0])) == depth
    for each, name in zip(drawn, ("beta_mean", "erase_share"), strict=True):
        np.testing.assert_array_equal([line.get_ydata() for line in each], record[f"gates/policy/{name}"].T)
    [legend] = figure.legends
    named = [text.get_text() for text in legend.get_texts()]
    assert named[0] == "block 0"
    assert named[-1] == f"block {depth - 1}"
    assert len(named) == min(depth, MOST_NAMED)


def test_records_of_a_comparison_are_drawn_without_what_they_lack() -> None:
    record = read_record(KEPT / "gates.npz")
    drawn = {name: draw(record) for name, draw in figures(record).items()}
    assert set(drawn) == {"beta", "blocks", "regimes"}

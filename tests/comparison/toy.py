"""A comparison of two arms on two tasks, whose scores are chosen."""

from __future__ import annotations

from pathlib import Path

from deltarl.comparison import Comparison, load_comparison
from deltarl.comparison.analysis import Analysis, analyse
from deltarl.comparison.records import read_study
from tests.comparison.records import Scores, write_runs

APART: Scores = {
    ("reacher", "residual"): [-5.0, -5.2, -4.9, -5.1, -5.3],
    ("reacher", "delta"): [-4.0, -4.1, -3.9, -4.2, -4.0],
    ("pusher", "residual"): [-40.0, -44.0, -39.0, -47.0, -41.0],
    ("pusher", "delta"): [-41.0, -43.0, -40.0, -45.0, -42.0],
}


def comparison(out: Path, *overrides: str) -> Comparison:
    common = ("tasks.pusher.env=pusher", "seeds=[0,1,2,3,4]", "name=toy", f"out={out}")
    return load_comparison("quick", *common, *overrides)


def analysed(folder: Path, scores: Scores = APART, *overrides: str) -> Analysis:
    return analyse(read_study(write_runs(comparison(folder, *overrides), scores)))

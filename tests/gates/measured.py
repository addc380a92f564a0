"""Algorithms and event files of the tests of gates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.policies.matrix import SUBJECTS

DELTA = {"kind": "delta", "width": 12, "depth": 2, "heads": 2}


def of(name: str) -> Any:
    return next(subject for subject in SUBJECTS if subject.name == name)


def curves(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "tensors": 0})
    events.Reload()
    return events

"""Replay buffers in several segments."""

from __future__ import annotations

import pytest

from deltarl.checkpoints.replay import Transitions
from tests.checkpoints.written import SEGMENT_ROWS, buffer


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    row = sum(array[0].nbytes for array in Transitions(buffer()).arrays.values())
    monkeypatch.setattr("deltarl.checkpoints.replay.SEGMENT_BYTES", SEGMENT_ROWS * row)

"""Trackers in threads of their own: slow, broken and hanging ones do not disturb training."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from stable_baselines3.common.logger import Figure as LoggedFigure
from stable_baselines3.common.logger import Logger

from deltarl.recording import background
from deltarl.recording.background import Background
from deltarl.recording.mark import Mark
from deltarl.recording.sinks import logged
from deltarl.recording.tracker import Ending, Row, Tracker


class Kept(Tracker):
    """Keeps what it is sent; waits before it takes anything, and fails for tags that contain "bad"."""

    name = "kept"

    def __init__(self, run_id: str = "", gate: threading.Event | None = None) -> None:
        self.id, self.where, self.gate = run_id or "new", "here", gate
        self.taken: list[tuple[int, dict[str, float]]] = []
        self.media: list[tuple[str, int]] = []
        self.ended: list[Ending] = []

    def rows(self, rows: Sequence[Row]) -> None:
        if self.gate is not None:
            self.gate.wait()
        for row in rows:
            if any("bad" in tag for tag in row.values):
                raise RuntimeError("a bad\nrow")
            self.taken.append((row.step, dict(row.values)))

    def histogram(self, tag: str, values: NDArray[np.float32], step: int) -> None:
        assert values.shape == (3,)
        self.media.append((tag, step))

    def image(self, tag: str, png: bytes, step: int) -> None:
        assert png.startswith(b"\x89PNG")
        self.media.append((tag, step))

    def video(self, tag: str, gif: bytes, step: int) -> None:
        assert gif == b"GIF89a"
        self.media.append((tag, step))

    def summary(self, scores: Any, step: int) -> None:
        self.media.append((",".join(scores), step))

    def close(self, ending: Ending) -> None:
        self.ended.append(ending)


def started(tmp_path: Path, tracker: Kept, **options: Any) -> Background:
    def connect(run_id: str) -> Kept:
        tracker.id = run_id or tracker.id
        return tracker

    return Background("kept", connect, tmp_path / "kept.json", "target", **options)


def ended(sink: Background, ending: Ending = "finished") -> None:
    sink.ended(ending)
    sink.close()


def mark(tmp_path: Path) -> dict[str, Any]:
    return dict(json.loads((tmp_path / "kept.json").read_text()))


def test_everything_arrives_in_order(tmp_path: Path) -> None:
    tracker = Kept()
    sink = started(tmp_path, tracker)
    logger = Logger(None, [sink])
    with logged(logger):
        logger.record("loss", np.float32(0.5))
        logger.record("word", "text")
        logger.record("hidden", 1.0, exclude="kept")
        logger.record("mine", LoggedFigure(Figure(), close=True))
        logger.dump(2)
        sink.histogram("beta", torch.arange(3.0), 2)
        sink.video("clip", b"GIF89a", (1, 1), 2)
        sink.scalars({"a": torch.tensor(1), "b": True, "c": np.ones(2)}, 3)
        sink.summary({"return_mean": 1.0}, 3)
    assert tracker.taken == [(2, {"loss": 0.5}), (3, {"a": 1.0, "b": 1.0})]
    assert tracker.media == [("mine", 2), ("beta", 2), ("clip", 2), ("return_mean", 3)]
    assert tracker.ended == ["finished"]
    assert mark(tmp_path) == {"target": "target", "id": "new", "step": 3, "rows": 1, "where": "here"}


@pytest.mark.parametrize(
    ("error", "ending"), [(SystemExit(75), "stopped"), (KeyboardInterrupt(), "stopped"), (ValueError(), "failed")]
)
def test_a_tracker_is_told_how_the_run_ended(error: BaseException, ending: Ending, tmp_path: Path) -> None:
    tracker = Kept()
    with pytest.raises(type(error)), logged(Logger(None, [started(tmp_path, tracker)])):
        raise error
    assert tracker.ended == [ending]


def test_a_slow_tracker_does_not_hold_up_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "MOST_WAITING", 5)
    tracker = Kept(gate=threading.Event())
    sink = started(tmp_path, tracker)
    for step in range(50):
        sink.scalars({"loss": 1.0}, step)
    assert tracker.gate is not None
    tracker.gate.set()
    ended(sink)
    dropped = 50 - len(tracker.taken)
    assert 40 <= dropped <= 45
    assert [step for step, _ in tracker.taken] == sorted(step for step, _ in tracker.taken)
    slower, in_all = (record.getMessage() for record in caplog.records)
    assert slower.startswith("kept: is slower than training, so rows are dropped; training continues")
    assert in_all == f"kept: {dropped} rows or pictures were dropped in all"


def test_the_end_of_training_does_not_wait_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "PATIENCE", {"finished": 0.1, "stopped": 0.0, "failed": 0.0})
    tracker = Kept(gate=threading.Event())
    sink = started(tmp_path, tracker)
    sink.scalars({"loss": 1.0}, 1)
    begun = time.monotonic()
    ended(sink)
    assert time.monotonic() - begun < 5
    [record] = caplog.records
    assert record.getMessage().startswith("kept: has not taken everything in time")
    sink.scalars({"loss": 1.0}, 2)  # nothing happens
    assert tracker.gate is not None
    tracker.gate.set()


# Ids that would lead out of a tracker's folder.
STRANGE = [
    json.dumps({"target": "target", "id": name, "where": "", "step": 15, "rows": 1}) for name in ("../../x", "a/b", "*")
]


def broken(_: str) -> Tracker:
    raise OSError("no route\nto host")


def exits(_: str) -> Tracker:
    raise SystemExit(3)


@pytest.mark.parametrize(("connect", "reason"), [(broken, "OSError: no route to host"), (exits, "SystemExit: 3")])
def test_a_tracker_that_cannot_be_reached_is_mentioned_once(
    connect: Callable[[str], Tracker],
    reason: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background, "MOST_WAITING", 5)
    sink = Background("kept", connect, tmp_path / "kept.json", "target")
    sink._thread.join(10)
    for step in range(20):
        sink.scalars({"loss": 1.0}, step)
    ended(sink)
    assert [record.getMessage() for record in caplog.records] == [
        f"kept: {reason}; training continues, and metrics.jsonl has all numbers"
    ]
    assert not (tmp_path / "kept.json").exists()


def test_failures_are_mentioned_once_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = Kept()
    sink = started(tmp_path, tracker)
    for step, tag in enumerate(("fine", "bad", "good", "bad")):
        sink.scalars({tag: 1.0}, step)
        sink.histogram(tag, torch.arange(3.0 if tag != "bad" else 4.0), step)
    ended(sink)
    assert [tags for _, tags in tracker.taken] == [{"fine": 1.0}, {"good": 1.0}]
    assert tracker.media == [("fine", 0), ("good", 2)]
    first, in_all = (record.getMessage() for record in caplog.records)
    assert first.startswith("kept: RuntimeError: a bad row; ")
    assert in_all == "kept: failed 4 times in all"
    assert tracker.ended == ["finished"]


def test_a_figure_that_cannot_be_drawn_does_not_stop_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    figure = Figure()
    figure.suptitle("$\\nothing$")
    tracker = Kept()
    sink = started(tmp_path, tracker)
    logger = Logger(None, [sink])
    logger.record("mine", LoggedFigure(figure, close=False))
    logger.dump(1)
    ended(sink)
    assert tracker.media == []
    assert caplog.records[0].getMessage().startswith("kept: ValueError: ")


def test_a_resumed_run_repeats_no_row_and_fills_the_gap(tmp_path: Path) -> None:
    # Killed when the tracker had the first of two rows of step 20; resumed from a checkpoint of step 10.
    Mark("target", "mine", step=20, rows=1).write(tmp_path / "kept.json")
    tracker = Kept()
    sink = started(tmp_path, tracker, history=[({"loss": 0.1}, 10)])
    for step, value in ((20, 0.2), (20, 0.25), (30, 0.3)):
        sink.scalars({"loss": value}, step)
        sink.histogram("beta", torch.arange(3.0), step)
    ended(sink)
    assert tracker.id == "mine"
    assert tracker.taken == [(20, {"loss": 0.25}), (30, {"loss": 0.3})]
    assert tracker.media == [("beta", 30)]
    assert mark(tmp_path)["step"] == 30

    # Killed when the tracker was behind the checkpoint of step 40.
    tracker = Kept()
    ended(started(tmp_path, tracker, history=[({"loss": step / 100}, step) for step in (10, 20, 20, 30, 35, 40)]))
    assert [step for step, _ in tracker.taken] == [35, 40]
    assert mark(tmp_path) == {"target": "target", "id": "mine", "step": 40, "rows": 1, "where": "here"}


@pytest.mark.parametrize("content", [None, "", "[]", '{"id": 3}', '{"target": "another", "id": "x"}', "\x00", *STRANGE])
def test_a_run_that_the_tracker_has_not_seen_is_sent_from_its_beginning(
    content: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    if content is not None:
        (tmp_path / "kept.json").write_text(content)
    tracker = Kept()
    ended(started(tmp_path, tracker, history=[({"loss": 0.1}, 10), ({}, 15), ({"loss": 0.2}, 20)]))
    assert (tracker.id, tracker.taken) == ("new", [(10, {"loss": 0.1}), (20, {"loss": 0.2})])

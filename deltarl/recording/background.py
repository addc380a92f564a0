"""A sink that hands everything to a tracker in a thread, so that a slow or broken tracker does not disturb training."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from itertools import groupby
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import Figure as LoggedFigure

from deltarl.recording.drawn import png_of
from deltarl.recording.mark import Mark
from deltarl.recording.randomness import own_module, separate
from deltarl.recording.sink import Sink
from deltarl.recording.tracker import Ending, Row, Tracker

log = logging.getLogger(__name__)

# What may wait for a tracker; more is dropped.
MOST_WAITING = 1_000
# Seconds that the end of training waits for a tracker.
PATIENCE: dict[Ending, float] = {"finished": 30.0, "stopped": 5.0, "failed": 5.0}
# The packages of trackers that draw random numbers, for names and for the time to wait before another attempt.
_DRAWING = ("wandb", "mlflow", "opentelemetry", "requests", "urllib3", "databricks")
_Place = tuple[int, int]  # a step, and the number of rows of that step


@dataclass(frozen=True)
class _Call:
    """What is not a row: its step, and what sends it."""

    step: int
    send: Callable[[Tracker], None]
    index: int = 0


class Background(Sink):
    """Sends numbers and pictures to a tracker, in a thread of its own.

    Nothing here blocks or raises during training. What the tracker cannot take in time is dropped, and what goes wrong
    is logged once; the files in the run's folder are complete in any case.

    Args:
        name: as in `logging`.
        connect: connects to the tracker's run with this id, or to a new one if it is empty; called in the thread.
        path: file of the mark.
        target: see `Mark`.
        modules: modules of the tracker, imported first.
        history: rows of the run so far, from which those that the tracker lacks are sent first.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[str], Tracker],
        path: Path,
        target: str,
        *,
        modules: Sequence[str] = (),
        history: Sequence[tuple[Mapping[str, Any], int]] = (),
    ) -> None:
        self.name = name
        self._connect, self._path, self._modules = connect, path, modules
        self._mark = Mark.read(path, target)
        self._latest: _Place = (-1, 0)
        self._queue: SimpleQueue[Row | _Call | None] = SimpleQueue()
        self._dropped = self._failed = 0
        self._is_broken = self._is_abandoned = False
        self._ending: Ending | None = None
        self._deadline = 0.0
        for values, step in history:
            self._add(values, step, most=None)
        self._thread = threading.Thread(target=self._run, name=f"deltarl-{name}", daemon=True)
        self._thread.start()

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        super().write(key_values, key_excluded, step)
        for tag, value in key_values.items():
            if isinstance(value, LoggedFigure) and self.name not in (key_excluded.get(tag) or ()):
                self._user_figure(tag, value, step)

    def scalars(self, values: Mapping[str, Any], step: int) -> None:
        self._add(values, step, most=MOST_WAITING)

    def _add(self, values: Mapping[str, Any], step: int, most: int | None) -> None:
        newest, count = self._latest
        self._latest = (step, count + 1 if step == newest else 1)
        numbers = {tag: float(value) for tag, value in values.items() if _is_number(value)}
        if numbers:
            self._put(Row(numbers, step, time.time(), self._latest[1]), most)

    def histogram(self, tag: str, values: torch.Tensor, step: int) -> None:
        kept = values.detach().cpu().numpy().astype(np.float32, copy=True)
        self._put(_Call(step, lambda tracker: tracker.histogram(tag, kept, step)))

    def _user_figure(self, tag: str, logged: LoggedFigure, step: int) -> None:
        try:
            self.figure(tag, *png_of(logged.figure), step)  # here, because Matplotlib is not made for threads
        except Exception as error:
            self._say(error)
        if logged.close:
            from matplotlib import pyplot  # noqa: PLC0415

            pyplot.close(logged.figure)

    def figure(self, tag: str, png: bytes, size: tuple[int, int], step: int) -> None:
        del size
        self._put(_Call(step, lambda tracker: tracker.image(tag, png, step)))

    def video(self, tag: str, gif: bytes, size: tuple[int, int], step: int) -> None:
        del size
        self._put(_Call(step, lambda tracker: tracker.video(tag, gif, step)))

    def summary(self, scores: Mapping[str, float | str], step: int) -> None:
        self._put(_Call(sys.maxsize, lambda tracker: tracker.summary(scores, step)))

    def ended(self, ending: Ending) -> None:
        if self._ending is None:
            self._ending, self._deadline = ending, time.monotonic() + PATIENCE[ending]
            self._queue.put(None)

    def close(self) -> None:
        self.ended("failed")
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        if self._thread.is_alive():
            log.warning("%s: has not taken everything in time; metrics.jsonl has all numbers", self.name)
            self._is_abandoned = True
            return
        if self._dropped:
            log.warning("%s: %s rows or pictures were dropped in all", self.name, f"{self._dropped:,}")
        if self._failed > 1:
            log.warning("%s: failed %s times in all", self.name, f"{self._failed:,}")

    def _put(self, what: Row | _Call, most: int | None = MOST_WAITING) -> None:
        if self._ending is not None or self._is_broken:
            return
        if most is None or self._queue.qsize() < most:
            self._queue.put(what)
            return
        self._dropped += 1
        if self._dropped == 1:
            log.warning("%s: is slower than training, so rows are dropped; %s", self.name, _ELSEWHERE)

    def _run(self) -> None:
        try:
            for module in self._modules:
                import_module(module)
            separate(_DRAWING, own := own_module())
            tracker = self._connect(self._mark.id)
            separate(_DRAWING, own)  # in what was imported meanwhile
            self._remember(replace(self._mark, id=tracker.id, where=tracker.where))
        except BaseException as error:  # some libraries exit
            self._is_broken = True
            self._say(error)
            return
        has: _Place = (self._mark.step, self._mark.rows)
        if tracker.newest is not None:
            has = (tracker.newest, sys.maxsize)
        is_open = True
        while is_open:
            waiting = [self._queue.get()]
            while not self._queue.empty():
                waiting.append(self._queue.get())
            if None in waiting:
                is_open = False
                waiting = waiting[: waiting.index(None)]
            lacking = [each for each in waiting if each is not None and (each.step, each.index) > has]
            for is_row, group in groupby(lacking, lambda each: isinstance(each, Row)):
                self._send(tracker, is_row, list(group))
        self._attempt(lambda: tracker.close(self._ending or "failed"))

    def _send(self, tracker: Tracker, are_rows: bool, group: list[Any]) -> None:
        if not are_rows:
            for call in group:
                self._attempt(partial(call.send, tracker))
            return
        self._attempt(lambda: tracker.rows(group))
        # Also after a failure: it may have taken some of them.
        newest = max(group, key=lambda row: (row.step, row.index))
        if (newest.step, newest.index) > (self._mark.step, self._mark.rows):
            self._attempt(lambda: self._remember(replace(self._mark, step=newest.step, rows=newest.index)))

    def _attempt(self, call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            self._say(error)

    def _remember(self, mark: Mark) -> None:
        mark.write(self._path)
        self._mark = mark

    def _say(self, error: BaseException) -> None:
        self._failed += 1
        if self._failed == 1 and not self._is_abandoned:
            reason = " ".join(str(error).split())[:300]
            log.warning("%s: %s: %s; %s", self.name, type(error).__name__, reason, _ELSEWHERE)


_ELSEWHERE = "training continues, and metrics.jsonl has all numbers"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number | np.bool_) or (
        isinstance(value, np.ndarray | torch.Tensor) and value.ndim == 0
    )

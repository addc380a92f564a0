"""Signals that ask a run to stop: it writes a checkpoint at its next boundary and ends with a status of its own."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

STOPPED_STATUS = 75  # EX_TEMPFAIL of sysexits.h: not done, to be gone on with
# Windows has no SIGUSR1.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class TrainingStopped(SystemExit):
    """A run was asked to stop and can be gone on with; a script that lets it pass ends with status 75."""

    def __init__(self, message: str) -> None:
        super().__init__(STOPPED_STATUS)
        self.message = message

    def __str__(self) -> str:
        return self.message


class StopRequest:
    """Whether somebody asked for a stop."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._made = math.inf

    def __bool__(self) -> bool:
        return self.reason is not None

    def make(self, reason: str) -> None:
        """Ask for a stop; the first reason stays."""
        if self.reason is None:
            self._made, self.reason = time.monotonic(), reason

    @property
    def age(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._made


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """While the context lasts, SIGINT, SIGTERM or SIGUSR1 asks for a stop; a second one ends the process at once.

    Handlers that were there before come back. Outside of the main thread, where Python allows none, nothing is caught.
    """
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        request.make(signal.Signals(number).name)
        # The next one is the system's, which waits for no Python code to return.
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def held_back() -> Iterator[None]:
    """While the context lasts, the signals wait; in a process that it starts they do until that lets them in."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def stop_on_message(connection: Connection[Any, Any]) -> Iterator[StopRequest]:
    """In a process that another one looks after: anything that comes from there asks for a stop.

    Signals that reach the whole group, as Ctrl-C does, are the parent's to understand. Where the parent dies, this
    process ends at once.
    """
    request = StopRequest()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # see `held_back`

    def listen() -> None:
        try:
            request.make(connection.recv())
            connection.recv()
        except (EOFError, OSError):
            os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    yield request

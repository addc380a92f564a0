"""Signals that request a stop: the run writes a checkpoint at its next boundary and exits with its own status."""

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

STOPPED_STATUS = 75  # EX_TEMPFAIL of sysexits.h: not done, try again later
# Windows has no SIGUSR1.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class TrainingStopped(SystemExit):
    """A run was stopped on request and can be resumed; a script that does not catch this exits with status 75."""

    def __init__(self, message: str) -> None:
        super().__init__(STOPPED_STATUS)
        self.message = message

    def __str__(self) -> str:
        return self.message


class StopRequest:
    """Whether a stop was requested."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._made = math.inf

    def __bool__(self) -> bool:
        return self.reason is not None

    def make(self, reason: str) -> None:
        """Request a stop; the first reason is kept."""
        if self.reason is None:
            self._made, self.reason = time.monotonic(), reason

    @property
    def age(self) -> float:
        """Seconds since the request."""
        return time.monotonic() - self._made


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within the context, SIGINT, SIGTERM or SIGUSR1 requests a stop; a second signal ends the process at once.

    Previous handlers are restored. Outside the main thread, where Python allows no handlers, nothing is caught.
    """
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        request.make(signal.Signals(number).name)
        # The next signal gets the system's handler, which does not wait for Python code to return.
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
    """Block the signals within the context; a process started in it blocks them until it unblocks them."""
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
    """In a child process: any message from the parent requests a stop.

    Signals that reach the whole process group, such as Ctrl-C, are handled by the parent. If the parent dies, this
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

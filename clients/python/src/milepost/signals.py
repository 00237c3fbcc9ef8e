"""Signals that stop the work of the main thread, but not in the middle of what must be whole."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable

from .errors import Failed

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType


class _Uninterrupted:
    """What the main thread does in this context is whole before `interrupt` raises there."""

    def __init__(self) -> None:
        self._depth = 0
        self._waiting: Exception | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._depth += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._depth -= 1
        if self._depth == 0 and self._waiting is not None and error is None:
            waiting, self._waiting = self._waiting, None
            raise waiting

    def interrupt(self, error: Exception) -> None:
        """Raises it: now, or at the end of the context. Called by a signal handler, which runs in the main thread."""
        if self._depth:
            self._waiting = error
        else:
            raise error


uninterrupted = _Uninterrupted()


class Signals:
    """What asks the process to stop, for as long as it is entered. The second time the process ends at once."""

    def __init__(self) -> None:
        self.is_stopping = False
        self._raising: Callable[[], Exception] | None = None
        self._before: list[tuple[signal.Signals, Any]] = []

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._before = [(number, signal.signal(number, self._stop)) for number in STOP_SIGNALS]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)

    @contextmanager
    def raising(self, error: Callable[[], Exception]) -> Iterator[None]:
        """A signal raises this in the block."""
        if self.is_stopping:
            raise error()
        self._raising = error
        try:
            yield
        finally:
            self._raising = None

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self.is_stopping:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.is_stopping = True
        if self._raising is not None:
            error, self._raising = self._raising, None
            uninterrupted.interrupt(error())


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and SIGINT raise `Failed("interrupted", ...)` in the main thread, at the end of a report that is under way.

    Around the work of a `track` block it fails the job, where SIGTERM would end the process without a word. A second signal ends
    the process at once.
    """
    with Signals() as signals, signals.raising(lambda: Failed("interrupted", "The worker was stopped by a signal")):
        yield

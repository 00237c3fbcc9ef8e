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

    from .tracking import TrackedJob


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
        if self._depth == 0 and self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            raise waiting from error

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
        self._on_stop: Callable[[], None] | None = None
        self._before: list[tuple[signal.Signals, Any]] = []

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._before = [(number, signal.signal(number, self._stop)) for number in STOP_SIGNALS]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)

    @contextmanager
    def raising(self, error: Callable[[], Exception], job: TrackedJob | None = None) -> Iterator[None]:
        """A signal raises this in the block; and in every later report of the job, where the block goes on all the same."""

        def stop() -> None:
            raised = error()
            if job is not None:
                job.stop(raised)
            uninterrupted.interrupt(raised)

        with self.doing(stop):
            yield

    @contextmanager
    def doing(self, stop: Callable[[], None]) -> Iterator[None]:
        """A signal calls this, in the main thread, while the block is entered."""
        self._on_stop = stop
        try:
            if self.is_stopping and self._on_stop is stop:
                stop()
            yield
        finally:
            self._on_stop = None

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self.is_stopping:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.is_stopping = True
        if self._on_stop is not None:
            stop, self._on_stop = self._on_stop, None
            stop()


@contextmanager
def interruptible(job: TrackedJob | None = None) -> Iterator[None]:
    """SIGTERM and SIGINT raise `Failed("interrupted", ...)` in the main thread, at the end of a report that is under way.

    Around the work of a `track` block it fails the job, where SIGTERM would end the process without a word. With the job, each
    later report raises it, too, should the work go on all the same. A second signal ends the process at once.
    """
    with Signals() as signals, signals.raising(lambda: Failed("interrupted", "The worker was stopped by a signal"), job):
        yield

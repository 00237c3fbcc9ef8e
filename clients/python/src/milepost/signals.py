"""Signals that stop the work of the main thread, but not in the middle of what must be whole."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


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

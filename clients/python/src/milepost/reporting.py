"""Reports from what programs have already: `logging`, tqdm, callbacks."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable

from .errors import Undelivered

BAR_SECONDS = 0.05  # a bar that moves faster reports that often

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .tracking import TrackedJob


class JobLogHandler(logging.Handler):
    """Sends what is logged to the log of a job.

    It never raises into the program that logs: that the job is to be cancelled, or is another worker's, is told by the next
    report or `check`. What comes from this package and from its HTTP client is left out, or each report would bring another.
    """

    def __init__(self, job: TrackedJob, level: int = logging.NOTSET, *, is_of_this_thread: bool = False) -> None:
        """With `is_of_this_thread` what other threads log is left out: where a process works on several jobs at once."""
        super().__init__(level)
        self._job = job
        self._thread = threading.get_ident() if is_of_this_thread else None

    def filter(self, record: logging.LogRecord) -> Any:
        """Before the handler is locked: whoever sends must never wait for whoever waits for it."""
        if record.name.partition(".")[0] in ("milepost", "httpx", "httpcore") or record.threadName == "milepost-sender":
            return False
        if self._thread is not None and record.thread != self._thread:
            return False
        return super().filter(record)

    def emit(self, record: logging.LogRecord) -> None:
        """Appends the lines of a record."""
        try:
            self._job.store.write(self._job.id, {"log": self.format(record)}, attempt=self._job.attempt, is_checked=False)
        except (Undelivered, TypeError, ValueError):
            # As every handler does. What stops the work passes.
            self.handleError(record)

    @contextmanager
    def attached(self, logger: logging.Logger | None = None) -> Iterator[JobLogHandler]:
        """Adds itself to a logger, the root's if none is given, for a `with` block."""
        logger = logger or logging.getLogger()
        logger.addHandler(self)
        try:
            yield self
        finally:
            logger.removeHandler(self)


def progress_callback(job: TrackedJob, from_pct: float = 0.0, to_pct: float = 100.0) -> Callable[[float, float], None]:
    """A function of `(done, total)`, as many libraries take one, that moves the progress between two marks."""

    def report(done: float, total: float) -> None:
        fraction = min(max(done / total, 0.0), 1.0) if total > 0 else 0.0
        job.progress(from_pct + (to_pct - from_pct) * fraction)

    return report


def job_tqdm(job: TrackedJob, from_pct: float = 0.0, to_pct: float = 100.0) -> type[Any]:
    """A class to use in the place of `tqdm.tqdm`: a bar that also moves the progress of a job between two marks.

    A request to cancel ends the loop with `Cancelled`.
    """
    from tqdm import tqdm  # noqa: PLC0415 - it need not be there

    report = progress_callback(job, from_pct, to_pct)

    class JobTqdm(tqdm):  # type: ignore[misc,type-arg,unused-ignore]
        """A bar of tqdm whose job hears of it, also where the bar is not shown."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._done = float(kwargs.get("initial", 0))
            self._told_at = 0.0

        def update(self, n: float | None = 1) -> Any:
            """Moves the bar, and the job."""
            shown = super().update(n)
            self._move(n or 0)
            return shown

        def __iter__(self) -> Iterator[Any]:
            # Where it is iterated over, tqdm counts for itself.
            for item in super().__iter__():
                yield item
                self._move(1)

        def _move(self, n: float) -> None:
            self._done += n
            # A disabled bar has no total of its own.
            total = getattr(self, "total", None)
            now = time.monotonic()
            if total and (now - self._told_at > BAR_SECONDS or self._done >= total):
                self._told_at = now
                report(self._done, total)

    return JobTqdm

"""Reports from what programs have already: `logging`, tqdm, callbacks."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .tracking import TrackedJob


class JobLogHandler(logging.Handler):
    """Sends what is logged to the log of a job.

    It never raises into the program that logs: that the job is to be cancelled, or is another worker's, is told by the next
    report or `check`. What comes from this package and from its HTTP client is left out, or each report would bring another.
    """

    def __init__(self, job: TrackedJob, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._job = job

    def emit(self, record: logging.LogRecord) -> None:
        """Appends the lines of a record."""
        if record.name.partition(".")[0] in ("milepost", "httpx", "httpcore"):
            return
        try:
            self._job.store.write(self._job.id, {"log": self.format(record)}, attempt=self._job.attempt)
        except Exception:  # noqa: BLE001, RUF100 - as every handler does
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
        """A bar of tqdm whose job hears of it."""

        def update(self, n: float | None = 1) -> Any:
            """Moves the bar, and the job."""
            shown = super().update(n)
            self._tell()
            return shown

        def __iter__(self) -> Iterator[Any]:
            # tqdm counts for itself when it is iterated over.
            begun = self.n
            for nth, item in enumerate(super().__iter__(), 1):
                yield item
                self._tell(begun + nth)

        def _tell(self, done: float | None = None) -> None:
            if self.total:
                report(self.n if done is None else done, self.total)

    return JobTqdm

"""`TrackedJob`: a job that this process works on, which ends the way the work ends."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from .errors import Cancelled, Failed, Fenced, GivenBack, MilepostError, Refused, refusal
from .members import DONE, Lines, lines_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from .documents import Job
    from .store import JobStore

MESSAGE_CHARS_MAX = 4000  # of an error; the service takes 16 KiB
CANCELLED = {"status": "cancelled", "log": "Cancelled, as requested"}
GIVEN_BACK = {"status": "queued", "log": "The worker has to stop and gives the job back"}

log = logging.getLogger("milepost")


class TrackedJob:
    """What the work reports to. For any number of threads.

    In a `with` block the job completes with `result` when the block ends, fails with the log line `❌ <error>` when it raises,
    is cancelled when it raises `Cancelled`, and goes back to the queue when it raises `GivenBack`. Exceptions are passed on.

    When somebody asks for the job to be cancelled, the next report raises `Cancelled`, once; `check` always does. When the job
    is not this worker's any more, because its lease has run out or somebody else has ended it, both raise `Fenced`.
    """

    #: How long a report waits where too much waits already; `None`: as long as the store is patient.
    _room_seconds: float | None = None

    def __init__(self, store: JobStore, job: Job, lease_seconds: int | None = None) -> None:
        """`job` is what `create` or `claim` has answered. With `lease_seconds` its lease is renewed until it ends."""
        self.store = store
        self.job = job
        #: What the job completes with.
        self.result: Any = None
        self._lock = threading.Lock()
        self._has_ended = False
        self._is_asked = job["cancel_requested"]
        self._was_told = False
        self._fence: MilepostError | None = None
        self._stop: Exception | None = None
        self._is_kept = lease_seconds is not None
        if lease_seconds is not None:
            store.pulse().keep(self.id, self.attempt, lease_seconds, self._learn)

    @property
    def id(self) -> str:
        """Its id."""
        return self.job["id"]

    @property
    def attempt(self) -> int:
        """Which attempt at it this is, from 1."""
        return self.job["attempt"]

    @property
    def input(self) -> Any:
        """What the work needs, as it was given when the job was made."""
        return self.job.get("input")

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels, as they were when the work began."""
        return self.job["labels"]

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody has asked for it to be cancelled, as far as is known."""
        known = self.store.known(self.id)
        return self._is_asked or bool(known and known.attempt == self.attempt and known.cancel_requested)

    def stop(self, error: Exception) -> None:
        """Makes every report and `check` raise this from now on."""
        self._stop = error

    # Reports.

    def update(self, **patch: Any) -> None:
        """Changes members of the job in one step, as `JobStore.update` does."""
        self._report(patch)

    def log(self, lines: Lines, pct: float | None = None) -> None:
        """Appends a line, or several, and sets the progress if it is given."""
        self._report({"log": lines} if pct is None else {"log": lines, "progress_pct": pct})

    def stage(self, name: str, pct: float | None = None) -> None:
        """Says which step the work is in."""
        self._report({"stage": name} if pct is None else {"stage": name, "progress_pct": pct})

    def progress(self, done: float, total: float = 100.0) -> None:
        """Says how far the work is: in percent, or `done` of `total`. It may be called as often as one likes."""
        pct = 100.0 * done / total if total > 0 else 0.0
        self._report({"progress_pct": round(min(max(pct, 0.0), 100.0), 2)})

    def check(self) -> None:
        """Raises `Cancelled` or `Fenced` when there is no use in going on."""
        self._check()
        self._check_cancel()

    # Ends.

    def complete(self, result: Any = None) -> Any:
        """Ends the job well: readers see `completed` and the result in the same moment.

        Without a result, here or in `result`, the one that was reported last stays.
        """
        self._complete(self.result if result is None else result)

    def fail(self, message: str, reason: str = "error", log: Lines = ()) -> Any:
        """Ends the job badly. `reason` is a word for programs; the last line says why."""
        self._fail(message, reason, log)

    def cancel(self) -> Any:
        """Ends the job as somebody asked for."""
        self._end(CANCELLED)

    def give_back(self) -> Any:
        """Lets another worker have the job."""
        self._end(GIVEN_BACK)

    def _complete(self, result: Any) -> None:
        self._end({"status": "completed"} if result is None else {"status": "completed", "result": result})

    def _fail(self, message: str, reason: str, log: Lines = ()) -> None:
        message = message[:MESSAGE_CHARS_MAX]
        error = {"reason": reason, "message": message}
        self._end({"status": "failed", "error": error, "log": [*lines_of(log), f"❌ {message}"]})

    def _end(self, patch: Mapping[str, Any]) -> None:
        with self._lock:
            if self._has_ended:
                raise MilepostError(f"job {self.id} has been ended here already")
            self._has_ended = True
        is_over = True
        try:
            self.store.write(self.id, patch, attempt=self.attempt, wait=True, is_checked=False)
        except Fenced as error:
            self._fence = error
            raise
        except (Refused, TypeError, ValueError):
            # It may end otherwise.
            is_over = self._has_ended = False
            raise
        finally:
            if is_over:
                self._let_go()
        self.store.check(self.id)

    def _let_go(self) -> None:
        if self._is_kept:
            self.store.pulse().drop(self.id, self.attempt)

    def __enter__(self) -> TrackedJob:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._has_ended:
            return
        if error is None:
            self._complete_or_fail()
            return
        try:
            self._end_with(error)
        except MilepostError as unsaid:
            # What the work has raised says more.
            log.error("job %s has ended with %r; and: %s", self.id, error, unsaid)

    def _complete_or_fail(self) -> None:
        try:
            self._complete(self.result)
        except (Refused, TypeError, ValueError) as error:
            if not self._has_ended:
                self._fail(f"The result cannot be stored: {error}", "bad_result")
            raise

    def _end_with(self, error: BaseException) -> None:
        if isinstance(error, Cancelled):
            self._end(CANCELLED)
        elif isinstance(error, GivenBack):
            self._end(GIVEN_BACK)
        elif isinstance(error, Fenced) and error is self._fence:
            self._has_ended = True
            self._let_go()
        elif isinstance(error, Failed):
            self._fail(error.message, error.reason)
        elif isinstance(error, Exception):
            self._fail(str(error) or type(error).__name__, type(error).__name__)
        else:
            self._fail(f"The worker was stopped by {type(error).__name__}", "interrupted")

    # What comes back.

    def _report(self, patch: Mapping[str, Any]) -> None:
        self._check()
        try:
            self.store.write(self.id, patch, attempt=self.attempt, wait=False, room_seconds=self._room_seconds)
        except Fenced as error:
            self._fence = error
            raise
        if not self._was_told:
            self._check_cancel()

    def _check_cancel(self) -> None:
        if self.cancel_requested and not self._has_ended:
            self._was_told = True
            raise Cancelled(f"job {self.id} is to be cancelled")

    def _check(self) -> None:
        if self._has_ended:
            return
        if self._stop is not None:
            raise self._stop
        known = self.store.known(self.id)
        # What is known may be of an earlier attempt of this very process. A done job takes late lines, so a good answer alone
        # proves nothing.
        if known is not None and self._fence is None:
            if known.attempt > self.attempt:
                detail = f"attempt {self.attempt} is over, there is another one"
                self._fence = refusal(409, {"code": "stale_attempt", "detail": detail})
            elif known.attempt == self.attempt and known.status in DONE:
                self._fence = refusal(409, {"code": "already_finished", "detail": f"the job is {known.status}"})
        if self._fence is not None:
            raise self._fence

    def _learn(self, told: Mapping[str, Any]) -> None:
        """What a heartbeat was answered."""
        if told.get("cancel_requested"):
            self._is_asked = True
        elif "problem" in told:
            problem = told["problem"]
            self._fence = self._fence or Fenced(told["status"], problem)

"""What can go wrong, as exceptions. All of them are `MilepostError`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Codes with which the service says that a job is not this worker's any more.
FENCED_CODES = frozenset({"stale_attempt", "attempt_required", "already_finished", "job_deleted"})


class MilepostError(Exception):
    """Anything that this package raises on its own account."""


class Unavailable(MilepostError):
    """The service gave no answer that counts for `patience_seconds`, however often it was asked."""


class Refused(MilepostError):
    """The service refused a request for good. `problem` is its document by RFC 9457."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        """`status` is that of the HTTP answer; `problem` may be empty, as what a proxy answers is."""
        self.status = status
        self.problem = dict(problem)
        #: A word for programs, such as `already_finished`.
        self.code = str(problem.get("code", ""))
        #: A sentence for people.
        self.detail = str(problem.get("detail", ""))
        #: The request was sent before, and what it is about may be its own doing.
        self.is_repeat = False
        super().__init__(f"{status} {self.code}: {self.detail}".rstrip(": "))


class JobNotFound(Refused):
    """There is no job of this id."""


class Fenced(Refused):
    """The job is not this writer's any more: it is done, deleted, or has another attempt. Nothing was written."""


class Undelivered(MilepostError):
    """A change was not delivered, or not yet.

    After `flush` and after a wait the changes are still there, and are tried again until the store is closed. `close` raises it
    for what is given up.
    """

    def __init__(self, message: str, job_ids: tuple[str, ...] = ()) -> None:
        """`job_ids` are the jobs whose changes are meant."""
        super().__init__(message)
        self.job_ids = job_ids


def still_tried(seconds: float, job_id: str | None) -> Undelivered:
    """The exception for a wait that has run out."""
    return Undelivered(f"not delivered within {seconds:g} s; it is still tried", (job_id,) if job_id else ())


class Cancelled(MilepostError):
    """Somebody has asked for the job to be cancelled: stop working. `track` ends the job accordingly."""


class GivenBack(MilepostError):
    """The worker has to stop; raised in its work so that the job goes back to the queue."""


class Failed(MilepostError):
    """Raise it in the work to fail the job with a reason of your own.

    `reason` is a word for programs (`bad_input`), `message` a sentence for people.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def refusal(status: int, problem: object) -> Refused:
    """The exception for an answer that is an error."""
    known = problem if isinstance(problem, dict) else {}
    code = known.get("code")
    if code == "job_not_found":
        return JobNotFound(status, known)
    return (Fenced if code in FENCED_CODES else Refused)(status, known)

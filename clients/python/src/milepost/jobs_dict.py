"""`JobsDict`: the service in the shape of the dict it replaces, for code that is not to be changed.

    jobs = JobsDict("http://127.0.0.1:8080", kind="restyle")      # was: jobs = {}
    jobs[job_id] = {"status": "queued", "logs": []}
    jobs[job_id]["logs"].append("frame 1")
    jobs[job_id]["status"] = "completed"
    jobs[job_id]["result"] = {"url": url}

What is read is what the service has at that moment, so others see what one sees here. Where a dict and a job differ:

- Code that writes `completed` and then the result is common, and a done job does not change any more. So what ends a job is held
  back for `settle_seconds`, and what is written meanwhile becomes visible with it. This process sees it at once.
- Lines of a log stay: they can be appended and read, and nothing else.
- A done job that is set to `queued` or `processing` again is retried.
- Members that a job has not are kept with it: those it is made with in its input, later ones in its labels, of which there are at
  most sixteen, with at most 256 bytes of JSON each.
- The id of a deleted job is free again after a day.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

from .errors import MilepostError
from .job_entry import EMPTY, INPUT, NATIVE, JobEntry
from .members import DONE, STATUSES, Members, error_of
from .store import JobStore

SEEN_SECONDS = 5.0  # a job that was seen so lately is taken to be there
SEEN_MAX = 10_000
LOCKS = 64  # jobs that share one wait for each other's ends

log = logging.getLogger("milepost")


class JobsDict(MutableMapping[str, JobEntry]):
    """See the module. For any number of threads."""

    def __init__(
        self,
        store: JobStore | str | None = None,
        *,
        kind: str | None = None,
        statuses: Mapping[str, str] | None = None,
        settle_seconds: float = 0.5,
    ) -> None:
        """`store` may be an address. Jobs are made of this kind, `job` if none is given here or in the store, and jobs of others
        are not seen.

        `statuses` are the words of the program for those of the service, as in `{"failed": "error"}`.
        """
        self.store = store if isinstance(store, JobStore) else JobStore(store)
        self.kind = kind or self.store.kind or "job"
        self._words = dict(statuses or {})
        self._canonical = {**STATUSES, **{word: status for status, word in self._words.items()}}
        self._settle_seconds = settle_seconds
        # Never held while the service is asked for something.
        self._lock = threading.Lock()
        self._unsettled: dict[str, _Unsettled] = {}
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        # What ends a job, and what follows, goes in this order.
        self._order = [threading.RLock() for _ in range(LOCKS)]

    def __getitem__(self, job_id: str) -> JobEntry:
        seen = self._seen.get(job_id)
        if (seen is None or seen.until < time.monotonic()) and job_id not in self:
            raise KeyError(job_id)
        return JobEntry(self, job_id)

    def __setitem__(self, job_id: str, members: Mapping[str, Any]) -> None:
        if isinstance(members, JobEntry) and members.id == job_id and members.jobs is self:
            return
        members = dict(members)
        if job_id in self:
            self._replace(JobEntry(self, job_id), members)
            return
        lines = [str(line) for line in members.get("logs") or ()]
        extras = {name: value for name, value in members.items() if name not in NATIVE and name != "logs"}
        status = self.status_of(members.get("status", "queued"))
        made_as = status if status in ("queued", "processing") else "processing"
        made = {"members": list(members), "extras": extras}
        self.store.create(self.kind, id=job_id, input={INPUT: made}, status=made_as, log=lines or None)
        self._see(job_id, made)
        rest = {name: value for name, value in members.items() if name in NATIVE and EMPTY.get(name) != value}
        if made_as == status:
            rest.pop("status", None)
        if rest:
            self.write(job_id, rest)

    def __delitem__(self, job_id: str) -> None:
        if job_id not in self:
            raise KeyError(job_id)
        with self._lock:
            self._seen.pop(job_id, None)
            if unsettled := self._unsettled.pop(job_id, None):
                unsettled.cancel()
        self.store.delete(job_id)

    def __contains__(self, job_id: object) -> bool:
        if not isinstance(job_id, str) or not job_id:
            return False
        try:
            self.read(job_id, 0)
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter([job["id"] for job in self.store.list(kind=self.kind, order="oldest")])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"JobsDict({self.store.url!r}, kind={self.kind!r})"

    def pop(self, job_id: str, *default: Any) -> Any:
        """Removes a job, and returns what it was as a plain dict."""
        try:
            members = self[job_id].copy()
        except KeyError:
            if default:
                return default[0]
            raise
        del self[job_id]
        return members

    def popitem(self) -> Any:
        """Removes the job that was made last, and returns its id and what it was."""
        for job in self.store.list(kind=self.kind):
            return job["id"], self.pop(job["id"])
        raise KeyError("there is no job")

    def clear(self) -> None:
        """Removes all jobs of the kind."""
        for job_id in list(self):
            del self[job_id]

    def flush(self) -> None:
        """Returns once all that was written is durable, what was held back, too."""
        self.settle_all()
        self.store.flush()

    def close(self) -> None:
        """Sends what waits and lets go of the service."""
        try:
            self.settle_all()
        finally:
            self.store.close()

    def __enter__(self) -> JobsDict:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # For the entries.

    def status_of(self, word: Any) -> Any:
        """The service's word for one of the program."""
        return self._canonical.get(word, word)

    def word_for(self, status: str) -> str:
        """The program's word for a status."""
        return self._words.get(status, status)

    def read(self, job_id: str, logs: int | str) -> dict[str, Any]:
        """The job as this process sees it: with what is held back. Raises `KeyError`."""
        with self._lock:
            unsettled = self._unsettled.get(job_id)
            held = dict(unsettled.patch) if unsettled else {}
            seen = self._seen.get(job_id)
        if held.get("status") == "completed":
            # As it will be.
            held["progress_pct"] = 100
        job = self.store.read(job_id, logs=logs, input=seen is None)
        if job is None or job["kind"] != self.kind:
            with self._lock:
                self._seen.pop(job_id, None)
            raise KeyError(job_id)
        self._see(job_id, seen.made if seen else _made(job.get("input")))
        return {**job, **held}

    def made(self, job_id: str) -> Mapping[str, Any]:
        """What a job was made with, which stays. Raises `KeyError`."""
        seen = self._seen.get(job_id)
        if seen is None:
            self.read(job_id, 0)
            seen = self._seen[job_id]
        return seen.made

    def write(self, job_id: str, patch: Mapping[str, Any]) -> None:
        """Writes members of a job."""
        patch = dict(patch)
        if "status" in patch:
            patch["status"] = self.status_of(patch["status"])
        if "error" in patch:
            patch["error"] = error_of(patch["error"])
        is_end = patch.get("status") in DONE
        with self._order_of(job_id):
            with self._lock:
                unsettled = self._unsettled.get(job_id)
                if is_end or (unsettled is not None and "status" not in patch):
                    # What has no JSON is raised here, and not when it is sent.
                    Members(patch)
                    if unsettled is None:
                        self._hold(job_id, patch)
                    else:
                        unsettled.patch.update(patch)
                    return
            self.settle(job_id)
            self._send(job_id, patch, is_checked=True)

    def settle(self, job_id: str) -> None:
        """Sends what is held back of a job."""
        with self._order_of(job_id):
            unsettled = self._unsettled.get(job_id)
            if unsettled is None:
                return
            unsettled.cancel()
            # Seen here until it is on its way, and by then it is read from the service.
            try:
                self._send(job_id, dict(unsettled.patch), is_checked=False)
            except MilepostError:
                with self._lock:
                    if self.store.is_closed:
                        self._let_go(job_id)
                    else:
                        # Nothing of it was taken: it is tried again.
                        self._hold(job_id, unsettled.patch)
                raise
            with self._lock:
                self._let_go(job_id)

    def settle_all(self) -> None:
        """Sends what is held back."""
        for job_id in list(self._unsettled):
            self.settle(job_id)

    def _hold(self, job_id: str, patch: dict[str, Any]) -> None:
        unsettled = self._unsettled[job_id] = _Unsettled(self, job_id, self._settle_seconds)
        unsettled.patch.update(patch)
        _unsettled_dicts[id(self)] = self

    def _let_go(self, job_id: str) -> None:
        self._unsettled.pop(job_id, None)
        if not self._unsettled:
            _unsettled_dicts.pop(id(self), None)

    def _send(self, job_id: str, patch: dict[str, Any], *, is_checked: bool) -> None:
        status = patch.get("status")
        if status in ("queued", "processing"):
            job = self.store.read(job_id, logs=0)
            if job is not None and job["done"]:
                self.store.retry(job_id, job["attempt"])
                if status == "queued":
                    del patch["status"]
            elif job is not None and job["status"] == status:
                del patch["status"]
        if patch:
            # Nobody waits: what is refused is raised by the next call.
            self.store.write(job_id, patch, wait=False, is_checked=is_checked)

    def _see(self, job_id: str, made: Mapping[str, Any]) -> None:
        with self._lock:
            self._seen[job_id] = _Seen(time.monotonic() + SEEN_SECONDS, made)
            self._seen.move_to_end(job_id)
            if len(self._seen) > SEEN_MAX:
                self._seen.popitem(last=False)

    def _order_of(self, job_id: str) -> threading.RLock:  # type: ignore[valid-type,unused-ignore]
        return self._order[hash(job_id) % LOCKS]

    def _replace(self, entry: JobEntry, members: dict[str, Any]) -> None:
        """Another dict takes the place of the one before, under the same id."""
        logs = members.pop("logs", None)
        status = self.status_of(members.pop("status", "queued"))
        # First of all: a done job takes nothing else.
        if status not in DONE:
            self.write(entry.id, {"status": status})
        self.write(entry.id, {name: value for name, value in EMPTY.items() if name != "progress_pct"})
        entry.update(members)
        if status in DONE:
            self.write(entry.id, {"status": status})
        if logs:
            entry["logs"] = logs


class _Seen(NamedTuple):
    """A job that is there, most likely, until then."""

    until: float
    made: Mapping[str, Any]


class _Unsettled:
    """What ends a job and is held back for a moment."""

    def __init__(self, jobs: JobsDict, job_id: str, seconds: float) -> None:
        self.patch: dict[str, Any] = {}
        self._jobs = jobs
        self._job_id = job_id
        self._timer = threading.Timer(seconds, self._settle)
        self._timer.daemon = True
        # In a process that is about to end no thread can begin; then it is sent at the end.
        with contextlib.suppress(RuntimeError):
            self._timer.start()

    def _settle(self) -> None:
        try:
            self._jobs.settle(self._job_id)
        except MilepostError as error:
            log.warning("what ends job %s waits: %s", self._job_id, error)

    def cancel(self) -> None:
        """It is settled otherwise."""
        self._timer.cancel()


def _made(input: Any) -> Mapping[str, Any]:
    made = input.get(INPUT) if isinstance(input, dict) else None
    return made if isinstance(made, dict) else {}


# Until nothing is held back any more.
_unsettled_dicts: dict[int, JobsDict] = {}


@atexit.register
def _settle_all() -> None:
    # Before the stores are closed, which were there first.
    for jobs in list(_unsettled_dicts.values()):
        try:
            jobs.settle_all()
        except MilepostError as error:
            log.error("%s: %s", type(error).__name__, error)

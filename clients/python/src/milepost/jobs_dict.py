"""`JobsDict`: the service in the shape of the dict it replaces, for code that is not to be changed.

    jobs = JobsDict("http://127.0.0.1:8080", kind="restyle")      # was: jobs = {}
    jobs[job_id] = {"status": "queued", "logs": []}
    jobs[job_id]["logs"].append("frame 1")
    jobs[job_id]["status"] = "completed"
    jobs[job_id]["result"] = {"url": url}

Each of these is a request of its own to the service, so others see what one sees here. Where a dict and a job differ:

- Code that writes `completed` and then the result is common, and a done job does not change any more. So what ends a job is held
  back for `settle_seconds`, and what is written meanwhile becomes visible with it. This process sees it at once.
- Lines of a log stay: they can be appended and read, and nothing else.
- A done job that is set to `queued` or `processing` again is retried.
- Members that a job has not are kept with it: those it is made with in its input, later ones in its labels, where a value may
  have at most 256 bytes of JSON.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple, overload

from .errors import MilepostError
from .members import DONE, STATUSES
from .store import JobStore

SEEN_SECONDS = 5.0  # a job that was seen so lately is taken to be there
SEEN_MAX = 10_000
LABEL = "dict."  # what the names of labels begin with that hold members
LABEL_BYTES_MAX = 256
INPUT = "dict"
NATIVE = ("status", "progress_pct", "stage", "result", "error")
EMPTY = {"progress_pct": 0, "stage": None, "result": None, "error": None}


class JobsDict(MutableMapping[str, "JobEntry"]):
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

        `statuses` are the words of the program for those of the service, as in `{"failed": "error"}`; the ones that the service
        understands anyway may be written in any case.
        """
        self.store = store if isinstance(store, JobStore) else JobStore(store)
        self.kind = kind or self.store.kind or "job"
        self._words = dict(statuses or {})
        self._canonical = {**STATUSES, **{word: status for status, word in self._words.items()}}
        self._settle_seconds = settle_seconds
        self._lock = threading.RLock()
        self._unsettled: dict[str, _Unsettled] = {}
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

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
        for name, value in sorted(rest.items(), key=lambda item: item[0] == "status"):
            self.write(job_id, {name: value})

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
        self.settle_all()
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
            unsettled = dict(self._unsettled[job_id].patch) if job_id in self._unsettled else {}
            if unsettled.get("status") == "completed":
                # As it will be.
                unsettled["progress_pct"] = 100
            seen = self._seen.get(job_id)
            job = self.store.read(job_id, logs=logs, input=seen is None)
            if job is None or job["kind"] != self.kind:
                self._seen.pop(job_id, None)
                raise KeyError(job_id)
            self._see(job_id, seen.made if seen else _made(job.get("input")))
            return {**job, **unsettled}

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
        if isinstance(patch.get("error"), str):
            patch["error"] = {"reason": "error", "message": patch["error"]}
        is_end = patch.get("status") in DONE
        with self._lock:
            unsettled = self._unsettled.get(job_id)
            if unsettled is not None and ("status" not in patch or is_end):
                unsettled.patch.update(patch)
            elif is_end:
                unsettled = self._unsettled[job_id] = _Unsettled(self, job_id, self._settle_seconds)
                unsettled.patch.update(patch)
                _unsettled_dicts[id(self)] = self
            else:
                self.settle(job_id)
                self._send(job_id, patch)

    def settle(self, job_id: str) -> None:
        """Sends what is held back of a job."""
        with self._lock:
            if unsettled := self._unsettled.pop(job_id, None):
                unsettled.cancel()
                self._send(job_id, unsettled.patch)
            if not self._unsettled:
                _unsettled_dicts.pop(id(self), None)

    def settle_all(self) -> None:
        """Sends what is held back."""
        with self._lock:
            for job_id in list(self._unsettled):
                self.settle(job_id)

    def _send(self, job_id: str, patch: dict[str, Any]) -> None:
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
            self.store.write(job_id, patch, wait=False)

    def _see(self, job_id: str, made: Mapping[str, Any]) -> None:
        with self._lock:
            self._seen[job_id] = _Seen(time.monotonic() + SEEN_SECONDS, made)
            self._seen.move_to_end(job_id)
            if len(self._seen) > SEEN_MAX:
                self._seen.popitem(last=False)

    def _replace(self, entry: JobEntry, members: dict[str, Any]) -> None:
        """Another dict takes the place of the one before, under the same id."""
        logs = members.pop("logs", None)
        status = self.status_of(members.pop("status", "queued"))
        # First of all: a done job takes nothing else.
        if status not in DONE:
            self.write(entry.id, {"status": status})
        self.write(entry.id, {**{name: value for name, value in EMPTY.items() if name != "progress_pct"}})
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
        self._timer.start()

    def _settle(self) -> None:
        # Of a closed store.
        with contextlib.suppress(MilepostError):
            self._jobs.settle(self._job_id)

    def cancel(self) -> None:
        """It is settled otherwise."""
        self._timer.cancel()


class JobEntry(MutableMapping[str, Any]):
    """A job in the shape of the dict that it was. What is read is what the service has at that moment."""

    def __init__(self, jobs: JobsDict, job_id: str) -> None:
        self.jobs = jobs
        self.id = job_id

    def __getitem__(self, name: str) -> Any:
        if name == "logs":
            return LogLines(self)
        job = self.jobs.read(self.id, 0)
        if name not in self._members(job):
            raise KeyError(name)
        return self._value(name, job, self._extras(job))

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "logs":
            self._set_logs(value)
        elif name in NATIVE:
            self.jobs.write(self.id, {name: value})
        else:
            text = json.dumps(value, ensure_ascii=False)
            if len(text.encode()) > LABEL_BYTES_MAX:
                raise ValueError(
                    f"{name!r} has more than {LABEL_BYTES_MAX} bytes as JSON; put it into result, or into the job at first"
                )
            self.jobs.write(self.id, {"labels": {LABEL + name: text}})

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        if name in ("stage", "result", "error"):
            self.jobs.write(self.id, {name: None})
        elif name in NATIVE or name == "logs":
            raise TypeError(f"a job always has {name!r}")
        elif name in self.jobs.made(self.id).get("extras", {}):
            raise TypeError(f"{name!r} came with the job and stays")
        else:
            self.jobs.write(self.id, {"labels": {LABEL + name: None}})

    def __iter__(self) -> Iterator[str]:
        return iter(self._members(self.jobs.read(self.id, 0)))

    def __len__(self) -> int:
        return len(self._members(self.jobs.read(self.id, 0)))

    def __contains__(self, name: object) -> bool:
        return name in self._members(self.jobs.read(self.id, 0))

    def __repr__(self) -> str:
        return repr(self.copy())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self.copy() == _plain(other)

    __hash__ = None  # type: ignore[assignment]

    def copy(self) -> dict[str, Any]:
        """A plain dict of how it is now, from one moment."""
        job = self.jobs.read(self.id, "all")
        extras = self._extras(job)
        return {name: self._value(name, job, extras) for name in self._members(job)}

    def items(self) -> Any:
        """The members and what they are, from one moment."""
        return self.copy().items()

    def values(self) -> Any:
        """What the members are, from one moment."""
        return self.copy().values()

    def update(self, *others: Any, **members: Any) -> None:
        """Sets several members; those of a job in one step."""
        patch = dict(*others, **members)
        logs = patch.pop("logs", None)
        native = {name: patch.pop(name) for name in NATIVE if name in patch}
        for name, value in patch.items():
            self[name] = value
        if logs is not None:
            self._set_logs(logs)
        if native:
            self.jobs.write(self.id, native)

    def _value(self, name: str, job: Mapping[str, Any], extras: Mapping[str, Any]) -> Any:
        if name == "logs":
            return [_unpictured(line) for line in job["logs"]]
        return self._native(name, job) if name in NATIVE else extras[name]

    def _native(self, name: str, job: Mapping[str, Any]) -> Any:
        value = job[name]
        if name == "status":
            return self.jobs.word_for(value)
        if name == "error" and isinstance(value, dict) and value.keys() == {"reason", "message"}:
            return value["message"] if value["reason"] == "error" else value
        return value

    def _members(self, job: Mapping[str, Any]) -> list[str]:
        """The names of its members: those it was made with, and those that it has come to have."""
        made = list(self.jobs.made(self.id).get("members", ("status", "logs")))
        came = [name for name in NATIVE if name not in made and job[name] != EMPTY.get(name)]
        return [*made, *came, *(name for name in self._extras(job) if name not in made)]

    def _extras(self, job: Mapping[str, Any]) -> dict[str, Any]:
        labels: Mapping[str, str] = job["labels"]
        later = {name[len(LABEL) :]: json.loads(text) for name, text in labels.items() if name.startswith(LABEL)}
        return {**self.jobs.made(self.id).get("extras", {}), **later}

    def _set_logs(self, lines: Iterable[Any]) -> None:
        if isinstance(lines, LogLines) and lines.entry.id == self.id:
            return
        there = list(self["logs"])
        wanted = [str(line) for line in lines]
        if wanted[: len(there)] != there:
            raise TypeError("lines of a log stay: only more of them can be set")
        self["logs"].extend(wanted[len(there) :])


class LogLines(Sequence[str]):
    """The log of a job in the shape of a list: it can be read and appended to."""

    def __init__(self, entry: JobEntry) -> None:
        self.entry = entry

    def append(self, line: str) -> None:
        """Appends one element."""
        self.extend([line])

    def extend(self, lines: Iterable[str]) -> None:
        """Appends several."""
        self.entry.jobs.store.write(self.entry.id, {"log": [_pictured(str(line)) for line in lines]})

    def __iadd__(self, lines: Iterable[str]) -> LogLines:
        self.extend(lines)
        return self

    def __add__(self, lines: Iterable[str]) -> list[str]:
        return [*self, *lines]

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> list[str]: ...

    def __getitem__(self, at: int | slice) -> str | list[str]:
        return self._all()[at]

    def __len__(self) -> int:
        count: int = self.entry.jobs.read(self.entry.id, 0)["log_count"]
        return count

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (list, LogLines)) and self._all() == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._all())

    def _all(self) -> list[str]:
        """All lines; empty ones in the place of those that were trimmed."""
        job = self.entry.jobs.read(self.entry.id, "all")
        lines = [_unpictured(line) for line in job["logs"]]
        missing = job["logs_from"] - 1 if lines else job["log_count"]
        if missing:
            kept = {line["seq"]: _unpictured(line["line"]) for line in self.entry.jobs.store.logs(self.entry.id)}
            return [kept.get(seq, "") for seq in range(1, max(kept, default=0) + 1)]
        return lines


def _pictured(line: str) -> str:
    """An element is one line: its breaks as the service shows them."""
    return line.replace("\n", "␊").replace("\r", "␍")


def _unpictured(line: str) -> str:
    return line.replace("␊", "\n").replace("␍", "\r")


def _made(input: Any) -> Mapping[str, Any]:
    made = input.get(INPUT) if isinstance(input, dict) else None
    return made if isinstance(made, dict) else {}


def _plain(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return mapping.copy() if isinstance(mapping, JobEntry) else dict(mapping)


_unsettled_dicts: dict[int, JobsDict] = {}


@atexit.register
def _settle_all() -> None:
    # Before the stores are closed, which were there first.
    for jobs in list(_unsettled_dicts.values()):
        with contextlib.suppress(MilepostError):
            jobs.settle_all()

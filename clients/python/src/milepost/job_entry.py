"""A job in the shape of the dict that it was. `jobs_dict` says where the two differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from .live import alive

if TYPE_CHECKING:
    from .jobs_dict import JobsDict

LABEL = "dict."  # what the names of labels begin with that hold members
LABEL_BYTES_MAX = 256
LABEL_NAME_CHARS_MAX = 64
LABELS_MAX = 16
INPUT = "dict"
NATIVE = ("status", "progress_pct", "stage", "result", "error")
EMPTY = {"progress_pct": 0, "stage": None, "result": None, "error": None}


class JobEntry(MutableMapping[str, Any]):
    """See the module. What is read is what the service has at that moment."""

    def __init__(self, jobs: JobsDict, job_id: str) -> None:
        self.jobs = jobs
        self.id = job_id

    def __getitem__(self, name: str) -> Any:
        if name == "logs":
            return LogLines(self)
        job = self.jobs.read(self.id, 0)
        if name not in self._members(job):
            raise KeyError(name)
        # What is changed inside of it is written back.
        return alive(self._value(name, job, self._extras(job)), lambda whole: self.__setitem__(name, whole))

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "logs":
            self._set_logs(value)
        elif name in NATIVE:
            self.jobs.write(self.id, {name: value})
        else:
            label, text = _label(name), json.dumps(value, ensure_ascii=False)
            if len(text.encode()) > LABEL_BYTES_MAX:
                raise ValueError(
                    f"{name!r} has more than {LABEL_BYTES_MAX} bytes as JSON; put it into result, or make the job with it"
                )
            labels = self.jobs.read(self.id, 0)["labels"]
            if label not in labels and len(labels) >= LABELS_MAX:
                raise ValueError(f"a job keeps at most {LABELS_MAX} members beside its own; make it with them, or use result")
            self.jobs.write(self.id, {"labels": {label: text}})

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
            self.jobs.write(self.id, {"labels": {_label(name): None}})

    def __iter__(self) -> Iterator[str]:
        return iter(self._members(self.jobs.read(self.id, 0)))

    def __len__(self) -> int:
        return len(self._members(self.jobs.read(self.id, 0)))

    def __contains__(self, name: object) -> bool:
        return name in self._members(self.jobs.read(self.id, 0))

    def __repr__(self) -> str:
        return repr(self.copy())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self.copy() == (other.copy() if isinstance(other, JobEntry) else dict(other))

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

    def lines(self) -> list[str]:
        """The whole log; empty lines in the place of those that were trimmed."""
        return _lines(self.jobs.read(self.id, "all"))

    def append(self, lines: Iterable[Any]) -> None:
        """Appends to the log, each as one line."""
        pictured = [str(line).replace("\n", "␊").replace("\r", "␍") for line in lines]
        self.jobs.store.write(self.id, {"log": pictured})

    def _value(self, name: str, job: Mapping[str, Any], extras: Mapping[str, Any]) -> Any:
        if name == "logs":
            return _lines(job)
        if name == "status":
            return self.jobs.word_for(job[name])
        value = job[name] if name in NATIVE else extras[name]
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
        later = {_name(label): json.loads(text) for label, text in labels.items() if label.startswith(LABEL)}
        return {**self.jobs.made(self.id).get("extras", {}), **later}

    def _set_logs(self, lines: Iterable[Any]) -> None:
        if isinstance(lines, LogLines) and lines.entry.id == self.id:
            return
        there = self.lines()
        wanted = [str(line) for line in lines]
        if wanted[: len(there)] != there:
            raise TypeError("lines of a log stay: only more of them can be set")
        self.append(wanted[len(there) :])


class LogLines(list[str]):
    """The log of a job in the shape of a list: it can be read and appended to.

    It is a list for those who ask whether it is one, and is read when it is looked at: appending reads nothing.
    """

    def __init__(self, entry: JobEntry) -> None:
        super().__init__()
        self.entry = entry

    def append(self, line: Any) -> None:
        """Appends one element."""
        self.entry.append([line])

    def extend(self, lines: Iterable[Any]) -> None:
        """Appends several."""
        self.entry.append(lines)

    def __iadd__(self, lines: Iterable[Any]) -> LogLines:  # type: ignore[override,misc]
        self.extend(lines)
        return self

    def __add__(self, lines: Any) -> Any:
        return self.entry.lines() + list(lines)

    def __radd__(self, lines: Any) -> Any:
        return list(lines) + self.entry.lines()

    def __getitem__(self, at: Any) -> Any:
        return self.entry.lines()[at]

    def __len__(self) -> int:
        count: int = self.entry.jobs.read(self.entry.id, 0)["log_count"]
        return count

    def __bool__(self) -> bool:
        return len(self) > 0

    def __iter__(self) -> Iterator[str]:
        return iter(self.entry.lines())

    def __reversed__(self) -> Iterator[str]:
        return reversed(self.entry.lines())

    def __contains__(self, line: object) -> bool:
        return line in self.entry.lines()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list) and self.entry.lines() == list(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __mul__(self, times: Any) -> Any:
        return self.entry.lines() * times

    __hash__ = None

    def __repr__(self) -> str:
        return repr(self.entry.lines())

    def copy(self) -> list[str]:
        """The lines there are, as a plain list."""
        return self.entry.lines()

    def count(self, line: Any) -> int:
        """How often a line is there."""
        return self.entry.lines().count(line)

    def index(self, line: Any, *where: Any) -> int:
        """Where a line is."""
        return self.entry.lines().index(line, *where)

    def _stays(self, *_: Any, **__: Any) -> Any:
        raise TypeError("lines of a log stay: they can be appended and read")

    __setitem__ = __delitem__ = insert = pop = remove = clear = sort = reverse = __imul__ = _stays


def _lines(job: Mapping[str, Any]) -> list[str]:
    lines = [line.replace("␊", "\n").replace("␍", "\r") for line in job["logs"]]
    return [""] * (job["log_count"] - len(lines)) + lines


def _label(name: str) -> str:
    """A name of a label for the name of a member: with other characters as their numbers."""
    label = LABEL + re.sub(r"[^a-z0-9-]", lambda found: f"_{ord(found[0]):x}_", str(name))
    if len(label) > LABEL_NAME_CHARS_MAX:
        raise ValueError(f"the name {name!r} is too long for a member that a job has not")
    return label


def _name(label: str) -> str:
    return re.sub(r"_([0-9a-f]+)_", lambda found: chr(int(found[1], 16)), label[len(LABEL) :])

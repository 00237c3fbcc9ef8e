"""What a job may be changed to: the members of a PATCH, under their own names.

Knows nothing of how they travel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, Union

from .transport import json_bytes

#: Other names of members, as the service knows them, too.
ALIASES = {
    "progress": "progress_pct",
    "pct": "progress_pct",
    "message": "stage",
    "step": "stage",
    "current_step": "stage",
}
STAGE_BYTES_MAX = 256
MEMBERS = frozenset({"status", "progress_pct", "stage", "result", "error", "labels"})
DONE = frozenset({"completed", "failed", "cancelled"})
STATUSES = {
    **{status: status for status in ("queued", "processing", *DONE)},
    **dict.fromkeys(("done", "complete", "succeeded"), "completed"),
    **dict.fromkeys(("running", "started"), "processing"),
    "error": "failed",
    "canceled": "cancelled",
    "pending": "queued",
}

Lines = Union[str, Iterable[object]]


class Members:
    """Members by their names, each as JSON already: what the caller does with its objects later changes nothing.

    Raises `TypeError` for an unknown name, and for what is no JSON.
    """

    __slots__ = ("labels", "texts")

    def __init__(self, patch: Mapping[str, Any]) -> None:
        self.texts: dict[str, bytes] = {}
        self.labels: dict[str, Any] = {}
        for given, value in patch.items():
            name = ALIASES.get(given, given)
            if name not in MEMBERS:
                raise TypeError(f"a job has no {given!r} that can be set; {', '.join(sorted(MEMBERS))} and log can")
            if name in self.texts:
                raise TypeError(f"{name!r} is given twice, once as {given!r}")
            meant = _meant(name, value)
            if name == "labels":
                self.labels = meant
            self.texts[name] = json_bytes(meant)

    @property
    def size(self) -> int:
        """Bytes that they take in a request."""
        return sum(len(name) + len(text) + 4 for name, text in self.texts.items())

    @property
    def is_end(self) -> bool:
        """Whether they end an attempt: the job is done, or given back."""
        return self.status in DONE or self.status == "queued"

    @property
    def status(self) -> str | None:
        """The status that is set, if one is."""
        text = self.texts.get("status")
        return None if text is None else text.decode().strip('"')

    def add(self, later: Members) -> None:
        """Takes over what is set later: the latest of each counts, labels are merged."""
        self.texts.update(later.texts)
        if later.labels:
            self.labels = {**self.labels, **later.labels}
            self.texts["labels"] = json_bytes(self.labels)

    def drop(self, name: str) -> None:
        """Leaves one out."""
        del self.texts[name]

    def are_a_report(self) -> bool:
        """Whether a log append can carry them, which a done job still takes for a while."""
        return self.texts.keys() <= {"progress_pct", "stage"}


def _meant(name: str, value: Any) -> Any:
    meaning = _MEANINGS.get(name)
    return value if meaning is None else meaning(value)


def _status(value: Any) -> Any:
    return STATUSES.get(value, value) if isinstance(value, str) else value


def error_of(value: Any) -> Any:
    """An error as a job has it, of an exception or a text."""
    if isinstance(value, BaseException):
        return {"reason": type(value).__name__, "message": str(value)}
    return {"reason": "error", "message": value} if isinstance(value, str) else value


def _labels(value: Mapping[str, Any]) -> dict[str, str | None]:
    return {key: None if text is None else str(text) for key, text in value.items()}


def _progress(value: Any) -> float:
    # Numbers of libraries are numbers, too.
    is_none = value is None or isinstance(value, (str, bytes, bool))
    number = value if is_none or isinstance(value, int) else float(value)
    if is_none or not 0 <= number <= 100:
        raise ValueError(f"progress is a number from 0 to 100, not {value!r}")
    return number


def _stage(value: Any) -> str | None:
    if value is None:
        return None
    text = str(value)
    if len(text.encode("utf-8", "replace")) > STAGE_BYTES_MAX:
        raise ValueError(f"a stage has at most {STAGE_BYTES_MAX} bytes, not {text[:40]!r}...")
    return text


_MEANINGS: dict[str, Callable[[Any], Any]] = {
    "status": _status,
    "progress_pct": _progress,
    "stage": _stage,
    "error": error_of,
    "labels": _labels,
}


def lines_of(lines: Lines) -> list[str]:
    """The lines of a text or of several, without their breaks: what is one string may be many lines."""
    several = lines if isinstance(lines, (list, tuple, Iterator)) else [lines]
    texts = [line.decode("utf-8", "replace") if isinstance(line, bytes) else str(line) for line in several]
    return [line for text in texts for line in (text.splitlines() if "\n" in text or "\r" in text else (text,))]

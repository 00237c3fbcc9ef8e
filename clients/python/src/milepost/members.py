"""What a job may be changed to: the members of a PATCH, under their own names.

Knows nothing of how they travel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Union

from .transport import json_bytes

#: Other names of members, as the service knows them, too.
ALIASES = {
    "progress": "progress_pct",
    "pct": "progress_pct",
    "message": "stage",
    "step": "stage",
    "current_step": "stage",
}
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

    __slots__ = ("labels", "size", "texts")

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
        self.size = sum(len(name) + len(text) + 4 for name, text in self.texts.items())

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
        self.size = sum(len(name) + len(text) + 4 for name, text in self.texts.items())

    def are_a_report(self) -> bool:
        """Whether a log append can carry them, which a done job still takes for a while."""
        return self.texts.keys() <= {"progress_pct", "stage"}


def _meant(name: str, value: Any) -> Any:
    if name == "status" and isinstance(value, str):
        return STATUSES.get(value, value)
    if name == "error" and isinstance(value, BaseException):
        return {"reason": type(value).__name__, "message": str(value)}
    if name == "error" and isinstance(value, str):
        return {"reason": "error", "message": value}
    if name == "labels":
        return {key: None if text is None else str(text) for key, text in value.items()}
    return value


def lines_of(lines: Lines) -> list[str]:
    """The lines of a text or of several, without their breaks: what is one string may be many lines."""
    texts = [lines] if isinstance(lines, str) else [line if isinstance(line, str) else str(line) for line in lines]
    return [line for text in texts for line in (text.splitlines() if "\n" in text or "\r" in text else (text,))]

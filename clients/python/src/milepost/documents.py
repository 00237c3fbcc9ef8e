"""The shapes of what the service answers, for type checkers; at run time they are plain dicts."""

from __future__ import annotations

from typing import Any, Optional, TypedDict


class _Large(TypedDict, total=False):
    """What is left out where it would be too much."""

    result: Any
    logs_from: int
    logs: list[str]
    input: Any


class Job(_Large):
    """The document of a job; docs/api.md of the service says what each member means.

    `result` is missing in lists and in frames that have not changed it, `logs` and `logs_from` in lists and frames, and
    `input` is in the answers to `create`, `ensure`, `claim` and `read(..., input=True)` alone.
    """

    id: str
    kind: str
    status: str
    done: bool
    outcome: Optional[str]
    progress_pct: float
    stage: Optional[str]
    eta_seconds: Optional[int]
    error: Optional[dict[str, Any]]
    labels: dict[str, str]
    priority: int
    attempt: int
    max_attempts: int
    worker: Optional[str]
    lease_expires_at: Optional[str]
    cancel_requested: bool
    log_count: int
    version: int
    created_at: str
    started_at: Optional[str]
    updated_at: str
    finished_at: Optional[str]
    expires_at: Optional[str]


class LogLine(TypedDict):
    """A line of a log: its number from 1, when it came, the attempt that wrote it, and the text."""

    seq: int
    at: str
    attempt: int
    line: str

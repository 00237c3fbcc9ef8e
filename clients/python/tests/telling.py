"""What the stories share."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from milepost import JobStore

PATIENCE_SECONDS = 30.0


def fresh() -> str:
    """An id that no job has."""
    return f"job-{uuid.uuid4().hex}"


def fresh_kind() -> str:
    """A kind that no job has."""
    return f"kind-{uuid.uuid4().hex[:12]}"


def read(store: JobStore, job_id: str, **how: Any) -> Any:
    """A job that is there."""
    job = store.read(job_id, **how)
    assert job is not None, job_id
    return job


def until(there: Callable[[], Any], what: str = "it") -> Any:
    """What is there, once it is."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not (found := there()):
        assert time.monotonic() < give_up_at, f"{what} does not come"
        time.sleep(0.01)
    return found

"""The routes as requests: what both stores send, and what they take from the answers."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Union

from .errors import Fenced
from .transport import Request, job_path

if TYPE_CHECKING:
    from .documents import Job
    from .errors import Refused
    from .transport import Reply

DEFAULT_URL = "http://127.0.0.1:8080"
WAIT_SECONDS = 25.0  # of one request that waits; it is sent again for as long as the caller wants
PAGE_JOBS = 500
CREATED = 201

Texts = Union[str, Iterable[str], None]


def service_url(url: str | None) -> str:
    """The base address: what is given, or `MILEPOST_URL`, or that of a service on this machine. Raises `ValueError`."""
    url = url or os.environ.get("MILEPOST_URL") or DEFAULT_URL
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"not an http address: {url}")
    return url.rstrip("/")


def worker_name() -> str:
    """Who this process is, for whoever looks: host and process."""
    return f"{socket.gethostname()[:40]}-{os.getpid()}"


def fresh_writer() -> str:
    """A name of a writer that nobody has had."""
    return f"{socket.gethostname()[:16]}-{uuid.uuid4().hex[:12]}"


def create(kind: str, spec: Mapping[str, Any], job_id: str | None, key: str | None) -> Request:
    """Makes a job, or makes sure that it is there."""
    body = {"kind": kind, **{name: value for name, value in spec.items() if value is not None}}
    # Sent again, it is told that it has made the job if it has.
    once = {"idempotency-key": key or uuid.uuid4().hex}
    if job_id is not None:
        return Request("PUT", job_path(job_id), body, headers=once)
    return Request("POST", "/jobs", body, headers=once)


def read(job_id: str, logs: int | str | None, logs_after: int | None, input: bool) -> Request:
    """The document of a job."""
    params = {
        "logs": None if logs_after is not None else logs,
        "logs_after": logs_after,
        "input": "1" if input else None,
    }
    return Request("GET", job_path(job_id), params=params)


def wait(job_id: str, seconds: float) -> Request:
    """The document of a job that is done, or as it is after so long."""
    seconds = min(max(seconds, 0.0), WAIT_SECONDS)
    params = {"until": "done", "wait": int(seconds), "logs": 0}
    return Request("GET", job_path(job_id), params=params, wait_seconds=seconds)


def cancel(job_id: str, reason: str | None) -> Request:
    """Asks a job to end."""
    return Request("POST", job_path(job_id, "/cancel"), {"reason": reason} if reason else {})


def retry(job_id: str, attempt: int | None) -> Request:
    """Sends a done job back to the queue."""
    return Request("POST", job_path(job_id, "/retry"), {"attempt": attempt} if attempt else {})


def delete(job_id: str) -> Request:
    """Removes a job."""
    return Request("DELETE", job_path(job_id))


def jobs(status: Texts, kind: Texts, labels: Mapping[str, str] | None, q: str | None, order: str) -> Request:
    """The first page of a list."""
    params = {
        "status": _commas(status),
        "kind": _commas(kind),
        "label": _pairs(labels),
        "q": q,
        "order": order,
        "limit": PAGE_JOBS,
    }
    return Request("GET", "/jobs", params=params)


def next_page(first: Request, cursor: object) -> Request:
    """The page of a list after the one that gave this cursor."""
    return first._replace(params={**(first.params or {}), "cursor": cursor})


def claim(kinds: Texts, worker: str, lease_seconds: int, wait_seconds: float) -> Request:
    """The next queued job of some kinds. The same request, sent again, is for the same job."""
    body = {
        "kinds": [kinds] if isinstance(kinds, str) else list(kinds or ()),
        "worker": worker,
        "lease_seconds": lease_seconds,
        "wait_seconds": int(wait_seconds),
    }
    key = {"idempotency-key": uuid.uuid4().hex}
    return Request("POST", "/jobs/claim", body, headers=key, wait_seconds=wait_seconds)


def heartbeat(job_id: str, attempt: int) -> Request:
    """Renews a lease."""
    return Request("POST", job_path(job_id, "/heartbeat"), {"attempt": attempt})


def logs(job_id: str, after: int) -> Request:
    """A page of a log."""
    return Request("GET", job_path(job_id, "/logs"), params={"after": after})


def job_events(job_id: str, logs: object) -> Request:
    """The stream of one job."""
    return Request("GET", job_path(job_id, "/events"), params={"logs": logs})


def all_events(ids: Texts, status: Texts, kind: Texts, labels: Mapping[str, str] | None) -> Request:
    """The stream of many jobs."""
    params = {
        "id": _commas(ids),
        "status": _commas(status),
        "kind": _commas(kind),
        "label": _pairs(labels),
    }
    return Request("GET", "/events", params=params)


def _pairs(labels: Mapping[str, str] | None) -> list[str] | None:
    return [f"{key}:{value}" for key, value in labels.items()] if labels else None


def _commas(texts: Texts) -> str | None:
    return texts if texts is None or isinstance(texts, str) else ",".join(texts)


def taking(job: Job) -> Request:
    """Makes this process the one that works on a queued job, unless another is faster."""
    body = {"status": "processing", "attempt": job["attempt"]}
    return Request("PATCH", job_path(job["id"]), body, headers={"if-match": f'"v{job["version"]}"'})


def waits_for_work(told: Reply) -> bool:
    """Whether a job that was to be made and begun stood already, and has to be taken; if not, this process has made it.

    Raises `Fenced` for one that nobody is waited for at.
    """
    job: Job = told.said
    if job["done"]:
        raise Fenced(409, {"code": "already_finished", "detail": f"the job {job['id']} is {job['status']}"})
    if job["status"] == "processing" and told.status != CREATED:
        raise taken(job["id"])
    return bool(job["status"] == "queued")


def taken_all_the_same(refused: Refused, before: Job, now: Job | None) -> Job:
    """The job that `taking` has begun although it was refused: the answer to it was lost. Raises `Fenced` if it has not."""
    if now is not None and refused.is_repeat and (now["status"], now["version"]) == ("processing", before["version"] + 1):
        return now
    raise taken(before["id"]) from refused


def taken(job_id: str) -> Fenced:
    """The exception for a job that somebody else works on."""
    return Fenced(409, {"code": "job_exists", "detail": f"somebody works on the job {job_id} already"})

"""Requests that are repeated until they are answered for good.

Promises: a request that may have been carried out is only repeated where that does no harm, which holds for everything this
package sends: it says what is, or carries a key or a count. Nothing is repeated for longer than `patience_seconds`.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import random
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

import certifi
import httpx

from .errors import MilepostError, Refused, Unavailable, refusal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

REQUEST_SECONDS = 10.0  # what an answer may take, beside what it was asked to wait
STREAM_SILENCE_SECONDS = 45.0  # the service says something every 15
BACKOFF_FIRST_SECONDS = 0.1
BACKOFF_MAX_SECONDS = 2.0
RETRY_AFTER_MAX_SECONDS = 15.0  # a longer one is not believed: leases are running
AGAIN_STATUSES = frozenset({408, 425, 429, 502, 503, 504, 507})
# Streams keep their connections for long, and nothing may wait for them.
NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20)
AGAIN_CODES = frozenset({"idempotency_in_progress"})


class Backoff:
    """Seconds before each repeat: growing, and random, so that many clients do not come back as one."""

    def __init__(self) -> None:
        self._longest = BACKOFF_FIRST_SECONDS

    def pause(self, at_least: float = 0.0) -> float:
        """The next of them."""
        seconds = random.uniform(self._longest / 2, self._longest)  # noqa: S311
        self._longest = min(self._longest * 2, BACKOFF_MAX_SECONDS)
        return max(seconds, at_least)


class Retry:
    """How long to wait before a request is repeated, and when to give up."""

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._give_up_at = time.monotonic() + patience_seconds
        self._backoff = Backoff()

    def pause(self, why: str, at_least: float = 0.0) -> float:
        """Seconds until the next attempt. Raises `Unavailable` when that would be too late."""
        seconds = self._backoff.pause(at_least)
        if time.monotonic() + seconds > self._give_up_at:
            raise Unavailable(f"no answer for {self._patience_seconds:g} s: {why}")
        return seconds


class Reply(NamedTuple):
    """What a request was answered."""

    said: Any
    status: int


class Again(Exception):
    """The answer was none that counts."""

    def __init__(self, why: str, after_seconds: float) -> None:
        super().__init__(why)
        self.after_seconds = after_seconds


def judged(response: httpx.Response) -> Any:
    """What an answer says: its JSON, or `None` without a body.

    Raises `Again` for one that is worth repeating the request, and `Refused` for any other error.
    """
    if response.is_success:
        return response.json() if response.content else None
    problem = _json(response)
    refused = refusal(response.status_code, problem)
    if response.status_code in AGAIN_STATUSES or refused.code in AGAIN_CODES:
        raise Again(str(refused), retry_after_seconds(response))
    raise refused


def retry_after_seconds(response: httpx.Response) -> float:
    """What `Retry-After` asks for, within reason; 0 without one."""
    value = response.headers.get("retry-after", "")
    return min(float(value), RETRY_AFTER_MAX_SECONDS) if value.isdigit() else 0.0


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def job_path(job_id: str, rest: str = "") -> str:
    """The path of a job's route. Raises `ValueError` for what no id can be."""
    if not isinstance(job_id, str) or not job_id:
        raise ValueError(f"not the id of a job: {job_id!r}")
    return f"/jobs/{quote(job_id, safe='~')}{rest}"


def timeout(wait_seconds: float = 0.0) -> httpx.Timeout:
    """How long an answer may take that was asked to wait for so long."""
    return httpx.Timeout(REQUEST_SECONDS, read=REQUEST_SECONDS + wait_seconds)


def json_bytes(value: object) -> bytes:
    """`value` as compact JSON. Raises `TypeError` or `ValueError` for what has none."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


class Request(NamedTuple):
    """A request. `headers` may have an Idempotency-Key."""

    method: str
    path: str
    body: object = None
    params: Mapping[str, Any] | None = None
    headers: Mapping[str, str] | None = None
    wait_seconds: float = 0.0

    def arguments(self) -> dict[str, Any]:
        """What httpx takes for it."""
        known = {name: value for name, value in (self.params or {}).items() if value is not None}
        headers = dict(self.headers or {})
        made: dict[str, Any] = {"method": self.method, "url": self.path, "params": known, "headers": headers}
        if self.body is not None:
            made["content"] = json_bytes(self.body)
            headers["content-type"] = "application/json"
        return {**made, "timeout": timeout(self.wait_seconds)}


def stream_arguments(request: Request, last_id: str) -> dict[str, Any]:
    """What httpx takes for a stream that goes on after that."""
    headers = {"accept": "text/event-stream", "accept-encoding": "identity"}
    if last_id:
        headers["last-event-id"] = last_id
    silence = httpx.Timeout(STREAM_SILENCE_SECONDS, connect=REQUEST_SECONDS)
    return {**request._replace(headers=headers).arguments(), "timeout": silence}


@functools.cache
def _trusted() -> ssl.SSLContext:
    """Whom httpx trusts: read once, as it takes as long as a dozen requests."""
    return httpx.create_ssl_context()


def roots_file() -> str | None:
    """Whom httpx trusts, as a file; `None`: what OpenSSL is told by the environment."""
    return None if {"SSL_CERT_FILE", "SSL_CERT_DIR"} & os.environ.keys() else certifi.where()


def is_proxied(url: str) -> bool:
    """Whether httpx reaches an address through a proxy that the environment names."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    has_one = bool({parts.scheme, "all"} & proxies.keys())
    return has_one and not urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2])


def _with_tls(options: Mapping[str, Any]) -> dict[str, Any]:
    if options.keys() & {"verify", "cert", "trust_env"}:
        return dict(options)
    return {**options, "verify": _trusted()}


def sync_client(url: str, options: Mapping[str, Any]) -> httpx.Client:
    """A client for requests that do not wait."""
    return httpx.Client(base_url=url, timeout=timeout(), limits=NO_LIMITS, **_with_tls(options))


class Transport:
    """The connections of one process to the service. For any number of threads."""

    def __init__(self, url: str, options: Mapping[str, Any], patience_seconds: float) -> None:
        """`options` are those of httpx."""
        self.patience_seconds = patience_seconds
        self._closing = threading.Event()
        self.client = sync_client(url, options)

    def ask(self, request: Request) -> Any:
        """Returns the JSON of the answer; raises `Refused` and `Unavailable`."""
        return self.told(request).said

    def told(self, request: Request) -> Reply:
        """The same, with what else is known of the answer."""
        arguments = request.arguments()
        retry = Retry(self.patience_seconds)
        is_repeat = False
        while True:
            if self._closing.is_set():
                raise MilepostError("the store is closed")
            try:
                response = self.client.request(**arguments)
                return Reply(judged(response), response.status_code)
            except Refused as refused:
                refused.is_repeat = is_repeat
                raise
            except httpx.TransportError as error:
                pause = retry.pause(f"{type(error).__name__}: {error}")
            except Again as again:
                pause = retry.pause(str(again), again.after_seconds)
            is_repeat = True
            self._closing.wait(pause)

    def close(self) -> None:
        """Lets go of the connections; requests under way are not repeated any more."""
        self._closing.set()
        self.client.close()


class AsyncTransport:
    """The same on an event loop."""

    def __init__(self, url: str, options: Mapping[str, Any], patience_seconds: float) -> None:
        """`options` are those of httpx."""
        self.patience_seconds = patience_seconds
        self.client = httpx.AsyncClient(base_url=url, timeout=timeout(), limits=NO_LIMITS, **_with_tls(options))

    async def ask(self, request: Request) -> Any:
        """Returns the JSON of the answer; raises `Refused` and `Unavailable`."""
        return (await self.told(request)).said

    async def told(self, request: Request) -> Reply:
        """The same, with what else is known of the answer."""
        arguments = request.arguments()
        retry = Retry(self.patience_seconds)
        is_repeat = False
        while True:
            try:
                response = await self.client.request(**arguments)
                return Reply(judged(response), response.status_code)
            except Refused as refused:
                refused.is_repeat = is_repeat
                raise
            except httpx.TransportError as error:
                pause = retry.pause(f"{type(error).__name__}: {error}")
            except Again as again:
                pause = retry.pause(str(again), again.after_seconds)
            is_repeat = True
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """Lets go of the connections."""
        await self.client.aclose()

"""The thread that sends what waits in the outbox.

Promises: what is answered is settled or refused; what is not is sent again, with growing pauses, for as long as the store is
open.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import httpx

from .errors import Refused, refusal
from .outbox import Lane, Outbox, answer_of
from .transport import AGAIN_STATUSES, Again, Backoff, json_bytes, judged

OPERATIONS_MAX = 500  # of one request; the service takes a thousand
BATCH_BYTES_MAX = 768 * 1024  # the service takes a MiB
JOIN_SECONDS = 1.0

log = logging.getLogger("milepost")


class Sender:
    """See the module."""

    def __init__(self, outbox: Outbox, client: httpx.Client, linger_seconds: float, kind: str | None) -> None:
        """With `kind`, jobs that are written to and are not there are made, of that kind. `client` is its own: it never waits
        for a connection.
        """
        self._outbox = outbox
        self._client = client
        self._linger_seconds = linger_seconds
        self._kind = kind
        self._stop = threading.Event()
        self._backoff: Backoff | None = None
        self._thread = threading.Thread(target=self._run, name="milepost-sender", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Asks the thread to end; the outbox is closed already."""
        self._stop.set()

    def join(self) -> None:
        """Returns once it has ended, or is stuck in a request that nobody answers."""
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        while lanes := self._outbox.take(self._linger_seconds, OPERATIONS_MAX, BATCH_BYTES_MAX):
            try:
                self._send(lanes)
            except Exception:
                if self._stop.is_set():
                    # The connections were closed under it.
                    return
                # A bug here must not end all reports.
                log.exception("a batch could not be sent; it is tried again")
                self._pause(lanes, "a bug", 1.0)

    def _send(self, lanes: list[Lane]) -> None:
        operations = [lane.operation() for lane in lanes]
        try:
            results = judged(self._post(operations))["results"]
        except httpx.TransportError as error:
            self._pause(lanes, f"{type(error).__name__}: {error}", 0.0)
        except Again as again:
            self._pause(lanes, str(again), again.after_seconds)
        except Refused as error:
            self._refused(lanes, error)
        else:
            if self._backoff is not None:
                log.info("the service answers again")
            self._backoff = None
            for lane, result in zip(lanes, results):
                self._settle(lane, result)

    def _post(self, operations: list[bytes]) -> httpx.Response:
        body = b"[" + b",".join(operations) + b"]"
        return self._client.post("/batch", content=body, headers={"content-type": "application/json"})

    def _settle(self, lane: Lane, result: dict[str, Any]) -> None:
        if "problem" not in result:
            self._outbox.settle(lane, answer_of(result["job"]))
            return
        status = int(result["status"])
        error = refusal(status, result["problem"])
        if status in AGAIN_STATUSES:
            log.warning("a report on %s waits: %s", lane.job_id, error)
            self._outbox.again(lane, lane.backoff.pause(), is_sent=False)
        elif error.code == "job_not_found" and self._kind and not lane.is_ensured:
            self._ensure(lane)
        else:
            self._outbox.refuse(lane, error)

    def _ensure(self, lane: Lane) -> None:
        """Makes the job that is written to."""
        new = {"op": "create", "id": lane.job_id, "kind": self._kind}
        try:
            result = judged(self._post([json_bytes(new)]))["results"][0]
        except (httpx.TransportError, Again):
            self._outbox.again(lane, lane.backoff.pause(), is_sent=False)
            return
        except Refused as error:
            self._outbox.refuse(lane, error)
            return
        if "problem" in result:
            self._outbox.refuse(lane, refusal(int(result["status"]), result["problem"]))
            return
        # Once: whoever deletes it means it.
        lane.is_ensured = True
        self._outbox.again(lane, 0.0, is_sent=False)

    def _refused(self, lanes: list[Lane], error: Refused) -> None:
        """The batch as a whole is refused: each of its operations is sent alone, to find out which one it is."""
        if len(lanes) == 1:
            self._outbox.refuse(lanes[0], error)
            return
        for lane in lanes:
            self._send([lane])

    def _pause(self, lanes: list[Lane], why: str, at_least: float) -> None:
        if self._backoff is None:
            log.warning("reports wait until the service answers: %s", why)
            self._backoff = Backoff()
        pause = self._backoff.pause(at_least)
        for lane in lanes:
            self._outbox.again(lane, pause, is_sent=True)
        self._stop.wait(pause)

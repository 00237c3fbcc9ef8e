"""`JobStore`: jobs from threads."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, Any, Callable, cast

import httpx

from . import routes
from .documents import LogLine
from .errors import JobNotFound, MilepostError, Refused, Undelivered, still_tried
from .members import Lines, Members, lines_of
from .outbox import Answer, NoRoom, Outbox, Told
from .pulse import Pulse
from .sender import Sender
from .signals import uninterrupted
from .tracking import TrackedJob
from .transport import Again, Request, Retry, Transport, is_proxied, judged, roots_file, stream_arguments, sync_client
from .watching import Event, Events

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from .documents import Job
    from .routes import Texts

EXIT_SECONDS = 10.0  # how long the end of the process waits for what is not sent

# `list` is a method of the store.
Strings = list[str]
Operations = list[dict[str, Any]]
LogLines = list[LogLine]

log = logging.getLogger("milepost")


class JobStore:
    """The jobs of a Milepost service. For any number of threads; a forked process goes on with reports of its own.

    `update` and `append_log` return at once: what they bring is sent in the background, together with what else comes within
    `linger_seconds`. An update that ends a job returns when it is durable. `read` has what this process has written before.
    While the service is away reports wait, at most `buffer_bytes_max` of them; then writers wait, for `patience_seconds` at most.

    What the service refuses is raised by the next call for the same job, or by `flush` and `close`, and told to `on_error` from
    the thread that sends. The end of the process waits for what is not sent, ten seconds at the most, and logs what is lost;
    `close`, or `with`, is the better way.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        kind: str | None = None,
        headers: Mapping[str, str] | None = None,
        linger_seconds: float = 0.05,
        patience_seconds: float = 120.0,
        buffer_bytes_max: int = 16 * 1024 * 1024,
        on_error: Callable[[str, MilepostError], None] | None = None,
        http: Mapping[str, Any] | None = None,
    ) -> None:
        """`url` is the base address; without one that of the environment, `MILEPOST_URL`, or `http://127.0.0.1:8080`.

        With `kind` a job that is written to and is not there is made, of that kind; `create` and `ensure` take it, too.
        `http` are further arguments of `httpx.Client`: auth, verify, cert, proxy.
        """
        self.url = routes.service_url(url)
        self.kind = kind
        self.patience_seconds = patience_seconds
        self._options = {**(http or {}), "headers": dict(headers or {})}
        self._linger_seconds = linger_seconds
        self._buffer_bytes_max = buffer_bytes_max
        self._on_error = on_error
        self._lock = threading.Lock()
        self._is_closed = False
        self._begin()
        _open_stores.add(self)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._transport = Transport(self.url, self._options, self.patience_seconds)
        self._outbox = Outbox(routes.fresh_writer(), self._buffer_bytes_max, self._on_error)
        # At once: in a process that is about to end no thread can begin.
        self._sending = sync_client(self.url, self._options)
        self._sender = Sender(self._outbox, self._sending, self._linger_seconds, self.kind)
        self._pulse: Pulse | None = None

    # What the origin's store has.

    def update(self, job_id: str, **patch: Any) -> None:
        """Changes members of a job in one step: status, progress_pct, stage, result, error, labels, and `log` lines.

        `error` may be an exception or a text. Returns at once, or when it is durable if it ends the job or gives it back.
        """
        self.write(job_id, patch)

    def append_log(self, job_id: str, line: str, pct: float | None = None) -> None:
        """Appends a line, or the lines of a text, and sets the progress if it is given."""
        self.write(job_id, {"log": line} if pct is None else {"log": line, "progress_pct": pct})

    def read(
        self,
        job_id: str,
        *,
        logs: int | str | None = "all",
        logs_after: int | None = None,
        input: bool = False,
    ) -> Job | None:
        """The job with its log lines; `None` if there is none.

        `logs=0` leaves the lines out, `logs_after=17` gives those after the seventeenth: whoever asks again and again should.
        """
        self._settle(job_id)
        try:
            job = self._job(routes.read(job_id, logs, logs_after, input))
            if logs == "all" and logs_after is None and is_cut(job):
                fill(job, [*self.logs(job_id)])
        except JobNotFound:
            return None
        return job

    # Making and ending jobs.

    def create(
        self,
        kind: str | None = None,
        *,
        id: str | None = None,
        input: Any = None,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        **spec: Any,
    ) -> Job:
        """Makes a job. With an `id` it makes sure that the job is there.

        `spec`: priority, max_attempts, status, stage, lease_seconds, timeout_seconds, queue_ttl_seconds,
        cancel_grace_seconds, retain_seconds, log.
        """
        spec = {"input": input, "labels": labels, **spec}
        return self._job(routes.create(self.kind_of(kind), spec, id, idempotency_key))

    def ensure(self, job_id: str, kind: str | None = None, **spec: Any) -> Job:
        """Makes sure that there is a job of this id, and returns it. One that is there is left as it is."""
        return self._job(routes.create(self.kind_of(kind), spec, job_id, None))

    def cancel(self, job_id: str, reason: str | None = None) -> Job:
        """Asks a job to end; a queued one is cancelled at once."""
        self._settle(job_id)
        return self._job(routes.cancel(job_id, reason))

    def retry(self, job_id: str, attempt: int | None = None) -> Job:
        """Sends a done job back to the queue. With `attempt`, only if that is the one that is to be tried again."""
        self._settle(job_id)
        if attempt is None:
            # Named, so that the request can be repeated.
            attempt = self._job(routes.read(job_id, 0, None, input=False))["attempt"]
        return self._job(routes.retry(job_id, attempt))

    def delete(self, job_id: str) -> None:
        """Removes a job; its id stays reserved for a day."""
        self._settle(job_id)
        self._ask(routes.delete(job_id))

    # Reading.

    def list(
        self,
        *,
        status: Texts = None,
        kind: Texts = None,
        labels: Mapping[str, str] | None = None,
        q: str | None = None,
        order: str = "newest",
    ) -> Iterator[Job]:
        """The jobs that fit, page by page as they are asked for; without input, result and logs."""
        self._settle(None)
        first = page = routes.jobs(status, kind, labels, q, order)
        while True:
            answer = self._ask(page)
            yield from answer["jobs"]
            if answer["next"] is None:
                return
            page = routes.next_page(first, answer["next"])

    def logs(self, job_id: str, after: int = 0) -> Iterator[LogLine]:
        """The lines after that number, page by page as they are asked for."""
        self._settle(job_id)
        while True:
            page = self._ask(routes.logs(job_id, after))
            yield from page["lines"]
            if not page["lines"]:
                return
            after = page["next"]

    def wait(self, job_id: str, seconds: float | None = None) -> Job:
        """The job once it is done; after so many seconds as it is then. Raises `JobNotFound`."""
        self._settle(job_id)
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            left = routes.WAIT_SECONDS if until is None else until - time.monotonic()
            job: Job = self._ask(routes.wait(job_id, left))
            if job["done"] or (until is not None and time.monotonic() >= until - 1):
                return job

    def watch(self, job_id: str, *, since: str | None = None, logs: int | str | None = None) -> Iterator[Event]:
        """What becomes of a job, as it happens, until it is done: every line once, and the newest state.

        Goes on by itself where a connection broke off, also after a restart of the service. Raises `JobNotFound`, and
        `Unavailable` when the service is away for `patience_seconds`.
        """
        self._settle(job_id)
        return self._events(routes.job_events(job_id, logs), since, ends=True)

    def watch_all(
        self,
        *,
        ids: Texts = None,
        status: Texts = None,
        kind: Texts = None,
        labels: Mapping[str, str] | None = None,
        since: str | None = None,
    ) -> Iterator[Event]:
        """What becomes of the jobs that fit, or of up to 100 chosen ones, over one connection and without an end."""
        return self._events(routes.all_events(ids, status, kind, labels), since, ends=False)

    # Working.

    def claim(
        self, kinds: Texts = None, *, worker: str | None = None, lease_seconds: int = 30, wait_seconds: float = 25
    ) -> Job | None:
        """The next queued job of these kinds, with its input and leased to the caller; `None` if none comes in time.

        `worker` is who it is, for whoever looks. `TrackedJob` and `milepost.worker` do what follows.
        """
        wanted = kinds if kinds is not None else self.kind_of(None)
        return cast("Job | None", self._ask(routes.claim(wanted, worker or routes.worker_name(), lease_seconds, wait_seconds)))

    def heartbeat(self, job_id: str, attempt: int) -> Mapping[str, Any]:
        """Renews the lease of an attempt. Raises `Fenced` when it is over."""
        answer: Mapping[str, Any] = self._ask(routes.heartbeat(job_id, attempt))
        return answer

    def track(
        self,
        kind: str | None = None,
        *,
        id: str | None = None,
        input: Any = None,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        lease_seconds: int = 30,
        **spec: Any,
    ) -> TrackedJob:
        """Makes a job that this process works on now, for `with`: it ends the way the block ends. With an `id` it may wait in the
        queue already; raises `Fenced` where it is done or somebody else works on it. What several workers share is claimed.

        Its lease is renewed by a process of its own, also while this one is busy.
        """
        spec = {"input": input, "labels": labels, **spec, "status": "processing", "lease_seconds": lease_seconds}
        self._box()
        told = self._transport.told(routes.create(self.kind_of(kind), spec, id, idempotency_key))
        job: Job = told.said
        if routes.waits_for_work(told):
            job = self._take(job)
        return TrackedJob(self, job, lease_seconds)

    # Delivery.

    def write(
        self,
        job_id: str,
        patch: Mapping[str, Any],
        *,
        attempt: int | None = None,
        wait: bool | None = None,
        is_checked: bool = True,
        room_seconds: float | None = None,
    ) -> None:
        """What `update` does; with `attempt` only while that is the current one.

        `wait`: until it is durable, or not; if not given, when it ends the job or gives it back. Whoever waits is told what was
        refused before once that is done; else it is raised at once, and what was brought is not taken. Without `is_checked` it
        is left to the next call. `room_seconds`: how long to wait where too much waits already.
        """
        lines, members = parted(patch)
        if wait is None:
            wait = members.is_end
        told = self.put(
            job_id, members, lines, attempt, future=wait, is_checked=is_checked and not wait, wait_seconds=room_seconds
        )
        if told is not None:
            self._await(told, job_id)
            if is_checked:
                self.check(job_id)

    def flush(self, job_id: str | None = None, seconds: float | None = None) -> None:
        """Returns once all that was written, of one job or of all, is durable.

        Raises what was refused, one after the other with each call, and `Undelivered` after so many seconds, `patience_seconds`
        if not given; it is still tried then.
        """
        self._settle(job_id, seconds)
        self.check(job_id)

    def pulse(self) -> Pulse:
        """What renews the leases of jobs that are worked on here."""
        self._box()
        with self._lock:
            if self._pulse is None:
                # A process has none of what httpx was given.
                post = self._beat if self._options.keys() > {"headers"} or is_proxied(self.url) else None
                self._pulse = Pulse(self.url, self._options["headers"], post, roots_file())
            return self._pulse

    def known(self, job_id: str) -> Answer | None:
        """What the last answer to a change of a job said; asks nobody."""
        return self._box().answer(job_id)

    def close(self, seconds: float | None = None) -> None:
        """Sends what waits, for so long at the most, and lets go of the service.

        Raises what was refused, and `Undelivered` for what is given up.
        """
        if self._is_closed:
            return
        error: MilepostError | None = None
        try:
            self.flush(seconds=seconds)
        except MilepostError as told:
            error = told
        # Whoever interrupts it may try again.
        self._is_closed = True
        _open_stores.discard(self)
        if self._pulse is not None:
            self._pulse.close()
        left = self._outbox.close("the store is closed")
        self._sender.stop()
        self._transport.close()
        self._sending.close()
        self._sender.join()
        if left:
            raise Undelivered(f"given up: changes of {', '.join(left[:5])}", tuple(left)) from error
        self._log_others()
        if error is not None:
            raise error

    @property
    def is_closed(self) -> bool:
        """Whether it takes nothing any more."""
        return self._is_closed

    def __enter__(self) -> JobStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # For `AsyncJobStore`.

    def put(
        self,
        job_id: str,
        members: Members,
        lines: Strings,
        attempt: int | None,
        *,
        future: bool,
        is_checked: bool,
        wait_seconds: float | None = None,
    ) -> Future[Answer] | None:
        """Takes a change, and waits for room for so long; with `future` returns what tells when it is durable."""
        box = self._box()
        until = time.monotonic() + (self.patience_seconds if wait_seconds is None else wait_seconds)
        while True:
            try:
                with uninterrupted:
                    if is_checked:
                        box.check(job_id)
                    return box.put(job_id, members, lines, attempt, future=future)
            except NoRoom:
                left = until - time.monotonic()
                if left <= 0:
                    raise
                box.wait_for_room(left)

    def barriers(self, job_id: str | None) -> Told:
        """What tells when all that was written of a job, or of all, has come to an end, well or not."""
        return self._box().barriers(job_id)

    def check(self, job_id: str | None) -> None:
        """Raises what was refused and nobody was told of."""
        self._box().check(job_id)

    def kind_of(self, kind: str | None) -> str:
        """The kind, or that of the store."""
        kind = kind or self.kind
        if kind is None:
            raise TypeError("a kind is needed, here or for the whole store")
        return kind

    # Inside.

    def _await(self, told: Future[Answer], job_id: str) -> None:
        try:
            told.result(self.patience_seconds)
        except FutureTimeout:
            # From here on it is told to the next call.
            if told.cancel():
                raise still_tried(self.patience_seconds, job_id) from None
            told.result()

    def _settle(self, job_id: str | None, seconds: float | None = None) -> None:
        """Returns once what was written has come to an end, well or not: what is read then has it."""
        seconds = self.patience_seconds if seconds is None else seconds
        _, late = wait_for(self.barriers(job_id), seconds)
        if late:
            raise still_tried(seconds, job_id)

    def _beat(self, operations: Operations) -> Operations:
        results: Operations = self._ask(Request("POST", "/batch", operations))["results"]
        return results

    def _log_others(self) -> None:
        """What was refused and can be told to nobody any more."""
        while True:
            try:
                self._outbox.check(None)
            except MilepostError as error:
                log.error("%s: %s", type(error).__name__, error)
            else:
                return

    def _box(self) -> Outbox:
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    # A fork. What waited is sent by the process it came from.
                    self._begin()
        return self._outbox

    def _take(self, job: Job) -> Job:
        try:
            begun = self._job(routes.taking(job))
        except JobNotFound:
            raise
        except Refused as refused:
            begun = routes.taken_all_the_same(refused, job, self.read(job["id"], logs=0))
        # Whose answer has no input.
        return cast("Job", {**job, **begun})

    def _job(self, request: Request) -> Job:
        return cast("Job", self._ask(request))

    def _ask(self, request: Request) -> Any:
        self._box()
        return self._transport.ask(request)

    def _events(self, request: Request, since: str | None, *, ends: bool) -> Iterator[Event]:
        events = Events(since)
        retry = Retry(self.patience_seconds)
        while True:
            self._box()
            at_least, why = events.retry_seconds, "the stream has ended"
            try:
                with self._transport.client.stream(**stream_arguments(request, events.last_id)) as response:
                    if response.status_code == 204:
                        return
                    if response.status_code != 200:
                        response.read()
                        judged(response)
                    for chunk in response.iter_raw():
                        retry = Retry(self.patience_seconds)
                        for event in events.feed(chunk):
                            yield event
                            if ends and event.event == "end":
                                return
            except httpx.TransportError as error:
                why = f"{type(error).__name__}: {error}"
            except Again as again:
                at_least, why = again.after_seconds, str(again)
            events.broken_off()
            time.sleep(retry.pause(why, at_least))


def is_cut(job: Job) -> bool:
    """Whether a job has more lines than one answer holds, or some were trimmed."""
    return job["logs_from"] > 1 or len(job["logs"]) < job["log_count"]


def fill(job: Job, lines: LogLines) -> None:
    """Puts the whole log into a job that is cut."""
    job["logs"] = [line["line"] for line in lines]
    job["logs_from"] = lines[0]["seq"] if lines else job["log_count"] + 1


def parted(patch: Mapping[str, Any]) -> tuple[list[str], Members]:
    """The lines and the members of a patch."""
    members = dict(patch)
    lines: Lines = members.pop("log", ())
    return lines_of(lines), Members(members)


# Until they are closed: what they have not sent is not lost with the last name for them.
_open_stores: set[JobStore] = set()


@atexit.register
def _close_all() -> None:
    for store in list(_open_stores):
        if store._pid == os.getpid():
            try:
                store.close(EXIT_SECONDS)
            except MilepostError as error:
                log.error("%s: %s", type(error).__name__, error)
            except Exception:
                # The others are to be closed all the same.
                log.exception("a store could not be closed")

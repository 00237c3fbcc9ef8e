"""`AsyncJobStore`: jobs from an event loop."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, cast

import httpx

from . import routes
from .errors import JobNotFound, MilepostError, Refused, still_tried
from .outbox import NoRoom
from .store import JobStore, fill, is_cut, parted
from .tracking import TrackedJob
from .transport import Again, AsyncTransport, Retry, judged, stream_arguments
from .watching import Event, Events

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from types import TracebackType

    from .documents import Job, LogLine
    from .members import Lines
    from .routes import Texts
    from .transport import Request


@asynccontextmanager
async def aclosing(events: AsyncGenerator[Event, None]) -> AsyncGenerator[AsyncGenerator[Event, None], None]:
    """Closes a stream with the block; contextlib has it since Python 3.10."""
    try:
        yield events
    finally:
        await events.aclose()


class AsyncTrackedJob(TrackedJob):
    """A `TrackedJob` for `async with`.

    Its reports are plain calls, which return at once: where too much waits already they raise `Undelivered`, and
    `await store.flush()` waits. What ends the job is awaited.
    """

    _room_seconds = 0.0

    async def complete(self, result: Any = None) -> None:
        """Ends the job well; see `TrackedJob.complete`."""
        await asyncio.to_thread(super().complete, result)

    async def fail(self, message: str, reason: str = "error", log: Lines = ()) -> None:
        """Ends the job badly; see `TrackedJob.fail`."""
        await asyncio.to_thread(super().fail, message, reason, log)

    async def cancel(self) -> None:
        """Ends the job as somebody asked for."""
        await asyncio.to_thread(super().cancel)

    async def give_back(self) -> None:
        """Lets another worker have the job."""
        await asyncio.to_thread(super().give_back)

    async def __aenter__(self) -> AsyncTrackedJob:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # It waits until the end is durable.
        await asyncio.to_thread(self.__exit__, kind, error, trace)


class AsyncJobStore:
    """The jobs of a Milepost service, as `JobStore` has them, for one event loop.

    Writes are sent from a thread, so that they go on while the loop is busy; nothing here blocks it.
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
        """All as for `JobStore`."""
        self.store = JobStore(
            url,
            kind=kind,
            headers=headers,
            linger_seconds=linger_seconds,
            patience_seconds=patience_seconds,
            buffer_bytes_max=buffer_bytes_max,
            on_error=on_error,
            http=http,
        )
        self._transport = AsyncTransport(self.store.url, {**(http or {}), "headers": dict(headers or {})}, patience_seconds)

    async def update(self, job_id: str, **patch: Any) -> None:
        """Changes members of a job in one step; see `JobStore.update`."""
        await self.write(job_id, patch)

    async def append_log(self, job_id: str, line: str, pct: float | None = None) -> None:
        """Appends a line, or the lines of a text, and sets the progress if it is given."""
        await self.write(job_id, {"log": line} if pct is None else {"log": line, "progress_pct": pct})

    async def read(
        self,
        job_id: str,
        *,
        logs: int | str | None = "all",
        logs_after: int | None = None,
        input: bool = False,
    ) -> Job | None:
        """The job with its log lines; `None` if there is none; see `JobStore.read`."""
        await self._settle(job_id)
        try:
            job = await self._job(routes.read(job_id, logs, logs_after, input))
            if logs == "all" and logs_after is None and is_cut(job):
                fill(job, [line async for line in self.logs(job_id)])
        except JobNotFound:
            return None
        return job

    async def create(
        self,
        kind: str | None = None,
        *,
        id: str | None = None,
        input: Any = None,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        **spec: Any,
    ) -> Job:
        """Makes a job; see `JobStore.create`."""
        spec = {"input": input, "labels": labels, **spec}
        return await self._job(routes.create(self.store.kind_of(kind), spec, id, idempotency_key))

    async def ensure(self, job_id: str, kind: str | None = None, **spec: Any) -> Job:
        """Makes sure that there is a job of this id, and returns it."""
        return await self._job(routes.create(self.store.kind_of(kind), spec, job_id, None))

    async def cancel(self, job_id: str, reason: str | None = None) -> Job:
        """Asks a job to end; a queued one is cancelled at once."""
        await self._settle(job_id)
        return await self._job(routes.cancel(job_id, reason))

    async def retry(self, job_id: str, attempt: int | None = None) -> Job:
        """Sends a done job back to the queue."""
        await self._settle(job_id)
        if attempt is None:
            attempt = (await self._job(routes.read(job_id, 0, None, input=False)))["attempt"]
        return await self._job(routes.retry(job_id, attempt))

    async def delete(self, job_id: str) -> None:
        """Removes a job."""
        await self._settle(job_id)
        await self._ask(routes.delete(job_id))

    async def list(
        self,
        *,
        status: Texts = None,
        kind: Texts = None,
        labels: Mapping[str, str] | None = None,
        q: str | None = None,
        order: str = "newest",
    ) -> AsyncGenerator[Job, None]:
        """The jobs that fit, page by page as they are asked for; without input, result and logs."""
        await self._settle(None)
        first = page = routes.jobs(status, kind, labels, q, order)
        while True:
            answer = await self._ask(page)
            for job in answer["jobs"]:
                yield job
            if answer["next"] is None:
                return
            page = routes.next_page(first, answer["next"])

    async def logs(self, job_id: str, after: int = 0) -> AsyncGenerator[LogLine, None]:
        """The lines after that number, page by page as they are asked for."""
        await self._settle(job_id)
        while True:
            page = await self._ask(routes.logs(job_id, after))
            for line in page["lines"]:
                yield line
            if not page["lines"]:
                return
            after = page["next"]

    async def wait(self, job_id: str, seconds: float | None = None) -> Job:
        """The job once it is done; after so many seconds as it is then."""
        await self._settle(job_id)
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            left = routes.WAIT_SECONDS if until is None else until - time.monotonic()
            job: Job = await self._ask(routes.wait(job_id, left))
            if job["done"] or (until is not None and time.monotonic() >= until - 1):
                return job

    async def watch(self, job_id: str, *, since: str | None = None, logs: int | str | None = None) -> AsyncGenerator[Event, None]:
        """What becomes of a job, until it is done; see `JobStore.watch`."""
        await self._settle(job_id)
        async with aclosing(self._events(routes.job_events(job_id, logs), since, ends=True)) as events:
            async for event in events:
                yield event

    async def watch_all(
        self,
        *,
        ids: Texts = None,
        status: Texts = None,
        kind: Texts = None,
        labels: Mapping[str, str] | None = None,
        since: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """What becomes of many jobs, without an end; see `JobStore.watch_all`."""
        async with aclosing(self._events(routes.all_events(ids, status, kind, labels), since, ends=False)) as events:
            async for event in events:
                yield event

    async def claim(
        self, kinds: Texts = None, *, worker: str | None = None, lease_seconds: int = 30, wait_seconds: float = 25
    ) -> Job | None:
        """The next queued job of these kinds, leased to the caller; `None` if none comes in time."""
        wanted = kinds if kinds is not None else self.store.kind_of(None)
        request = routes.claim(wanted, worker or routes.worker_name(), lease_seconds, wait_seconds)
        return cast("Job | None", await self._ask(request))

    async def heartbeat(self, job_id: str, attempt: int) -> Mapping[str, Any]:
        """Renews the lease of an attempt."""
        answer: Mapping[str, Any] = await self._ask(routes.heartbeat(job_id, attempt))
        return answer

    async def track(
        self,
        kind: str | None = None,
        *,
        id: str | None = None,
        input: Any = None,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        lease_seconds: int = 30,
        **spec: Any,
    ) -> AsyncTrackedJob:
        """Makes a job that this process works on now, as `JobStore.track`: `async with await store.track("restyle") as job`."""
        spec = {"input": input, "labels": labels, **spec, "status": "processing", "lease_seconds": lease_seconds}
        told = await self._transport.told(routes.create(self.store.kind_of(kind), spec, id, idempotency_key))
        job: Job = told.said
        if routes.waits_for_work(told):
            job = await self._take(job)
        # It may begin a process.
        return await asyncio.to_thread(AsyncTrackedJob, self.store, job, lease_seconds)

    async def write(self, job_id: str, patch: Mapping[str, Any], *, attempt: int | None = None, wait: bool | None = None) -> None:
        """What `update` does; see `JobStore.write`."""
        lines, members = parted(patch)
        if wait is None:
            wait = members.is_end
        # Whoever waits is told what was refused before once that is done.
        put = partial(self.store.put, job_id, members, lines, attempt, future=wait, is_checked=not wait)
        try:
            told = put(wait_seconds=0.0)
        except NoRoom:
            told = await asyncio.to_thread(put)
        if told is None:
            return
        seconds = self.store.patience_seconds
        try:
            # Cut short, it is told to the next call.
            await asyncio.wait_for(asyncio.wrap_future(told), seconds)
        except asyncio.TimeoutError:
            raise still_tried(seconds, job_id) from None
        self.store.check(job_id)

    async def flush(self, job_id: str | None = None, seconds: float | None = None) -> None:
        """Returns once all that was written, of one job or of all, is durable; see `JobStore.flush`."""
        await self._settle(job_id, seconds)
        self.store.check(job_id)

    async def close(self, seconds: float | None = None) -> None:
        """Sends what waits and lets go of the service; see `JobStore.close`."""
        try:
            await asyncio.to_thread(self.store.close, seconds)
        finally:
            await self._transport.close()

    async def __aenter__(self) -> AsyncJobStore:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def _settle(self, job_id: str | None, seconds: float | None = None) -> None:
        seconds = self.store.patience_seconds if seconds is None else seconds
        barriers = [asyncio.wrap_future(barrier) for barrier in self.store.barriers(job_id)]
        if barriers and (await asyncio.wait(barriers, timeout=seconds))[1]:
            raise still_tried(seconds, job_id)

    async def _take(self, job: Job) -> Job:
        try:
            begun = await self._job(routes.taking(job))
        except JobNotFound:
            raise
        except Refused as refused:
            begun = routes.taken_all_the_same(refused, job, await self.read(job["id"], logs=0))
        # Whose answer has no input.
        return cast("Job", {**job, **begun})

    async def _job(self, request: Request) -> Job:
        return cast("Job", await self._ask(request))

    async def _ask(self, request: Request) -> Any:
        return await self._transport.ask(request)

    async def _events(self, request: Request, since: str | None, *, ends: bool) -> AsyncGenerator[Event, None]:
        events = Events(since)
        retry = Retry(self._transport.patience_seconds)
        while True:
            at_least, why = events.retry_seconds, "the stream has ended"
            try:
                async with self._transport.client.stream(**stream_arguments(request, events.last_id)) as response:
                    if response.status_code == 204:
                        return
                    if response.status_code != 200:
                        await response.aread()
                        judged(response)
                    async for chunk in response.aiter_raw():
                        retry = Retry(self._transport.patience_seconds)
                        for event in events.feed(chunk):
                            yield event
                            if ends and event.event == "end":
                                return
            except httpx.TransportError as error:
                why = f"{type(error).__name__}: {error}"
            except Again as again:
                at_least, why = again.after_seconds, str(again)
            events.broken_off()
            await asyncio.sleep(retry.pause(why, at_least))

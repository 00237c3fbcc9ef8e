"""`@worker`: a function that is given the queued jobs of a kind, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import traceback
from typing import TYPE_CHECKING, Any, Callable

from . import routes
from .errors import Cancelled, Fenced, GivenBack, MilepostError, Unavailable
from .signals import Signals
from .store import JobStore
from .tracking import TrackedJob

if TYPE_CHECKING:
    from .documents import Job


log = logging.getLogger("milepost")

Work = Callable[[TrackedJob], Any]


class _Idle(Exception):
    """The worker is to stop and has no job."""


class Worker:
    """A function that works on jobs. Called, it is that function: tests can give it any job.

    What it returns is the job's result. What it raises fails the job, with a traceback in its log; `Failed` does so with a reason
    of its own. A coroutine function runs in an event loop of its own.
    """

    def __init__(self, work: Work, kinds: tuple[str, ...], lease_seconds: int) -> None:
        self.work = work
        self.kinds = kinds
        self.lease_seconds = lease_seconds
        self.__doc__ = work.__doc__
        self.__name__ = getattr(work, "__name__", "worker")

    def __call__(self, job: TrackedJob) -> Any:
        """Does the work, and nothing else."""
        return self.work(job)

    def run(
        self,
        store: JobStore | str | None = None,
        *,
        name: str | None = None,
        wait_seconds: float = 25,
        jobs_max: int | None = None,
    ) -> int:
        """Claims jobs and works on them until SIGTERM or SIGINT, or for so many jobs; returns how many there were.

        `store` may be an address. `name` is who this worker is, for whoever looks. A signal makes the job that is under way go
        back to the queue, by `GivenBack` raised in the work; a second one ends the process at once. Call it in the main thread;
        for several jobs at once run it in several processes.
        """
        if isinstance(store, JobStore):
            return self._run(store, name or routes.worker_name(), wait_seconds, jobs_max)
        with JobStore(store) as own:
            return self._run(own, name or routes.worker_name(), wait_seconds, jobs_max)

    def _run(self, store: JobStore, name: str, wait_seconds: float, jobs_max: int | None) -> int:
        count = 0
        with Signals() as signals:
            while not signals.is_stopping and (jobs_max is None or count < jobs_max):
                try:
                    with signals.raising(_Idle):
                        job = store.claim(self.kinds, worker=name, lease_seconds=self.lease_seconds, wait_seconds=wait_seconds)
                except _Idle:
                    break
                except Unavailable as error:
                    log.warning("no job: %s", error)
                    continue
                if job is not None:
                    count += 1
                    self._work_on(store, job, signals)
        return count

    def _work_on(self, store: JobStore, document: Job, signals: Signals) -> None:
        job = TrackedJob(store, document, self.lease_seconds)
        try:
            with job:
                try:
                    job.result = self._result(job, signals)
                except MilepostError:
                    raise
                except Exception:
                    # It is refused where the end will be refused, too.
                    with contextlib.suppress(MilepostError):
                        job.log(traceback.format_exc())
                    raise
        except (Cancelled, GivenBack, Fenced) as told:
            log.info("job %s: %s", job.id, told)
        except Exception:
            log.exception("job %s", job.id)

    def _result(self, job: TrackedJob, signals: Signals) -> Any:
        def give_back() -> GivenBack:
            return GivenBack("the worker has to stop")

        with signals.raising(give_back, job):
            result = self.work(job)
        if not inspect.iscoroutine(result):
            return result

        async def work() -> Any:
            loop, task = asyncio.get_running_loop(), asyncio.ensure_future(result)

            def stop() -> None:
                job.stop(give_back())
                loop.call_soon_threadsafe(task.cancel)

            with signals.doing(stop):
                return await task

        try:
            return asyncio.run(work())
        except asyncio.CancelledError:
            if signals.is_stopping:
                raise give_back() from None
            raise


def worker(*kinds: str, lease_seconds: int = 30) -> Callable[[Work], Worker]:
    """Makes a function work on the jobs of these kinds. Its worker is taken for dead when it is silent for `lease_seconds`.

    @worker("restyle")
    def restyle(job):
        job.stage("Restyling")
        ...
        return {"url": url}

    restyle.run("http://127.0.0.1:8080")
    """
    if not kinds or not all(isinstance(kind, str) for kind in kinds):
        raise TypeError('a worker is of some kind: @worker("restyle")')
    return lambda work: Worker(work, kinds, lease_seconds)

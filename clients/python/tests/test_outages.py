"""The service is killed and started again in the middle, and the network cuts, delays and repeats: every line is there once, in
order, and the end is right."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from typing import TYPE_CHECKING

import pytest
from telling import fresh, read, until
from unreliable import UnreliableNetwork

from milepost import AsyncJobStore, JobStore

if TYPE_CHECKING:
    from conftest import Service


def said(service: Service, job_ids: list[str]) -> int:
    """How many lines the service has."""
    with JobStore(service.url) as reader:
        jobs = [reader.read(job_id, logs=0) for job_id in job_ids]
    return sum(job["log_count"] for job in jobs if job is not None)


def test_reports_outlive_the_service(service: Service) -> None:
    job_ids = [fresh() for _ in range(5)]
    with JobStore(service.url, kind="test") as store:

        def work(job_id: str) -> None:
            for n in range(500):
                store.append_log(job_id, f"line {n}", pct=n / 5)
                if n % 100 == 0:
                    # It goes on when that is durable.
                    store.flush(job_id)
            store.update(job_id, status="completed", result={"lines": 500}, log="the end")

        workers = [threading.Thread(target=work, args=(job_id,)) for job_id in job_ids]
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            service.restart()
            before = said(service, job_ids)
            until(lambda: said(service, job_ids) > before or not any(worker.is_alive() for worker in workers))  # noqa: B023
        for job_id in job_ids:
            job = read(store, job_id)
            assert job["logs"] == [f"line {n}" for n in range(500)] + ["the end"]
            assert (job["status"], job["result"], job["progress_pct"]) == ("completed", {"lines": 500}, 100)


@pytest.mark.parametrize("seed", [int(os.environ.get("MILEPOST_SEED", random.SystemRandom().randrange(1 << 32)))])
def test_every_line_comes_once_over_any_network(shared: Service, seed: int) -> None:
    job_ids = [fresh() for _ in range(4)]
    with UnreliableNetwork(shared.port, seed) as network:
        with JobStore(network.url, kind="test", linger_seconds=0.001) as store:

            def work(job_id: str) -> None:
                for n in range(150):
                    store.append_log(job_id, f"line {n}")
                    if n % 10 == 0:
                        store.update(job_id, stage=f"stage {n}", progress=n / 2)
                        store.flush(job_id)
                store.update(job_id, status="failed", error=RuntimeError("as was to be shown"))

            workers = [threading.Thread(target=work, args=(job_id,)) for job_id in job_ids]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        assert min(network.happened[mode] for mode in ("cut before", "cut after", "late", "twice")) > 0, network.happened
    with JobStore(shared.url) as reader:
        for job_id in job_ids:
            job = read(reader, job_id)
            assert job["logs"] == [f"line {n}" for n in range(150)]
            assert (job["status"], job["stage"], job["progress_pct"]) == ("failed", "stage 140", 70)
            assert job["error"] == {"reason": "RuntimeError", "message": "as was to be shown"}


def test_whoever_makes_a_job_knows_it_over_any_network(shared: Service) -> None:
    with UnreliableNetwork(shared.port, 7) as network, JobStore(network.url, kind="test") as store:
        for _ in range(20):
            job_id = fresh()
            with store.track(id=job_id) as job:
                job.log("begun")
            assert read(store, job_id)["logs"] == ["begun"]
        assert min(network.happened[mode] for mode in ("cut before", "cut after", "late", "twice")) > 0, network.happened


def test_whoever_takes_a_job_knows_it_when_the_answer_is_lost(shared: Service) -> None:
    # None repeats a PATCH by itself: then somebody else was faster, as far as can be known.
    with UnreliableNetwork(shared.port, 7, ("pass", "cut after", "cut before", "late")) as network:
        with JobStore(network.url, kind="test") as store:
            for _ in range(20):
                waiting = store.create()
                with store.track(id=waiting["id"]) as job:
                    job.log("begun")
                assert read(store, job.id)["logs"] == ["begun"]
        assert network.happened["cut after"] > 5, network.happened


def test_the_same_from_an_event_loop(service: Service) -> None:
    job_ids = [fresh() for _ in range(5)]

    async def work(store: AsyncJobStore, job_id: str) -> None:
        for n in range(300):
            await store.append_log(job_id, f"line {n}")
            if n % 50 == 0:
                await store.flush(job_id)
        await store.update(job_id, status="completed", result=n)

    async def story() -> None:
        async with AsyncJobStore(service.url, kind="test") as store:
            work_on_all = asyncio.gather(*(work(store, job_id) for job_id in job_ids))
            while not work_on_all.done():
                await asyncio.to_thread(service.restart)
            await work_on_all
            for job_id in job_ids:
                job = await store.read(job_id)
                assert job is not None
                assert job["logs"] == [f"line {n}" for n in range(300)]
                assert (job["status"], job["result"]) == ("completed", 299)

    asyncio.run(story())


def test_whoever_watches_hears_everything_through_restarts(service: Service) -> None:
    job_id = fresh()
    with JobStore(service.url, kind="test") as store:
        store.append_log(job_id, "line 0")
        store.flush()

        def work() -> None:
            for n in range(1, 300):
                store.append_log(job_id, f"line {n}", pct=n / 3)
                if n % 100 == 0:
                    store.flush(job_id)
                    service.restart()
            store.update(job_id, status="completed", result="all")

        worker = threading.Thread(target=work)
        lines, versions, names = [], [], []
        with JobStore(service.url) as watcher:
            events = watcher.watch(job_id, logs="all")
            worker.start()
            for event in events:
                names.append(event.event)
                if event.event == "log":
                    lines.append(event.data["line"])
                elif event.event == "job":
                    versions.append(event.data["version"])
                    last = event.data
        worker.join()
    assert lines == [f"line {n}" for n in range(300)]
    assert versions == sorted(versions)
    assert (last["status"], last["result"]) == ("completed", "all")
    assert names[-1] == "end"
    assert "reset" not in names

"""`AsyncJobStore`, on the real service."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from telling import fresh, fresh_kind

from milepost import AsyncJobStore, Cancelled, Fenced, JobNotFound, JobStore, Undelivered

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from conftest import Service


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 60))


def test_what_is_written_is_read(shared: Service) -> None:
    async def story() -> None:
        async with AsyncJobStore(shared.url, kind="test") as store:
            job_id = (await store.create(input=[1]))["id"]
            await store.update(job_id, status="processing", stage="Matting")
            await store.append_log(job_id, "frame 1", pct=40)
            job = await store.read(job_id)
            assert job is not None
            assert (job["status"], job["stage"], job["progress_pct"], job["logs"]) == (
                "processing",
                "Matting",
                40,
                ["frame 1"],
            )
            await store.update(job_id, status="completed", result={"n": 1})
            with pytest.raises(Fenced):
                await store.update(job_id, status="failed")
            assert (await store.wait(job_id))["result"] == {"n": 1}
            assert (await store.retry(job_id, attempt=1))["status"] == "queued"
            assert (await store.cancel(job_id, "enough"))["status"] == "cancelled"
            assert [line["line"] async for line in store.logs(job_id)] == ["frame 1"]
            await store.delete(job_id)
            assert await store.read(job_id) is None
            assert (await store.ensure(fresh()))["status"] == "queued"
            with pytest.raises(JobNotFound):
                await store.wait(fresh())

    run(story())


def test_jobs_are_listed_claimed_and_watched(shared: Service) -> None:
    kind = fresh_kind()

    async def story() -> None:
        async with AsyncJobStore(shared.url, kind=kind) as store:
            made = [(await store.create())["id"] for _ in range(3)]
            assert [job["id"] async for job in store.list(kind=kind, order="oldest")] == made
            job = await store.claim(wait_seconds=1)
            assert job is not None
            assert job["id"] == made[0]
            assert (await store.heartbeat(job["id"], job["attempt"]))["status"] == "processing"

            async def follow() -> list[str]:
                return [event.event async for event in store.watch(made[0])]

            following = asyncio.create_task(follow())
            all_of_them = store.watch_all(ids=made)
            told = [await all_of_them.__anext__() for _ in range(4)]
            assert {event.data.get("id") for event in told} == {*made, None}
            await store.write(made[0], {"status": "completed"}, attempt=1)
            event = await all_of_them.__anext__()
            assert (event.event, event.data["id"], event.data["done"]) == ("job", made[0], True)
            await all_of_them.aclose()
            assert (await following)[-1] == "end"

    run(story())


def test_tracked_work_ends_as_it_ends(shared: Service) -> None:
    async def story() -> None:
        async with AsyncJobStore(shared.url, kind="test") as store:
            async with await store.track(input={"clip": 7}) as job:
                assert job.input == {"clip": 7}
                job.log("one", pct=10)
                job.result = {"url": "/v/1"}
            done = await store.read(job.id)
            assert done is not None
            assert (done["status"], done["result"], done["logs"]) == ("completed", {"url": "/v/1"}, ["one"])
            with pytest.raises(ZeroDivisionError):
                async with await store.track() as job:
                    _ = 1 / 0
            done = await store.read(job.id)
            assert done is not None
            assert (done["status"], done["logs"]) == ("failed", ["❌ division by zero"])

    run(story())


def test_a_busy_loop_does_not_hinder_reports_and_heartbeats(shared: Service) -> None:
    async def story() -> None:
        async with AsyncJobStore(shared.url, kind="test") as store:
            with JobStore(shared.url) as other:
                async with await store.track(lease_seconds=1) as job:
                    job.log("before")
                    busy_until = time.monotonic() + 2.5
                    seen = None
                    while time.monotonic() < busy_until:
                        seen = other.read(job.id)
                    assert seen is not None
                    assert (seen["attempt"], seen["status"], seen["logs"]) == (1, "processing", ["before"])
                job_id = job.id
            done = await store.read(job_id)
            assert done is not None
            assert done["status"] == "completed"

    run(story())


def test_a_cancel_is_raised_in_the_work(shared: Service) -> None:
    async def story() -> None:
        async with AsyncJobStore(shared.url, kind="test") as store:
            with pytest.raises(Cancelled):
                async with await store.track() as job:
                    await store.cancel(job.id)
                    while True:
                        job.progress(1)
                        await asyncio.sleep(0.01)
            done = await store.read(job.id)
            assert done is not None
            assert done["status"] == "cancelled"

    run(story())


def test_nothing_blocks_the_loop_while_the_service_is_away(service: Service) -> None:
    async def story() -> None:
        service.kill()
        store = AsyncJobStore(service.url, kind="test", patience_seconds=1.0, buffer_bytes_max=10_000)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        with pytest.raises(Undelivered, match="no room"):
            for _ in range(100):
                await store.append_log("j", "x" * 1000)
        with pytest.raises(Undelivered):
            await store.flush(seconds=0.5)
        with pytest.raises(Undelivered, match="given up"):
            await store.close(0.1)
        ticking.cancel()
        assert ticks > 30

    run(story())

"""`@worker`, as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from telling import fresh_kind, read, until

from milepost import Failed, JobStore, TrackedJob, worker

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Service


def test_jobs_are_worked_on_one_after_the_other(store: JobStore) -> None:
    kind, other = fresh_kind(), fresh_kind()

    @worker(kind, other)
    def square(job: TrackedJob) -> Any:
        """Squares."""
        job.log(f"squaring {job.input}")
        if job.input == 3:
            raise Failed("unlucky", "Not that one")
        return job.input**2

    made = [store.create(name, input=n)["id"] for name, n in ((kind, 2), (other, 3), (kind, "x"), (kind, 5))]
    assert square.run(store, name="gpu-7", wait_seconds=0, jobs_max=4) == 4
    jobs = [read(store, job_id) for job_id in made]
    assert [job["status"] for job in jobs] == ["completed", "failed", "failed", "completed"]
    assert (jobs[0]["result"], jobs[3]["result"], jobs[0]["worker"]) == (4, 25, "gpu-7")
    assert jobs[1]["error"] == {"reason": "unlucky", "message": "Not that one"}
    assert jobs[2]["error"]["reason"] == "TypeError"
    assert "Traceback (most recent call last):" in jobs[2]["logs"]
    assert jobs[2]["logs"][-1].startswith("❌ unsupported operand")
    assert square.__doc__ == "Squares."
    with store.track(input=9) as job:
        assert square(job) == 81
    with pytest.raises(TypeError, match="kind"):
        worker()


def test_a_coroutine_is_work_as_well(store: JobStore) -> None:
    kind = fresh_kind()

    @worker(kind)
    async def sleepy(job: TrackedJob) -> Any:
        import asyncio

        await asyncio.sleep(0.01)
        job.progress(50)
        return "slept"

    made = store.create(kind)["id"]
    assert sleepy.run(store, jobs_max=1) == 1
    assert read(store, made)["result"] == "slept"


def test_a_cancelled_job_is_cancelled_and_the_next_one_comes(store: JobStore) -> None:
    kind = fresh_kind()

    @worker(kind)
    def endless(job: TrackedJob) -> Any:
        if job.input == "short":
            return "done"
        store.cancel(job.id, "too long")
        while True:
            job.progress(1)
            time.sleep(0.005)

    first, second = store.create(kind)["id"], store.create(kind, input="short")["id"]
    assert endless.run(store, jobs_max=2) == 2
    assert read(store, first)["status"] == "cancelled"
    assert read(store, second)["result"] == "done"


WORKER = """
import sys, time
from milepost import worker

@worker(sys.argv[2], lease_seconds=5)
def slow(job):
    job.log("begun")
    for n in range(100_000):
        if job.input == "deaf":
            try:
                time.sleep(600)
            except Exception:
                time.sleep(600)
        time.sleep(0.01)
        if job.input == "busy":
            job.progress(n % 100)

slow.run(sys.argv[1])
print("ended", flush=True)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "slow.py"
    path.write_text(WORKER)
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("work", ["quiet", "busy"])
def test_a_signal_gives_the_job_back(store: JobStore, shared: Service, script: Path, number: int, work: str) -> None:
    kind = fresh_kind()
    made = store.create(kind, input=work)["id"]
    process = subprocess.Popen([sys.executable, str(script), shared.url, kind], stdout=subprocess.PIPE, text=True)
    until(lambda: read(store, made)["logs"] == ["begun"])
    process.send_signal(number)
    assert process.communicate(timeout=20)[0] == "ended\n"
    assert process.returncode == 0
    job = read(store, made)
    assert (job["status"], job["attempt"]) == ("queued", 2)
    assert job["logs"] == ["begun", "The worker has to stop and gives the job back"]


def test_an_idle_worker_ends_at_once(store: JobStore, shared: Service, script: Path) -> None:
    kind = fresh_kind()
    process = subprocess.Popen([sys.executable, str(script), shared.url, kind], stdout=subprocess.PIPE, text=True)
    made = store.create(kind, input="busy")["id"]
    until(lambda: read(store, made)["status"] == "processing")
    store.cancel(made)
    until(lambda: read(store, made)["done"])
    # It asks for the next one, or is about to.
    begun = time.monotonic()
    process.terminate()
    assert process.communicate(timeout=20)[0] == "ended\n"
    assert time.monotonic() - begun < 5
    assert process.returncode == 0


def test_a_second_signal_ends_work_that_does_not_listen(store: JobStore, shared: Service, script: Path) -> None:
    kind = fresh_kind()
    made = store.create(kind, input="deaf")["id"]
    process = subprocess.Popen([sys.executable, str(script), shared.url, kind], stdout=subprocess.PIPE, text=True)
    until(lambda: read(store, made)["logs"] == ["begun"])
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGTERM


def test_a_worker_outlives_the_service(service: Service, script: Path) -> None:
    kind = fresh_kind()
    with JobStore(service.url, kind=kind) as store:
        process = subprocess.Popen([sys.executable, str(script), service.url, kind], stdout=subprocess.PIPE, text=True)
        service.restart()
        made = store.create(input="busy")["id"]
        until(lambda: read(store, made)["status"] == "processing")
        service.restart()
        version = read(store, made)["version"]
        until(lambda: read(store, made)["version"] > version)
        process.terminate()
        assert process.communicate(timeout=20)[0] == "ended\n"
        assert read(store, made)["status"] == "queued"

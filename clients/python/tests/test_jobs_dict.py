"""`JobsDict`: the same program does the same on a dict and on the service."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

import pytest
from telling import fresh, fresh_kind, read, until

from milepost import Fenced, JobsDict, JobStore

if TYPE_CHECKING:
    from conftest import Service

Jobs = MutableMapping[str, Any]


@pytest.fixture(params=["dict", "JobsDict"])
def jobs(request: pytest.FixtureRequest, shared: Service) -> Iterator[Jobs]:
    """What the program keeps its jobs in."""
    if request.param == "dict":
        yield {}
    else:
        with JobsDict(shared.url, kind=fresh_kind()) as on_service:
            yield on_service


# The program, as it is found in web processes.


def submit(jobs: Jobs, clip: str) -> str:
    job_id = str(uuid.uuid4())
    jobs[job_id] = {"status": "queued", "logs": [], "progress_pct": 0, "result": None, "clip": clip}
    return job_id


def run_pipeline(jobs: Jobs, job_id: str) -> None:
    try:
        jobs[job_id]["status"] = "processing"
        for n in range(1, 6):
            jobs[job_id]["logs"].append(f"frame {n} of {jobs[job_id]['clip']}")
            jobs[job_id]["progress_pct"] = n * 20
            if jobs[job_id]["clip"] == "broken.mp4" and n == 3:
                raise ValueError("no such frame")
        # In the wrong order, as usual.
        jobs[job_id]["status"] = "completed"
        jobs[job_id]["result"] = {"url": f"/out/{jobs[job_id]['clip']}"}
    except Exception as error:
        jobs[job_id]["status"] = "failed"
        jobs[job_id]["error"] = str(error)
        jobs[job_id]["logs"].append(f"❌ {error}")


def status(jobs: Jobs, job_id: str) -> Any:
    if job_id not in jobs:
        return {"detail": "Job not found"}
    job = jobs[job_id]
    return {"status": job["status"], "logs": list(job["logs"]), "result": job.get("result"), "error": job.get("error")}


# Its tests.


def test_a_job_runs(jobs: Jobs) -> None:
    job_id = submit(jobs, "1.mp4")
    assert status(jobs, job_id) == {"status": "queued", "logs": [], "result": None, "error": None}
    run_pipeline(jobs, job_id)
    assert status(jobs, job_id) == {
        "status": "completed",
        "logs": [f"frame {n} of 1.mp4" for n in range(1, 6)],
        "result": {"url": "/out/1.mp4"},
        "error": None,
    }


def test_a_job_fails(jobs: Jobs) -> None:
    job_id = submit(jobs, "broken.mp4")
    run_pipeline(jobs, job_id)
    told = status(jobs, job_id)
    assert (told["status"], told["error"], told["logs"][-1]) == ("failed", "no such frame", "❌ no such frame")
    assert jobs[job_id]["progress_pct"] == 60


def test_jobs_that_are_not_there(jobs: Jobs) -> None:
    assert status(jobs, "nope") == {"detail": "Job not found"}
    with pytest.raises(KeyError):
        jobs["nope"]
    with pytest.raises(KeyError):
        del jobs["nope"]
    assert jobs.get("nope") is None
    assert jobs.pop("nope", 7) == 7


def test_it_is_a_mapping(jobs: Jobs) -> None:
    assert len(jobs) == 0
    ids = [submit(jobs, f"{n}.mp4") for n in range(3)]
    assert list(jobs) == ids
    assert len(jobs) == 3
    assert ids[0] in jobs
    assert {job_id: job["clip"] for job_id, job in jobs.items()} == {ids[n]: f"{n}.mp4" for n in range(3)}
    del jobs[ids[1]]
    assert list(jobs) == [ids[0], ids[2]]
    assert jobs.setdefault(ids[0], {"status": "queued", "logs": []})["clip"] == "0.mp4"
    jobs.clear()
    assert not jobs


def test_an_entry_is_a_mapping(jobs: Jobs) -> None:
    job_id = submit(jobs, "1.mp4")
    job = jobs[job_id]
    assert job == {"status": "queued", "logs": [], "progress_pct": 0, "result": None, "clip": "1.mp4"}
    assert list(job) == ["status", "logs", "progress_pct", "result", "clip"]
    assert len(job) == 5
    assert "error" not in job
    with pytest.raises(KeyError):
        job["error"]
    job.update(progress_pct=12.5, result={"partial": [1, None, "ä"]})
    job["width"] = 1920
    job["output_dir"] = "/tmp/out"
    assert job["width"] == 1920
    assert dict(job)["output_dir"] == "/tmp/out"
    del job["width"]
    assert "width" not in job
    assert job.get("width", 7) == 7
    job["progress_pct"] += 2.5
    assert jobs[job_id]["progress_pct"] == 15
    assert jobs[job_id]["result"]["partial"] == [1, None, "ä"]
    assert repr(job) == repr(dict(job.items()))


def test_the_log_is_a_list(jobs: Jobs) -> None:
    job_id = submit(jobs, "1.mp4")
    logs = jobs[job_id]["logs"]
    logs.append("one")
    logs.extend(["two", "three"])
    jobs[job_id]["logs"] += ["four\nand a half"]
    jobs[job_id]["logs"] = [*jobs[job_id]["logs"], "five"]
    assert jobs[job_id]["logs"] == ["one", "two", "three", "four\nand a half", "five"]
    assert jobs[job_id]["logs"][-1] == "five"
    assert jobs[job_id]["logs"][1:3] == ["two", "three"]
    assert len(jobs[job_id]["logs"]) == 5
    assert "two" in jobs[job_id]["logs"]
    assert jobs[job_id]["logs"] + ["six"] == ["one", "two", "three", "four\nand a half", "five", "six"]


def test_a_job_runs_once_more(jobs: Jobs) -> None:
    job_id = submit(jobs, "1.mp4")
    run_pipeline(jobs, job_id)
    jobs[job_id]["status"] = "queued"
    assert jobs[job_id]["status"] == "queued"
    jobs[job_id].update(status="processing", progress_pct=10)
    assert jobs[job_id]["status"] == "processing"
    assert jobs[job_id]["progress_pct"] == 10
    jobs[job_id].update({"status": "completed", "result": 2})
    assert (jobs[job_id]["status"], jobs[job_id]["result"]) == ("completed", 2)


def test_another_job_takes_the_place_of_one(jobs: Jobs) -> None:
    job_id = submit(jobs, "1.mp4")
    jobs[job_id].update(result=1, progress_pct=50)
    jobs[job_id] = {"status": "processing", "logs": [], "progress_pct": 5, "result": None, "clip": "2.mp4"}
    assert status(jobs, job_id) == {"status": "processing", "logs": [], "result": None, "error": None}
    assert (jobs[job_id]["progress_pct"], jobs[job_id]["clip"]) == (5, "2.mp4")
    jobs[job_id] = {"status": "completed", "logs": ["done"], "result": 3}
    assert (jobs[job_id]["status"], jobs[job_id]["result"], jobs[job_id]["logs"]) == ("completed", 3, ["done"])


def test_threads_write_to_the_same_job(jobs: Jobs) -> None:
    job_id = submit(jobs, "1.mp4")

    def write(name: str) -> None:
        for n in range(50):
            jobs[job_id]["logs"].append(f"{name}{n}")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = list(jobs[job_id]["logs"])
    for name in "abc":
        assert [line for line in lines if line[0] == name] == [f"{name}{n}" for n in range(50)]


# What only the service has.


def test_nobody_sees_completed_without_its_result(shared: Service) -> None:
    with JobsDict(shared.url, kind=fresh_kind(), settle_seconds=0.3) as jobs, JobStore(shared.url) as store:
        job_id = submit(jobs, "1.mp4")
        jobs.flush()
        seen: list[Any] = []

        def watch() -> None:
            with JobStore(shared.url) as other:
                seen.extend(event.data for event in other.watch(job_id) if event.event == "job")

        watcher = threading.Thread(target=watch)
        watcher.start()
        run_pipeline(jobs, job_id)
        assert jobs[job_id]["status"] == "completed"
        watcher.join()
        assert seen[-1]["status"] == "completed"
        assert all("result" in job for job in seen if job["status"] == "completed")
        assert read(store, job_id)["result"] == {"url": "/out/1.mp4"}


def test_too_late_is_an_error(shared: Service) -> None:
    with JobsDict(shared.url, kind=fresh_kind(), settle_seconds=0.01) as jobs, JobStore(shared.url) as store:
        job_id = submit(jobs, "1.mp4")
        jobs[job_id]["status"] = "completed"
        until(lambda: read(store, job_id)["done"])
        jobs[job_id]["result"] = "late"
        with pytest.raises(Fenced):
            jobs.flush()


def test_others_are_seen_and_words_are_the_programs_own(shared: Service) -> None:
    kind = fresh_kind()
    with JobsDict(shared.url, kind=kind, statuses={"failed": "error", "queued": "pending"}) as jobs:
        with JobStore(shared.url) as store:
            other = store.create(kind, log="by another", status="processing")["id"]
            foreign = store.create(fresh_kind())["id"]
            assert jobs[other] == {"status": "processing", "logs": ["by another"]}
            assert foreign not in jobs
            jobs[other]["status"] = "error"
            assert jobs[other]["status"] == "error"
            jobs.flush()
            assert read(store, other)["status"] == "failed"
        job_id = fresh()
        jobs[job_id] = {"status": "pending", "logs": ["a"]}
        assert jobs[job_id] == {"status": "pending", "logs": ["a"]}
        with pytest.raises(ValueError, match="256 bytes"):
            jobs[job_id]["notes"] = "x" * 300
        with pytest.raises(TypeError, match="stay"):
            jobs[job_id]["logs"] = []


def test_what_was_held_back_is_seen_while_it_is_sent(shared: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    with JobsDict(shared.url, kind=fresh_kind(), settle_seconds=60) as jobs:
        job_id = submit(jobs, "1.mp4")
        jobs[job_id]["status"] = "completed"
        seen: list[Any] = []
        send = jobs._send

        def watched(*arguments: Any, **named: Any) -> None:
            seen.append(jobs[job_id]["status"])
            send(*arguments, **named)
            seen.append(jobs[job_id]["status"])

        monkeypatch.setattr(jobs, "_send", watched)
        jobs.flush()
        assert seen == ["completed", "completed"]
        assert jobs[job_id]["status"] == "completed"


def test_what_is_held_back_is_sent_at_the_end(shared: Service) -> None:
    with JobStore(shared.url) as store:
        jobs = JobsDict(shared.url, kind=fresh_kind(), settle_seconds=60)
        job_id = submit(jobs, "1.mp4")
        jobs[job_id]["status"] = "completed"
        assert read(store, job_id)["status"] == "queued"
        begun = time.monotonic()
        jobs.close()
        assert time.monotonic() - begun < 10
        assert read(store, job_id)["status"] == "completed"

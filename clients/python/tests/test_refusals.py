"""What is refused takes nothing else with it, and is told to somebody."""

from __future__ import annotations

import json
import logging
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from secure import SecureNetwork
from telling import fresh, fresh_kind, read, until

from milepost import (
    AsyncJobStore,
    Fenced,
    JobLogHandler,
    JobsDict,
    JobStore,
    MilepostError,
    Refused,
    TrackedJob,
    Undelivered,
    worker,
)
from milepost.transport import _trusted

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Service

BAD_STAGE = "a\x00b"
TOO_MUCH = "x" * 300_000


def test_lines_and_other_members_come_all_the_same(store: JobStore) -> None:
    job_id = fresh()
    for n in range(100):
        store.append_log(job_id, f"line {n}")
    store.update(job_id, stage=BAD_STAGE, progress=40)
    store.update(job_id, labels={"user": "42"})
    job = read(store, job_id)
    assert job["logs"] == [f"line {n}" for n in range(100)]
    assert (job["stage"], job["progress_pct"], job["labels"]) == (None, 40, {"user": "42"})
    with pytest.raises(Refused, match="stage"):
        store.flush(job_id)
    store.flush(job_id)


def test_an_earlier_refusal_does_not_stop_the_end(store: JobStore) -> None:
    with pytest.raises(Refused, match="stage"), store.track() as job:
        job.stage(BAD_STAGE)
        job.result = "made"
    done = read(store, job.id)
    assert (done["status"], done["result"]) == ("completed", "made")
    with pytest.raises(ZeroDivisionError), store.track() as job:
        job.stage(BAD_STAGE)
        _ = 1 / 0
    assert read(store, job.id)["logs"] == ["❌ division by zero"]


@pytest.mark.parametrize("result", [object(), float("nan"), TOO_MUCH])
def test_a_result_that_cannot_be_stored_fails_the_job(store: JobStore, result: object) -> None:
    with pytest.raises((TypeError, ValueError, Refused)), store.track() as job:
        job.result = result
    failed = read(store, job.id)
    assert (failed["status"], failed["error"]["reason"], failed["result"]) == ("failed", "bad_result", None)


def test_an_end_with_a_result_that_is_refused_is_no_end(store: JobStore) -> None:
    job_id = fresh()
    with pytest.raises(Refused):
        store.update(job_id, status="completed", result=TOO_MUCH, log="made")
    job = read(store, job_id)
    assert (job["status"], job["logs"]) == ("queued", ["made"])


def test_the_same_process_works_on_a_job_again(store: JobStore) -> None:
    kind = fresh_kind()

    @worker(kind)
    def second_time(job: TrackedJob) -> int:
        job.log(f"attempt {job.attempt}")
        if job.attempt == 1:
            raise RuntimeError("not yet")
        job.log("now")
        return job.attempt

    made = store.create(kind)["id"]
    second_time.run(store, jobs_max=1)
    # Without an attempt it is the one that has failed.
    assert store.retry(made)["attempt"] == 2
    second_time.run(store, jobs_max=1)
    job = read(store, made)
    assert (job["status"], job["result"]) == ("completed", 2)
    assert job["logs"][-2:] == ["attempt 2", "now"]


def test_each_refusal_is_told_to_somebody(shared: Service) -> None:
    told: list[str] = []
    first, second = fresh(), fresh()
    with JobStore(shared.url, kind="test", on_error=lambda job_id, _: told.append(job_id)) as store:
        for job_id in (first, second):
            store.append_log(job_id, "begun")
            store.update(job_id, stage=BAD_STAGE)
        # A reader has nothing to do with it.
        assert read(store, first)["stage"] is None
        for _ in range(2):
            with pytest.raises(Refused):
                store.flush()
        store.flush()
    assert sorted(told) == sorted([first, second])
    store = JobStore(shared.url, kind="test")
    store.update(first, stage=BAD_STAGE)
    with pytest.raises(Refused):
        store.close()
    store.close()


def test_what_nobody_waits_for_any_more_is_told_to_the_next_call(service: Service) -> None:
    with JobStore(service.url, kind="test", patience_seconds=0.2) as store:
        service.kill()
        with pytest.raises(Undelivered, match="still tried"):
            store.update("j", status="completed", result=TOO_MUCH)
        store.patience_seconds = 30.0
        service.start()
        with pytest.raises(Refused):
            store.flush("j")


def test_a_dict_whose_job_was_refused_something_still_ends(shared: Service) -> None:
    with JobsDict(shared.url, kind=fresh_kind(), settle_seconds=0.05) as jobs, JobStore(shared.url) as store:
        job_id = fresh()
        jobs[job_id] = {"status": "processing", "logs": []}
        jobs[job_id]["stage"] = BAD_STAGE
        until(lambda: jobs.store.known(job_id) is None or jobs.store._outbox._failed)
        jobs[job_id]["status"] = "completed"
        until(lambda: read(store, job_id)["status"] == "completed")
        with pytest.raises(Refused, match="stage"):
            jobs.flush()


def test_a_closed_store_says_so(shared: Service) -> None:
    store = JobStore(shared.url, kind="test")
    job_id = fresh()
    store.append_log(job_id, "line")
    store.close()
    for call in (lambda: store.append_log(job_id, "x"), lambda: store.read(job_id), lambda: list(store.list())):
        with pytest.raises(MilepostError, match="closed"):
            call()


def test_closing_takes_no_longer_than_it_may(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = JobStore(f"http://127.0.0.1:{silent.getsockname()[1]}")
        store.append_log("j", "line")
        begun = time.monotonic()
        with pytest.raises(Undelivered, match="given up"):
            store.close(0.1)
        assert time.monotonic() - begun < 5
    assert service.process is not None


def test_a_handler_never_waits_for_the_sender(shared: Service) -> None:
    # The HTTP client logs each request, on the thread that has to make room.
    root = logging.getLogger()
    before = root.level
    with JobStore(shared.url, kind="test", buffer_bytes_max=5_000, patience_seconds=20) as store, store.track() as job:
        with JobLogHandler(job).attached(root):
            root.setLevel(logging.INFO)
            try:
                begun = time.monotonic()
                for n in range(100):
                    root.info("%d %s", n, "x" * 1000)
                assert time.monotonic() - begun < 15
            finally:
                root.setLevel(before)
        assert len(read(store, job.id)["logs"]) == 100


def test_a_handler_may_be_of_one_thread(store: JobStore) -> None:
    logger = logging.getLogger("threads")
    with store.track() as job, JobLogHandler(job, is_of_this_thread=True).attached(logger):
        other = threading.Thread(target=logger.warning, args=("of another",))
        other.start()
        other.join()
        logger.warning("of this")
    assert read(store, job.id)["logs"] == ["of this"]


def test_many_watch_and_reports_go_on(shared: Service) -> None:
    with JobStore(shared.url, kind="test") as store:
        job_id = fresh()
        store.append_log(job_id, "begun")
        streams = [store.watch(job_id) for _ in range(110)]
        for stream in streams:
            next(stream)
        store.append_log(job_id, "heard")
        assert read(store, job_id)["logs"] == ["begun", "heard"]
        for stream in streams:
            stream.close()  # type: ignore[attr-defined]


def test_a_log_that_is_longer_than_an_answer_is_read_whole(store: JobStore) -> None:
    job_id = fresh()
    lines = [f"{n} " + "x" * 1000 for n in range(2500)]
    store.update(job_id, log=lines)
    job = read(store, job_id)
    assert (job["logs"], job["logs_from"]) == (lines, 1)


def test_lines_are_what_they_look_like(store: JobStore) -> None:
    job_id = fresh()
    store.append_log(job_id, b"bytes \xff")  # type: ignore[arg-type]
    store.append_log(job_id, ValueError("an error"))  # type: ignore[arg-type]
    store.update(job_id, log=("one", 2))
    assert read(store, job_id)["logs"] == ["bytes \ufffd", "an error", "one", "2"]


def test_a_job_that_is_done_is_not_tracked(store: JobStore) -> None:
    job_id = store.create("restyle")["id"]
    store.cancel(job_id)
    with pytest.raises(Fenced, match="cancelled"):
        store.track("restyle", id=job_id)


def test_a_job_that_somebody_works_on_is_not_tracked(store: JobStore) -> None:
    job_id = fresh()
    with store.track("restyle", id=job_id) as job:
        with pytest.raises(Fenced, match="somebody works on"):
            store.track("restyle", id=job_id)
        job.log("still here")
    assert read(store, job_id)["status"] == "completed"
    # One that waits is for whoever takes it.
    waiting = store.create("restyle")
    with store.track("restyle", id=waiting["id"]):
        assert read(store, waiting["id"])["status"] == "processing"


def test_a_key_is_for_one_job(store: JobStore) -> None:
    key = fresh()
    with store.track("restyle", idempotency_key=key) as job:
        pass
    with pytest.raises(Fenced, match=f"{job.id} is completed"):
        store.track("restyle", idempotency_key=key)


def test_of_many_that_would_make_a_job_one_tracks_it(shared: Service) -> None:
    for _ in range(5):
        job_id, barrier = fresh(), threading.Barrier(8)
        ended: list[str] = []

        def work(job_id: str = job_id, barrier: threading.Barrier = barrier, ended: list[str] = ended) -> None:
            with JobStore(shared.url, kind="test") as store:
                barrier.wait()
                try:
                    with store.track(id=job_id):
                        ended.append("worked")
                        until(lambda: len(ended) == 8)
                except Fenced:
                    ended.append("fenced")

        workers = [threading.Thread(target=work) for _ in range(8)]
        for thread in workers:
            thread.start()
        for thread in workers:
            thread.join()
        assert sorted(ended) == ["fenced"] * 7 + ["worked"]


def test_more_writers_than_are_counted_lose_no_line(shared: Service) -> None:
    job_id = fresh()
    for n in range(70):
        with JobStore(shared.url, kind="test", linger_seconds=0) as store:
            store.append_log(job_id, f"process {n}")
    with JobStore(shared.url) as store:
        assert read(store, job_id)["logs"] == [f"process {n}" for n in range(70)]


def test_work_that_swallows_the_signal_is_told_again(store: JobStore) -> None:
    kind = fresh_kind()
    reported = 0

    @worker(kind)
    def stubborn(job: TrackedJob) -> None:
        nonlocal reported
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception:
            reported += 1
        job.log("going on")

    made = store.create(kind)["id"]
    assert stubborn.run(store) == 1
    assert reported == 1
    assert read(store, made)["status"] == "queued"


def test_a_coroutine_is_stopped_where_it_waits(store: JobStore) -> None:
    import asyncio

    kind = fresh_kind()

    @worker(kind)
    async def endless(job: TrackedJob) -> None:
        async def helper() -> None:
            while True:
                await asyncio.sleep(0)

        helping = asyncio.create_task(helper())
        job.log("begun")
        asyncio.get_running_loop().call_later(0.2, signal.raise_signal, signal.SIGTERM)
        await helping

    made = store.create(kind)["id"]
    assert endless.run(store) == 1
    job = read(store, made)
    assert (job["status"], job["attempt"]) == ("queued", 2)


def test_a_loop_is_not_blocked_by_the_end_of_a_job(service: Service) -> None:
    import asyncio

    async def story() -> None:
        async with AsyncJobStore(service.url, kind="test") as store:
            job = await store.track()
            assert service.process is not None
            service.process.send_signal(signal.SIGSTOP)
            ending = asyncio.create_task(job.complete("made"))
            for _ in range(20):
                begun = time.monotonic()
                await asyncio.sleep(0.01)
                assert time.monotonic() - begun < 1
            assert not ending.done()
            service.process.send_signal(signal.SIGCONT)
            await ending
            done = await store.read(job.id)
            assert done is not None
            assert done["result"] == "made"

    asyncio.run(story())


@pytest.mark.parametrize("executable", ["/nonexistent/python", "/bin/false"])
def test_a_thread_renews_leases_where_no_process_can(
    store: JobStore, monkeypatch: pytest.MonkeyPatch, executable: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("milepost.pulse.sys.executable", executable)
    with store.track(lease_seconds=1) as job:
        before = read(store, job.id)["lease_expires_at"]
        until(lambda: read(store, job.id)["lease_expires_at"] > before)
    assert "leases are renewed by a thread" in caplog.text


def test_options_of_the_http_client_are_those_of_heartbeats(shared: Service) -> None:
    with JobStore(shared.url, kind="test", http={"auth": ("user", "secret")}) as store, store.track(lease_seconds=1) as job:
        assert store.pulse()._process is None
        before = read(store, job.id)["lease_expires_at"]
        until(lambda: read(store, job.id)["lease_expires_at"] > before)


@pytest.mark.parametrize("is_told", [True, False])
def test_heartbeats_trust_whom_requests_trust(
    shared: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_told: bool
) -> None:
    with SecureNetwork(shared.port, tmp_path) as network:
        monkeypatch.delenv("SSL_CERT_DIR", raising=False)
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        if is_told:
            monkeypatch.setenv("SSL_CERT_FILE", str(network.roots))
        else:
            # As if that authority was one of those that come with httpx.
            monkeypatch.setattr("certifi.where", lambda: str(network.roots))
        _trusted.cache_clear()
        try:
            with JobStore(network.url, kind="test") as store, store.track(lease_seconds=1) as job:
                assert store.pulse()._process is not None
                before = read(store, job.id)["lease_expires_at"]
                until(lambda: read(store, job.id)["lease_expires_at"] > before)
        finally:
            _trusted.cache_clear()


def test_heartbeats_take_the_way_of_requests(shared: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", shared.url)
    monkeypatch.setenv("NO_PROXY", "")
    # Whoever is asked as a proxy for another address answers all the same.
    with JobStore("http://jobs.invalid", kind="test") as store, store.track(lease_seconds=1) as job:
        assert store.pulse()._process is None
        before = read(store, job.id)["lease_expires_at"]
        until(lambda: read(store, job.id)["lease_expires_at"] > before)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with JobStore(shared.url, kind="test") as store, store.track(lease_seconds=1):
        assert store.pulse()._process is not None


def test_a_dict_refuses_at_once_what_has_no_json(shared: Service) -> None:
    with JobsDict(shared.url, kind=fresh_kind()) as jobs:
        job_id = fresh()
        jobs[job_id] = {"status": "processing", "logs": []}
        with pytest.raises(TypeError):
            jobs[job_id].update(status="completed", result=object())
        assert jobs[job_id]["status"] == "processing"


def test_a_dict_is_what_frameworks_take_it_for(shared: Service) -> None:
    encoders = pytest.importorskip("fastapi.encoders")
    with JobsDict(shared.url, kind=fresh_kind()) as jobs:
        job_id = fresh()
        jobs[job_id] = {"status": "processing", "logs": ["a"], "result": {"clips": []}}
        jobs[job_id]["result"]["clips"].append({"url": "/1"})
        jobs[job_id]["result"]["clips"][0]["seconds"] = 2
        jobs[job_id]["result"].setdefault("more", []).append(3)
        jobs[job_id]["outputUrl"] = "/v/1"
        plain = {
            "status": "processing",
            "logs": ["a"],
            "result": {"clips": [{"url": "/1", "seconds": 2}], "more": [3]},
            "outputUrl": "/v/1",
        }
        assert encoders.jsonable_encoder(jobs[job_id]) == plain
        assert json.loads(json.dumps({"logs": jobs[job_id]["logs"]})) == {"logs": ["a"]}
        assert [*jobs[job_id]["logs"], "b"] == ["b"][:0] + jobs[job_id]["logs"] + ["b"]
        popped = jobs.pop(job_id)
        assert popped == plain
        assert type(popped) is dict
        assert job_id not in jobs


def test_a_reader_does_not_hold_up_a_writer(service: Service) -> None:
    with JobsDict(service.url, kind="test") as jobs:
        jobs["a"] = {"status": "processing", "logs": []}
        jobs["b"] = {"status": "processing", "logs": []}
        assert service.process is not None
        service.process.send_signal(signal.SIGSTOP)
        reader = threading.Thread(target=lambda: jobs["b"]["status"])
        reader.start()
        begun = time.monotonic()
        jobs["a"]["progress_pct"] = 5
        jobs["a"]["logs"].append("line")
        assert time.monotonic() - begun < 1
        service.process.send_signal(signal.SIGCONT)
        reader.join()

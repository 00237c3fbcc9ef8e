"""`JobStore`, on the real service."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from telling import fresh, read

from milepost import Fenced, JobNotFound, JobStore, MilepostError, Refused, Unavailable, Undelivered

if TYPE_CHECKING:
    from conftest import Service


def test_what_is_written_is_read(store: JobStore) -> None:
    job_id = store.create("restyle", input={"clip": 1}, labels={"user": "42"})["id"]
    store.update(job_id, status="processing", progress=30, message="Matting", labels={"gpu": 7})
    store.append_log(job_id, "frame 1")
    store.append_log(job_id, "frame 2\nframe 3", pct=40)
    job = read(store, job_id)
    assert (job["status"], job["progress_pct"], job["stage"]) == ("processing", 40, "Matting")
    assert job["logs"] == ["frame 1", "frame 2", "frame 3"]
    assert job["labels"] == {"user": "42", "gpu": "7"}
    store.update(job_id, status="completed", result={"url": "/v/1"})
    job = read(store, job_id)
    assert (job["status"], job["outcome"], job["result"]) == ("completed", "succeeded", {"url": "/v/1"})
    assert "input" not in job
    assert read(store, job_id, input=True)["input"] == {"clip": 1}
    assert read(store, job_id, logs_after=2)["logs"] == ["frame 3"]


def test_there_is_no_job(store: JobStore) -> None:
    assert store.read(fresh()) is None
    with pytest.raises(JobNotFound):
        store.wait(fresh())
    with pytest.raises(JobNotFound):
        next(store.watch(fresh()))


def test_a_job_that_is_written_to_is_made_of_the_kind_of_the_store(store: JobStore, shared: Service) -> None:
    job_id = fresh()
    store.append_log(job_id, "hello")
    assert read(store, job_id)["kind"] == "test"
    with JobStore(shared.url) as kindless:
        other = fresh()
        kindless.append_log(other, "hello")
        with pytest.raises(JobNotFound):
            kindless.flush(other)
        kindless.flush(other)
        with pytest.raises(TypeError, match="kind"):
            kindless.ensure(other)


def test_many_reports_become_few_requests_and_no_line_is_missing(store: JobStore) -> None:
    job_id = fresh()
    for n in range(1000):
        store.append_log(job_id, f"line {n}", pct=n / 10)
    job = read(store, job_id)
    assert job["logs"] == [f"line {n}" for n in range(1000)]
    assert job["progress_pct"] == 99.9
    assert job["version"] < 100, "reports are not sent one by one"


def test_lines_of_many_threads_are_there_once_and_in_each_ones_order(store: JobStore) -> None:
    job_id = fresh()

    def write(name: str) -> None:
        for n in range(200):
            store.append_log(job_id, f"{name} {n}")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = read(store, job_id)["logs"]
    assert len(lines) == 800
    for name in "abcd":
        assert [line for line in lines if line.startswith(name)] == [f"{name} {n}" for n in range(200)]


def test_large_logs_go_in_several_steps(store: JobStore) -> None:
    job_id = fresh()
    lines = [f"{n} " + "x" * 1000 for n in range(3000)]
    store.update(job_id, log=lines, stage="All of them")
    assert [line["line"] for line in store.logs(job_id)] == lines
    assert read(store, job_id)["stage"] == "All of them"
    store.append_log(job_id, "y" * 100_000)
    last = next(iter(store.logs(job_id, after=3000)))["line"]
    assert last.startswith("yyy")
    assert last.endswith("[cut]")


@pytest.mark.parametrize(
    ("patch", "wrong"),
    [
        ({"logs": ["x"]}, "logs"),
        ({"progress": 1, "pct": 2}, "twice"),
        ({"result": object()}, "JSON"),
        ({"progress": 150}, "0 to 100"),
        ({"stage": "x" * 300}, "256 bytes"),
        ({"result": float("nan")}, "range float|not JSON compliant"),
    ],
)
def test_what_no_job_can_be_set_to_is_an_error_at_once(store: JobStore, patch: dict[str, Any], wrong: str) -> None:
    with pytest.raises((TypeError, ValueError), match=wrong):
        store.update(fresh(), **patch)


def test_what_is_refused_is_raised_by_the_next_call_and_told_once(shared: Service) -> None:
    told: list[tuple[str, MilepostError]] = []
    with JobStore(shared.url, kind="test", on_error=lambda job_id, error: told.append((job_id, error))) as other:
        job_id = fresh()
        other.update(job_id, stage="a\x00b")
        deadline = time.monotonic() + 10
        while not told and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(Refused, match="stage") as caught:
            other.append_log(job_id, "never mind")
        assert caught.value.code == "invalid_field"
        assert [job for job, _ in told] == [job_id]
        # It was told; the line was not taken.
        other.append_log(job_id, "next")
        assert read(other, job_id)["logs"] == ["next"]


def test_an_end_is_told_at_once(store: JobStore) -> None:
    job_id = fresh()
    store.update(job_id, status="completed")
    with pytest.raises(Fenced, match="already_finished"):
        store.update(job_id, status="failed", error=ValueError("late"))
    assert read(store, job_id)["status"] == "completed"


def test_the_last_lines_come_after_somebody_else_has_ended_the_job(store: JobStore, shared: Service) -> None:
    job_id = fresh()
    store.update(job_id, status="processing")
    store.flush()
    with JobStore(shared.url) as other:
        other.update(job_id, status="cancelled")
    store.append_log(job_id, "last words")
    store.update(job_id, stage="Cleaning up", progress=50)
    with pytest.raises(Fenced):
        store.flush(job_id)
    store.flush(job_id)
    job = read(store, job_id)
    assert (job["logs"], job["stage"]) == (["last words"], None)


def test_another_attempt_counts_its_lines_anew(store: JobStore) -> None:
    job_id = fresh()
    store.append_log(job_id, "first")
    store.update(job_id, status="failed", error="no luck")
    assert read(store, job_id)["error"] == {"reason": "error", "message": "no luck"}
    assert store.retry(job_id, attempt=1)["attempt"] == 2
    store.append_log(job_id, "second")
    store.append_log(job_id, "third")
    assert read(store, job_id)["logs"] == ["first", "second", "third"]


def test_jobs_are_listed_page_by_page(store: JobStore) -> None:
    kind = f"list-{uuid.uuid4().hex[:8]}"
    made = [store.create(kind, labels={"n": str(n % 2)})["id"] for n in range(7)]
    assert [job["id"] for job in store.list(kind=kind, order="oldest")] == made
    assert [job["id"] for job in store.list(kind=[kind], labels={"n": "1"})] == made[5::-2]
    assert list(store.list(kind=kind, status=["completed", "failed"])) == []


def test_cancel_delete_and_claim(store: JobStore) -> None:
    kind = f"claim-{uuid.uuid4().hex[:8]}"
    assert store.claim(kind, wait_seconds=0) is None
    made = store.create(kind, input=[1, 2])["id"]
    job = store.claim([kind], worker="w", lease_seconds=10, wait_seconds=5)
    assert job is not None
    assert (job["id"], job["worker"], job["input"], job["attempt"]) == (made, "w", [1, 2], 1)
    assert store.cancel(made, reason="wrong clip")["cancel_requested"]
    assert store.heartbeat(made, attempt=1)["cancel_requested"]
    with pytest.raises(Fenced, match="stale_attempt"):
        store.heartbeat(made, attempt=2)
    store.write(made, {"status": "cancelled"}, attempt=1)
    store.delete(made)
    assert store.read(made) is None


def test_waiting_ends_with_the_job(store: JobStore) -> None:
    job_id = fresh()
    store.append_log(job_id, "begun")
    assert store.wait(job_id, seconds=1)["done"] is False
    timer = threading.Timer(0.2, lambda: store.update(job_id, status="completed"))
    timer.start()
    assert store.wait(job_id)["outcome"] == "succeeded"
    timer.join()


def test_nobody_answers(service: Service) -> None:
    service.kill()
    store = JobStore(service.url, patience_seconds=1.0)
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        store.read("j")
    store.append_log("j", "line")
    with pytest.raises(Undelivered) as caught:
        store.flush("j", seconds=0.2)
    assert caught.value.job_ids == ("j",)
    with pytest.raises(Undelivered, match="given up"):
        store.close()
    with pytest.raises(Undelivered, match="closed"):
        store.append_log("j", "too late")
    assert time.monotonic() - begun < 10


def test_whoever_brings_too_much_waits_until_there_is_room(service: Service) -> None:
    service.kill()
    store = JobStore(service.url, kind="test", patience_seconds=0.3, buffer_bytes_max=20_000)
    with pytest.raises(Undelivered, match="no room"):
        for _ in range(100):
            store.append_log("j", "x" * 1000)
    held = store.patience_seconds = 30.0
    service.start()
    for _ in range(100):
        store.append_log("j", "x" * 1000)
    store.close(held)
    with JobStore(service.url) as reader:
        assert 100 < read(reader, "j")["log_count"] < 130


EXIT = """
import sys
from milepost import JobStore
store = JobStore(sys.argv[1], kind="test")
for n in range(100):
    store.append_log(sys.argv[2], f"line {n}")
"""


def test_a_program_that_just_ends_has_said_everything(store: JobStore, shared: Service) -> None:
    job_id = fresh()
    ended = subprocess.run([sys.executable, "-c", EXIT, shared.url, job_id], check=True, capture_output=True, text=True)
    assert ended.stderr == ""
    assert read(store, job_id)["logs"] == [f"line {n}" for n in range(100)]


def test_a_program_that_ends_while_nobody_answers_says_what_is_lost(service: Service) -> None:
    service.kill()
    text = EXIT.replace("JobStore(", "import milepost.store; milepost.store.EXIT_SECONDS = 0.5; store = JobStore(", 1)
    text = text.replace("store = import", "import")
    ended = subprocess.run([sys.executable, "-c", text, service.url, "j"], check=True, capture_output=True, text=True)
    assert "Undelivered" in ended.stderr
    assert "given up: changes of j" in ended.stderr


def _write_in_child(store: JobStore, job_id: str) -> None:
    for n in range(50):
        store.append_log(job_id, f"child {n}")
    store.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_reports_of_its_own(store: JobStore) -> None:
    job_id = fresh()
    for n in range(50):
        store.append_log(job_id, f"parent {n}")
    child = multiprocessing.get_context("fork").Process(target=_write_in_child, args=(store, job_id))
    child.start()
    child.join()
    assert child.exitcode == 0
    lines = read(store, job_id)["logs"]
    assert len(lines) == 100
    for name in ("parent", "child"):
        assert [line for line in lines if line.startswith(name)] == [f"{name} {n}" for n in range(50)]


def test_an_address_is_needed_that_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="not an http address"):
        JobStore("localhost:8080")
    monkeypatch.setenv("MILEPOST_URL", "http://127.0.0.1:9/base/")
    with JobStore() as store:
        assert store.url == "http://127.0.0.1:9/base"

"""`track`, and what reports from what programs have already."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from telling import fresh, read, until

from milepost import (
    Cancelled,
    Failed,
    Fenced,
    GivenBack,
    JobLogHandler,
    JobStore,
    interruptible,
    job_tqdm,
    progress_callback,
)

if TYPE_CHECKING:
    from conftest import Service


def test_work_that_ends_completes(store: JobStore) -> None:
    with store.track("restyle", input={"clip": 1}, labels={"user": "42"}, stage="Probing") as job:
        assert read(store, job.id)["stage"] == "Probing"
        job.stage("Matting", pct=10)
        job.log("frame 1")
        job.progress(30, 120)
        job.update(result={"partial": True})
        during = read(store, job.id)
        assert (during["status"], during["stage"], during["progress_pct"]) == ("processing", "Matting", 25)
        assert during["lease_expires_at"] is not None
        job.result = {"url": "/v/1"}
    done = read(store, job.id)
    assert (done["kind"], done["status"], done["result"]) == ("restyle", "completed", {"url": "/v/1"})
    assert done["logs"] == ["frame 1"]


def test_work_that_raises_fails(store: JobStore) -> None:
    with pytest.raises(ValueError, match="no such clip"), store.track() as job:
        job.log("looking")
        raise ValueError("no such clip")
    failed = read(store, job.id)
    assert (failed["status"], failed["outcome"]) == ("failed", "failed")
    assert failed["logs"] == ["looking", "❌ no such clip"]
    assert failed["error"] == {"reason": "ValueError", "message": "no such clip"}
    with pytest.raises(Failed), store.track() as job:
        raise Failed("bad_input", "The clip is too long")
    assert read(store, job.id)["error"] == {"reason": "bad_input", "message": "The clip is too long"}
    with pytest.raises(KeyboardInterrupt), store.track() as job:
        raise KeyboardInterrupt
    assert read(store, job.id)["error"]["reason"] == "interrupted"


def test_work_on_a_job_that_is_there_begins_it(store: JobStore) -> None:
    made = store.create("restyle", input=7)["id"]
    with store.track("restyle", id=made, input="not this") as job:
        assert read(store, made)["status"] == "processing"
        assert job.input == 7
    assert read(store, made)["status"] == "completed"
    with pytest.raises(Fenced), store.track("restyle", id=made) as job:
        job.log("once more")
        store.flush(made)
        job.stage("Nothing can be done")
        store.flush(made)


def test_a_signal_fails_the_job(store: JobStore) -> None:
    with pytest.raises(Failed), store.track() as job, interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert read(store, job.id)["error"] == {"reason": "interrupted", "message": "The worker was stopped by a signal"}
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_work_may_end_the_job_itself(store: JobStore) -> None:
    with store.track() as job:
        job.fail("The clip is broken", "bad_input", log=["frame 1 is missing"])
    failed = read(store, job.id)
    assert failed["logs"] == ["frame 1 is missing", "❌ The clip is broken"]
    with store.track() as job:
        job.complete([1])
    assert read(store, job.id)["result"] == [1]
    with store.track() as job:
        job.update(result="as far as it came")
    assert read(store, job.id)["result"] == "as far as it came"
    with store.track(max_attempts=2) as job:
        job.give_back()
    assert read(store, job.id)["status"] == "queued"


def test_a_request_to_cancel_ends_the_work(store: JobStore, shared: Service) -> None:
    with pytest.raises(Cancelled), store.track() as job:
        with JobStore(shared.url) as other:
            other.cancel(job.id)
        while True:
            job.progress(1)
            time.sleep(0.005)
    done = read(store, job.id)
    assert (done["status"], done["logs"]) == ("cancelled", ["Cancelled, as requested"])


def test_work_that_says_nothing_learns_of_a_cancel_by_its_heartbeats(store: JobStore) -> None:
    with pytest.raises(Cancelled), store.track(lease_seconds=1) as job:
        store.cancel(job.id)
        until(lambda: job.cancel_requested)
        job.check()
    assert read(store, job.id)["status"] == "cancelled"


def test_after_a_cancel_the_work_may_still_say_why(store: JobStore) -> None:
    with pytest.raises(Cancelled), store.track() as job:
        store.cancel(job.id)
        try:
            while True:
                job.log("working")
                time.sleep(0.005)
        finally:
            # Once is enough.
            job.log("cleaned up")
    assert read(store, job.id)["logs"][-2:] == ["cleaned up", "Cancelled, as requested"]


def test_work_that_is_taken_away_stops(store: JobStore, shared: Service) -> None:
    with pytest.raises(Fenced) as caught, store.track() as job:
        with JobStore(shared.url) as other:
            other.write(job.id, {"status": "failed", "error": "enough"}, attempt=1)
        while True:
            job.log("still here")
            time.sleep(0.005)
    assert caught.value.code == "already_finished"
    assert read(store, job.id)["error"]["message"] == "enough"


def test_a_worker_that_holds_the_interpreter_keeps_its_lease(store: JobStore) -> None:
    with store.track(lease_seconds=2) as job:
        for _ in range(2):
            begun = time.monotonic()
            count = 100_000_000
            while time.monotonic() - begun < 3:
                # One call of C, which lets no other thread of this process run for longer than the lease.
                begun = time.monotonic()
                sum(range(count))
                count *= 2
        seen = read(store, job.id)
        assert (seen["attempt"], seen["status"]) == (1, "processing")
    assert read(store, job.id)["status"] == "completed"


DIES = """
import os, sys
from milepost import JobStore
store = JobStore(sys.argv[1])
job = store.track("test", id=sys.argv[2], lease_seconds=1)
job.log("begun")
store.flush()
print("begun", flush=True)
sys.stdin.read()
"""


def test_the_lease_of_a_worker_that_dies_runs_out(service: Service) -> None:
    job_id = fresh()
    process = subprocess.Popen(
        [sys.executable, "-c", DIES, service.url, job_id], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    with JobStore(service.url) as store:
        before = read(store, job_id)["lease_expires_at"]
        # Its heartbeats come without a word of its own.
        until(lambda: read(store, job_id)["lease_expires_at"] > before)
        process.kill()
        process.communicate()
        until(lambda: read(store, job_id)["outcome"] == "lost")


def test_heartbeats_go_on_when_their_process_is_ended(store: JobStore) -> None:
    with store.track(lease_seconds=1) as job:
        process = store.pulse()._process
        assert process is not None
        process.kill()
        process.wait()
        before = read(store, job.id)["lease_expires_at"]
        until(lambda: read(store, job.id)["lease_expires_at"] > before)


def test_what_is_logged_is_in_the_log_of_the_job(store: JobStore) -> None:
    logger = logging.getLogger("pipeline")
    logger.setLevel(logging.INFO)
    with store.track() as job, JobLogHandler(job).attached(logger) as handler:
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        logger.info("frame %d", 1)
        logging.getLogger("pipeline.mux").warning("no sound")
        logging.getLogger("milepost").warning("left out")
        try:
            raise ValueError("torn")
        except ValueError:
            logger.exception("frame 2")
    logger.info("not any more")
    lines = read(store, job.id)["logs"]
    assert lines[:3] == ["INFO frame 1", "WARNING no sound", "ERROR frame 2"]
    assert lines[3] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: torn"


@pytest.mark.parametrize("is_shown", [True, False])
def test_a_bar_moves_the_progress(store: JobStore, is_shown: bool) -> None:
    with store.track() as job:
        for _ in job_tqdm(job, 20, 70)(range(10), disable=not is_shown):
            pass
        assert read(store, job.id)["progress_pct"] == 70
        with job_tqdm(job, 70, 90)(total=200, disable=not is_shown) as bar:
            bar.update(50)
            assert read(store, job.id)["progress_pct"] == 75
            bar.update(150)
        assert read(store, job.id)["progress_pct"] == 90
        # Not a report for each of them.
        for _ in job_tqdm(job)(range(50_000), disable=not is_shown):
            pass
        assert read(store, job.id)["progress_pct"] == 100
        assert read(store, job.id)["version"] < 100
    with pytest.raises(Cancelled), store.track() as job:
        store.cancel(job.id)
        for _ in job_tqdm(job)(range(1_000_000), disable=not is_shown):
            time.sleep(0.001)


def test_a_callback_moves_the_progress(store: JobStore) -> None:
    with store.track() as job:
        report = progress_callback(job, 80, 100)
        report(1, 2)
        assert read(store, job.id)["progress_pct"] == 90
        report(3, 2)
        assert read(store, job.id)["progress_pct"] == 100


def test_a_block_may_give_the_job_back(store: JobStore) -> None:
    with pytest.raises(GivenBack), store.track() as job:
        raise GivenBack("later")
    back = read(store, job.id)
    assert (back["status"], back["attempt"]) == ("queued", 2)

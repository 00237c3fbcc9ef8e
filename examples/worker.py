"""A worker's side of Milepost: jobs, reported over plain HTTP.

`work` runs a pipeline as one job, or claims jobs one after the other: it hands the pipeline a `Job` to report to, and ends
the job the way the pipeline ended. What a pipeline sees is `Job`; what travels is `Client`; what waits to travel is `Outbox`.

The service may be killed and started again in the middle of a job. Nothing is lost or said twice, because every request
here may safely arrive more than once, and is repeated until it is answered:

- a create or a claim carries an `Idempotency-Key`, so repeating it answers with the same job;
- log lines carry `writer` and `seq`, so the service drops the ones it already has;
- everything else says what is, not what to add, and carries `attempt`, so a worker whose job was given to another one
  is refused (`stale_attempt`) instead of writing over it.

Meanwhile lines wait in a bounded outbox. When it is full the program that makes them waits too: a service that is away
slows the work down, it never costs lines or memory.

Knows nothing of video.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import signal
import socket
import sys
import threading
import time
import traceback
import uuid
from collections import deque
from io import RawIOBase
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Deque, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple
from urllib.parse import quote, urlsplit

Json = Dict[str, Any]

REQUEST_TIMEOUT_SECONDS = 10.0
PATIENCE_SECONDS = 120.0  # how long one request is repeated before the service counts as gone
BACKOFF_FIRST_SECONDS = 0.1
BACKOFF_MAX_SECONDS = 2.0
RETRY_AFTER_MAX_SECONDS = 15.0  # a longer Retry-After is not believed: the job's lease is running

REPORT_SECONDS = 0.2  # lines and progress of this long travel together
HEARTBEAT_SECONDS = 5.0  # a job with nothing to say says that, to keep its lease and to learn of a cancel
LEASE_SECONDS = 30  # a worker that dies without a word is noticed after this long
HEARTBEATS_PER_LEASE = 3  # and more often than that where the lease is short
CLAIM_WAIT_SECONDS = 5  # an idle worker asks again this often; it must be less than a request may take

BATCH_LINES_MAX = 500
BATCH_CHARS_MAX = 128 * 1024
WAITING_LINES_MAX = 10_000
KEPT_LINES_MAX = 1_000  # acknowledged lines kept in case the service comes back from a backup and asks for them

DONE_STATUSES = {"completed", "failed", "cancelled"}
TRY_AGAIN_STATUSES = {408, 429, 502, 503, 504, 507}
TRY_AGAIN_CODES = {"idempotency_in_progress"}
FENCED_CODES = {"stale_attempt", "attempt_required", "already_finished", "job_not_found", "job_deleted"}


class WorkFailed(Exception):
    """The work cannot be done. `reason` is a stable word for programs, `message` a sentence for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Cancelled(Exception):
    """Somebody asked for the job to be cancelled."""


class GivenBack(Exception):
    """The worker has to stop; somebody else may have the job."""


class Away(Exception):
    """The service did not answer for `PATIENCE_SECONDS`."""


class Refused(Exception):
    """The service refused a request for good; `problem` is its RFC 9457 document."""

    def __init__(self, status: int, problem: Json) -> None:
        self.status = status
        self.problem = problem
        self.code = str(problem.get("code", ""))
        super().__init__(f"{status} {self.code}: {problem.get('detail', 'no detail')}")


class Fenced(Refused):
    """The job is no longer this worker's: ended, deleted, or given to another attempt. Nothing more may be written."""


class Client:
    """The routes a worker needs, over one keep-alive connection. Not for several threads at once.

    Every method repeats its request, with growing pauses, until the service answers it for good. Raises `Refused` (or
    its kind `Fenced`) for an answer that repeating cannot change, and `Away` when no answer comes.
    """

    def __init__(self, server: str) -> None:
        """`server` is the base address, such as `http://127.0.0.1:8080`; raises `ValueError` for anything else."""
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http address: {server}")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=REQUEST_TIMEOUT_SECONDS)
        self._base_path = parts.path.rstrip("/")

    def create(self, new_job: Json, key: str) -> Json:
        """Creates a job. The same `key` always means the same job, however often the request arrives."""
        return self._request("POST", "/jobs", new_job, {"Idempotency-Key": key})

    def ensure(self, job_id: str, new_job: Json) -> Json:
        """Makes sure the job `job_id` exists; one that stood already is answered as it is."""
        return self._request("PUT", _job_path(job_id), new_job)

    def claim(self, kind: str, worker: str, lease_seconds: int, key: str) -> Json:
        """Returns the next job of a kind, which is then this worker's, or an empty object when there is none."""
        wish = {"kinds": [kind], "worker": worker, "lease_seconds": lease_seconds, "wait_seconds": CLAIM_WAIT_SECONDS}
        return self._request("POST", "/jobs/claim", wish, {"Idempotency-Key": key})

    def patch(self, job_id: str, change: Json) -> Json:
        """Changes the job; all of `change`, its log lines too, becomes visible in one step."""
        return self._request("PATCH", _job_path(job_id), change)

    def append_log(self, job_id: str, append: Json) -> Json:
        """Appends `lines`, and sets `pct` and `stage` where given."""
        return self._request("POST", _job_path(job_id) + "/logs", append)

    def heartbeat(self, job_id: str, attempt: int) -> Json:
        """Keeps the attempt's lease without changing anything a reader sees."""
        return self._request("POST", _job_path(job_id) + "/heartbeat", {"attempt": attempt})

    def _request(self, method: str, path: str, body: Json, headers: Optional[Mapping[str, str]] = None) -> Json:
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        for backoff in _backoffs():
            pause = backoff
            try:
                status, answer, retry_after = self._send_once(method, path, body, headers or {})
            except (OSError, http.client.HTTPException) as error:
                # The request may or may not have been carried out; both are fine, it can be repeated.
                self._connection.close()
                why = f"{type(error).__name__}: {error}"
            else:
                if status < 300:
                    return answer
                refusal = _refusal(status, answer)
                if status not in TRY_AGAIN_STATUSES and refusal.code not in TRY_AGAIN_CODES:
                    raise refusal
                why, pause = str(refusal), max(backoff, retry_after)
            if time.monotonic() + pause > give_up_at:
                raise Away(f"no answer to {method} {path} for {PATIENCE_SECONDS:.0f} s ({why})")
            time.sleep(pause)
        raise AssertionError("there is always another pause")

    def _send_once(self, method: str, path: str, body: Json, headers: Mapping[str, str]) -> Tuple[int, Json, float]:
        """Returns the status, the JSON of the answer and the seconds of its `Retry-After` (0 without one)."""
        self._connection.request(
            method,
            self._base_path + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Accept": "application/json", **headers},
        )
        response = self._connection.getresponse()
        return response.status, _json_object(response.read()), _retry_after_seconds(response)


class Batch(NamedTuple):
    """Consecutive lines of one writer; `seq` is the number of the first, counted from 1. May be empty."""

    seq: int
    lines: List[str]

    @property
    def next_seq(self) -> int:
        """The number of the line after the last one here."""
        return self.seq + len(self.lines)


class Outbox:
    """The log lines of one writer on their way to the service, numbered from 1. Safe for several threads.

    Holds the lines that are not acknowledged yet, and the last acknowledged ones: a service that was restored from a
    backup knows less than it once acknowledged and says so with `log_gap`.
    """

    def __init__(self) -> None:
        self._lines: Deque[str] = deque()
        self._first_seq = 1  # the number of _lines[0]
        self._next_seq = 1  # the first line that is not acknowledged
        self._bounded = True
        self._room = threading.Condition()

    def put(self, line: str) -> None:
        """Adds a line; waits while `WAITING_LINES_MAX` lines are waiting."""
        with self._room:
            self._room.wait_for(lambda: not self._bounded or self._waiting() < WAITING_LINES_MAX)
            self._lines.append(line)

    def batch(self) -> Tuple[Batch, bool]:
        """Returns the oldest lines not acknowledged, as many as fit one request, and whether those are all."""
        with self._room:
            lines: List[str] = []
            chars = 0
            for line in islice(self._lines, self._next_seq - self._first_seq, None):
                chars += len(line)
                if len(lines) == BATCH_LINES_MAX or (lines and chars > BATCH_CHARS_MAX):
                    break
                lines.append(line)
            return Batch(self._next_seq, lines), len(lines) == self._waiting()

    def acknowledge(self, batch: Batch) -> None:
        """Notes that the service has the lines of `batch`."""
        with self._room:
            self._next_seq = batch.next_seq
            while self._next_seq - self._first_seq > KEPT_LINES_MAX:
                self._lines.popleft()
                self._first_seq += 1
            self._room.notify_all()

    def rewind(self, expected: object) -> bool:
        """Goes back to line `expected`, which the service says it lacks; False when that line is gone here too."""
        with self._room:
            if not isinstance(expected, int) or not self._first_seq <= expected < self._next_seq:
                return False
            self._next_seq = expected
            return True

    def never_wait(self) -> None:
        """The work is being stopped: lets go of whoever waits in `put`, so that its few last lines can be read."""
        with self._room:
            self._bounded = False
            self._room.notify_all()

    def _waiting(self) -> int:
        return self._first_seq + len(self._lines) - self._next_seq


class Position(NamedTuple):
    """Where the work is."""

    stage: Optional[str]
    progress_pct: float

    def named(self, progress: str) -> Json:
        """Returns the members of a request that say so; `progress` is what the route calls the progress."""
        members: Json = {progress: self.progress_pct}
        return members if self.stage is None else {**members, "stage": self.stage}


class Job:
    """What a pipeline reports to. Lines and progress travel in the background, five times a second.

    A pipeline calls `check` (or hands it to what it waits for) at least a few times a second; it raises when the work
    has to stop, and why: `Cancelled`, `WorkFailed` or `GivenBack` (a signal), `Fenced`, `Away`.
    """

    def __init__(
        self, client: Client, document: Json, copy: Optional[RawIOBase] = None, lease_seconds: int = LEASE_SECONDS
    ) -> None:
        """`document` is the job as created or claimed; `copy` an unbuffered file that gets each log line too."""
        self.id = str(document["id"])
        self._client = client
        self._attempt = int(document["attempt"])
        # New for each process: one that starts over on the same attempt must not have its lines taken for repeats.
        self._writer = f"worker-{uuid.uuid4().hex[:16]}"
        self._copy = copy
        self._heartbeat_seconds = min(HEARTBEAT_SECONDS, lease_seconds / HEARTBEATS_PER_LEASE)
        self._outbox = Outbox()
        self._now = Position(None, 0.0)  # replaced whole, so another thread never sees half a change
        self._told = self._now
        self._told_at = time.monotonic()
        self._stop_reason: Optional[Exception] = None
        self._ending = threading.Event()
        self._writing = threading.Lock()  # one request at a time, which also keeps the lines in order
        self._reporter = threading.Thread(target=self._report_until_the_end, name="reporter", daemon=True)
        self._heed(document)

    def start(self) -> None:
        """Takes the job: from here on it is `processing`. Raises like `check`."""
        self.check()
        with self._writing:
            self._patch_with_lines({"status": "processing"})
        self._reporter.start()

    def stage(self, name: str, from_pct: float, to_pct: float) -> Callable[[float], None]:
        """Begins a stage, which takes the job from `from_pct` to `to_pct`; raises like `check`.

        Returns what the stage reports its progress to, as a fraction from 0 to 1.
        """
        self.check()
        self._now = Position(name, from_pct)

        def advance(fraction: float) -> None:
            pct = from_pct + (to_pct - from_pct) * min(max(fraction, 0.0), 1.0)
            self._now = Position(name, max(self._now.progress_pct, round(pct, 1)))

        return advance

    def log(self, line: str) -> None:
        """Appends one log line (no line breaks); waits when the service is away and very many lines are waiting."""
        self._outbox.put(line)
        if self._copy is not None:
            try:
                self._copy.write(f"{line}\n".encode(errors="replace"))
            except OSError:
                self._copy = None  # a full disk does not stop the job; its log is the service's

    def publish(self, result: Json) -> None:
        """Shows a partial result, together with the lines logged so far. It takes the place of the one before."""
        with self._writing:
            self._patch_with_lines({"result": result})

    def check(self) -> None:
        """Raises what the work has to stop for, if anything."""
        if self._stop_reason is not None:
            self._outbox.never_wait()
            raise self._stop_reason

    def stop(self, reason: Exception) -> None:
        """Makes `check` raise `reason`; the first one counts. Takes no lock, so a signal handler may call it."""
        if self._stop_reason is None:
            self._stop_reason = reason

    def complete(self, result: Json) -> None:
        """Ends the job well. Readers see `completed`, the result and the last lines in the same moment."""
        self._end({"status": "completed", "result": result})

    def fail(self, reason: str, message: str) -> None:
        """Ends the job badly; the last log line says why."""
        message = _printable(message)
        self.log(f"❌ {message}")
        self._end({"status": "failed", "error": {"reason": reason, "message": message}})

    def cancel(self) -> None:
        """Ends the job as somebody asked for."""
        self.log("Cancelled, as requested")
        self._end({"status": "cancelled"})

    def give_back(self) -> None:
        """Lets another worker have the job."""
        self.log("The worker has to stop and gives the job back")
        self._end({"status": "queued"})

    def close(self) -> None:
        """Stops reporting, whatever became of the job."""
        self._ending.set()

    def _end(self, change: Json) -> None:
        self._ending.set()
        with self._writing:
            self._patch_with_lines(change)

    def _report_until_the_end(self) -> None:
        while not self._ending.wait(REPORT_SECONDS):
            try:
                with self._writing:
                    self._report()
            except Exception as reason:  # whatever it is, the pipeline must learn of it
                self.stop(reason)
                self._outbox.never_wait()
                return

    def _report(self) -> None:
        """Says what is new, in one request; without news, now and then that there are none."""
        batch, _ = self._outbox.batch()
        if batch.lines:
            self._append(batch)
        elif self._now != self._told:
            self._patch(batch, {})
        elif time.monotonic() - self._told_at > self._heartbeat_seconds:
            self._heed(self._client.heartbeat(self.id, self._attempt))

    def _patch_with_lines(self, change: Json) -> None:
        """Sends every waiting line, the last of them in one step with `change`."""
        while True:
            batch, is_all = self._outbox.batch()
            if not is_all:
                self._append(batch)
            elif self._patch(batch, change):
                return

    def _append(self, batch: Batch) -> bool:
        now = self._now
        append = {**now.named("pct"), "lines": batch.lines, "writer": self._writer, "seq": batch.seq}
        return self._deliver(self._client.append_log, append, batch, now)

    def _patch(self, batch: Batch, change: Json) -> bool:
        now = self._now
        body = {**now.named("progress_pct"), **change}
        if change.get("status") == "completed":
            del body["progress_pct"]  # it becomes 100 by itself
        if batch.lines:
            body.update(log=batch.lines, writer=self._writer, seq=batch.seq)
        return self._deliver(self._client.patch, body, batch, now)

    def _deliver(self, send: Callable[[str, Json], Json], body: Json, batch: Batch, now: Position) -> bool:
        """Sends `body`, which carries `batch`; False when the service lacks earlier lines, which then go first."""
        try:
            answer = send(self.id, {**body, "attempt": self._attempt})
        except Refused as refusal:
            if refusal.code == "log_gap" and self._outbox.rewind(refusal.problem.get("expected")):
                return False
            raise
        self._outbox.acknowledge(batch)
        self._told = now
        self._heed(answer)
        return True

    def _heed(self, answer: Json) -> None:
        self._told_at = time.monotonic()
        if answer.get("cancel_requested"):
            self.stop(Cancelled())
        # The service takes a late line of a job that somebody else has ended, so a good answer alone proves nothing.
        status = answer.get("status")
        if status in DONE_STATUSES and not self._ending.is_set():
            self.stop(Fenced(409, {"code": "already_finished", "detail": f"the job is {status}"}))


def command_line(description: str) -> argparse.ArgumentParser:
    """Returns the options every worker has; a worker adds its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--server", default="http://127.0.0.1:8080", help="where Milepost listens (%(default)s)")
    parser.add_argument("--job-id", help="the job to work on; without one, a new job is created")
    parser.add_argument("--log-file", metavar="FILE", help="write the job's log lines there too")
    parser.add_argument("--claim", action="store_true", help="claim jobs, one after the other, instead of making one")
    parser.add_argument("--worker", default=socket.gethostname()[:40], help="with --claim: who it is (%(default)s)")
    parser.add_argument("--lease-seconds", type=int, default=LEASE_SECONDS, help="how long it may be silent (%(default)s)")
    return parser


def work(options: argparse.Namespace, kind: str, inputs: Optional[Json], pipeline: Callable[[Job, Json], Json]) -> int:
    """Runs `pipeline` as one job of `kind`, and prints the job's id first. `options` are those of `command_line`.

    The job completes with what `pipeline` returns, and fails or is cancelled by what it raises. SIGTERM and SIGINT stop
    the work and fail the job; a second one ends the process at once. Returns the exit code: 0 for a completed job.

    With `--claim` there are no `inputs`: each job brings its own, and a signal gives the job back.
    """
    if options.claim:
        return _claim_jobs(options, kind, pipeline)
    if inputs is None:
        print(f"{kind}: nothing to work on, and no --claim", file=sys.stderr)
        return 2
    try:
        job = _open(options, kind, inputs)
    except (ValueError, OSError, Refused, Away) as error:
        print(f"{kind}: no job: {error}", file=sys.stderr)
        return 1
    _stop_on_signals(job)
    print(job.id, flush=True)
    try:
        status = _run(job, inputs, pipeline)
    except (Refused, Away) as error:
        print(f"{kind}: job {job.id} was left as it is: {error}", file=sys.stderr)
        return 1
    finally:
        job.close()
    print(f"{kind}: job {job.id} {status}", file=sys.stderr)
    return 0 if status == "completed" else 1


def paths(inputs: object, *names: str) -> List[Path]:
    """Returns the paths that a job's input has under these names; raises `WorkFailed` when it has them not."""
    texts = [inputs.get(name) if isinstance(inputs, dict) else None for name in names]
    if not all(isinstance(text, str) and text for text in texts):
        raise WorkFailed("bad_input", f"The job's input must be an object with the paths {' and '.join(names)}")
    return [Path(str(text)) for text in texts]


def _open(options: argparse.Namespace, kind: str, inputs: Json) -> Job:
    client = Client(options.server)
    copy = open(options.log_file, "wb", buffering=0) if options.log_file else None
    # From the start in this worker's hands: one that is queued could be claimed by another.
    new_job = {"kind": kind, "input": inputs, "lease_seconds": options.lease_seconds, "status": "processing"}
    if options.job_id is None:
        document = client.create(new_job, key=uuid.uuid4().hex)
    else:
        document = client.ensure(options.job_id, new_job)
    return Job(client, document, copy, options.lease_seconds)


def _claim_jobs(options: argparse.Namespace, kind: str, pipeline: Callable[[Job, Json], Json]) -> int:
    """Claims jobs until a signal comes; returns the exit code."""
    current: List[Job] = []

    def on_signal(_number: int, _frame: Optional[FrameType]) -> None:
        if not current:
            raise SystemExit(0)
        current[0].stop(GivenBack())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    client = Client(options.server)
    while True:
        try:
            document = client.claim(kind, options.worker, options.lease_seconds, uuid.uuid4().hex)
        except Away as error:
            print(f"{kind}: {error}", file=sys.stderr)
            continue
        if not document:
            continue
        job = Job(client, document, lease_seconds=options.lease_seconds)
        current.append(job)
        print(job.id, flush=True)
        try:
            status = _run(job, document["input"], pipeline)
        except (Refused, Away) as error:
            status = f"is no longer this worker's: {error}"
        finally:
            job.close()
            current.clear()
        print(f"{kind}: job {job.id} {status}", file=sys.stderr)
        if status == "queued":
            return 0


def _run(job: Job, inputs: Json, pipeline: Callable[[Job, Json], Json]) -> str:
    """Returns the status the job ended in; raises `Fenced` or `Away` when it is not this worker that ended it."""
    try:
        job.start()
        job.complete(pipeline(job, inputs))
        return "completed"
    except (Fenced, Away):
        raise
    except GivenBack:
        job.give_back()
        return "queued"
    except Cancelled:
        job.cancel()
        return "cancelled"
    except WorkFailed as failure:
        job.fail(failure.reason, failure.message)
    except OSError as error:
        job.fail("io_error", str(error))
    except Exception as error:
        # A worker with a bug says so in the job; nobody who watches a progress bar reads its stderr.
        traceback.print_exc()
        job.fail("internal_error", f"{type(error).__name__}: {error}")
    return "failed"


def _stop_on_signals(job: Job) -> None:
    def on_signal(number: int, _frame: Optional[FrameType]) -> None:
        name = signal.Signals(number).name
        job.stop(WorkFailed("interrupted", f"The worker was stopped by {name}"))
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


def _backoffs() -> Iterator[float]:
    """Seconds before each repeat: growing to a bound, and random, so that many workers do not come back as one."""
    longest = BACKOFF_FIRST_SECONDS
    while True:
        yield random.uniform(longest / 2, longest)
        longest = min(longest * 2, BACKOFF_MAX_SECONDS)


def _refusal(status: int, problem: Json) -> Refused:
    kind = Fenced if problem.get("code") in FENCED_CODES else Refused
    return kind(status, problem)


def _json_object(body: bytes) -> Json:
    """Returns the object in `body`; an empty one for anything else, since a proxy answers in its own words."""
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _retry_after_seconds(response: http.client.HTTPResponse) -> float:
    value = response.getheader("Retry-After", "")
    return min(float(value), RETRY_AFTER_MAX_SECONDS) if value.isdigit() else 0.0


def _job_path(job_id: str) -> str:
    return "/jobs/" + quote(job_id, safe="")


def _printable(text: str) -> str:
    """Returns `text` with `?` for what may not be in a document, such as control characters out of a file's name."""
    return "".join(char if char.isprintable() else "?" for char in text)

"""What the workers here share: their command line, and a job as a pipeline sees it.

Everything that travels to the service is the business of the client (clients/python): it repeats what was not answered, counts
lines, renews the lease. Knows nothing of video.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import IO, Any, Callable, Dict, List, Optional

from milepost import Cancelled, Failed, JobStore, MilepostError, TrackedJob, interruptible, worker

Json = Dict[str, Any]

LEASE_SECONDS = 30  # a worker that dies without a word is noticed after this long


class Job:
    """What a pipeline reports to. Each report raises what the pipeline has to stop for, such as `Cancelled`."""

    def __init__(self, tracked: TrackedJob, copy: Optional[IO[str]] = None) -> None:
        self._tracked = tracked
        self._copy = copy
        self.check = tracked.check

    def stage(self, name: str, from_pct: float, to_pct: float) -> Callable[[float], None]:
        """Begins a step of the work, and returns what moves the progress through it: by fractions, never back."""
        self._tracked.stage(name, from_pct)
        furthest = from_pct

        def advance(fraction: float) -> None:
            nonlocal furthest
            pct = from_pct + (to_pct - from_pct) * min(max(fraction, 0.0), 1.0)
            furthest = max(furthest, round(pct, 1))
            self._tracked.progress(furthest)

        return advance

    def log(self, line: str) -> None:
        """Appends a line."""
        if self._copy is not None:
            print(line, file=self._copy, flush=True)
        self._tracked.log(line)

    def publish(self, result: Json) -> None:
        """Shows a partial result. It takes the place of the one before."""
        self._tracked.update(result=result)


Pipeline = Callable[[Job, Json], Json]


def command_line(description: str) -> argparse.ArgumentParser:
    """Returns the options every worker has; a worker adds its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--server", help="where Milepost listens (MILEPOST_URL, or http://127.0.0.1:8080)")
    parser.add_argument("--job-id", help="the job to work on; without one, a new job is created")
    parser.add_argument("--log-file", metavar="FILE", help="write the job's log lines there too")
    parser.add_argument("--claim", action="store_true", help="claim jobs, one after the other, instead of making one")
    parser.add_argument("--worker", help="with --claim: who it is (the host and the process)")
    parser.add_argument("--lease-seconds", type=int, default=LEASE_SECONDS, help="how long it may be silent (%(default)s)")
    return parser


def work(options: argparse.Namespace, kind: str, inputs: Optional[Json], pipeline: Pipeline) -> int:
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
        with JobStore(options.server) as store:
            return _one_job(store, options, kind, inputs, pipeline)
    except (ValueError, OSError, MilepostError) as error:
        print(f"{kind}: {error}", file=sys.stderr)
        return 1


def paths(inputs: object, *names: str) -> List[Path]:
    """Returns the paths that a job's input has under these names; raises `Failed` when it has them not."""
    texts = [inputs.get(name) if isinstance(inputs, dict) else None for name in names]
    if not all(isinstance(text, str) and text for text in texts):
        raise Failed("bad_input", f"The job's input must be an object with the paths {' and '.join(names)}")
    return [Path(str(text)) for text in texts]


def _one_job(store: JobStore, options: argparse.Namespace, kind: str, inputs: Json, pipeline: Pipeline) -> int:
    tracked = store.track(kind, id=options.job_id, input=inputs, lease_seconds=options.lease_seconds)
    print(tracked.id, flush=True)
    copy = open(options.log_file, "w", encoding="utf-8", errors="replace") if options.log_file else None
    try:
        with tracked, interruptible():
            tracked.result = pipeline(Job(tracked, copy), inputs)
        how = "completed"
    except Cancelled:
        how = "cancelled"
    except Exception as error:
        how = f"failed: {error}"
        if copy is not None:
            # The client appends it where the job fails.
            print(f"❌ {error}", file=copy)
    finally:
        if copy is not None:
            copy.close()
    print(f"{kind}: job {tracked.id} {how}", file=sys.stderr)
    return 0 if how == "completed" else 1


def _claim_jobs(options: argparse.Namespace, kind: str, pipeline: Pipeline) -> int:
    @worker(kind, lease_seconds=options.lease_seconds)
    def work_on(tracked: TrackedJob) -> Json:
        print(tracked.id, flush=True)
        return pipeline(Job(tracked), tracked.input)

    work_on.run(options.server, name=options.worker)
    return 0

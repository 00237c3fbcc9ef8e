"""What a worker costs that reports through the Python client: a thousand lines in a second, one call each."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from .measures import Bench
from .servers import BenchFailed, ask

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = ROOT / "target" / "venv" / "bin" / "python"

CALLS_PER_SECOND = 1_000
WARM_SECONDS = 2
SECONDS = 10

Run = dict[str, object]

# Prints its CPU seconds over the middle of its life, and waits for its order to begin and to stop measuring.
WORKER = """
import os, sys, time
from milepost import JobStore

url, calls_per_second, warm, seconds = sys.argv[1], *map(int, sys.argv[2:])
count = 0
with JobStore(url, kind="bench") as store:
    def append_for(seconds):
        global count
        begun = time.perf_counter()
        for nth in range(calls_per_second * seconds):
            wait = begun + nth / calls_per_second - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            count += 1
            store.append_log("client", f"frame {count} of 1000000: matting the subject in front of its background", pct=nth % 100)
    append_for(warm)
    print("begin", flush=True)
    sys.stdin.readline()
    before, begun = time.process_time(), time.perf_counter()
    append_for(seconds)
    used, took = time.process_time() - before, time.perf_counter() - begun
    print(used, took, count, flush=True)
"""


def client(bench: Bench) -> Run:
    """CPU of one worker and of the service, while the worker appends line after line."""
    subprocess.run(["make", "--no-print-directory", "target/venv/installed"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    with bench.serve(bench.scratch / "client") as service:
        url = f"http://127.0.0.1:{service.port}"
        numbers = [str(number) for number in (CALLS_PER_SECOND, WARM_SECONDS, SECONDS)]
        command = [str(PYTHON), "-c", WORKER, url, *numbers]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdin is not None and worker.stdout is not None
            if worker.stdout.readline() != "begin\n":
                raise BenchFailed("the worker of the Python client has not begun")
            before = service.usage()
            worker.stdin.write("\n")
            worker.stdin.flush()
            used, took, count = worker.stdout.readline().split()
            service_seconds = service.usage().since(before).cpu_seconds
        answer = ask(service.connection(), "GET", "/jobs/client?logs=0", None)
        job = json.loads(answer.body)
        if worker.returncode != 0 or job["log_count"] != int(count):
            raise BenchFailed(f"{count} lines were appended, and {job['log_count']} are there")
        return {
            "calls_per_second": CALLS_PER_SECOND * SECONDS / float(took),
            "lines": int(count),
            "versions": job["version"],
            "cores_worker": float(used) / float(took),
            "cores_service": service_seconds / float(took),
        }


def table(found: Run) -> str:
    """The figures, for people."""
    return (
        f"Python client, {found['calls_per_second']:,.0f} append_log calls a second of one process: "
        f"{found['cores_worker']:.3f} cores of the worker, {found['cores_service']:.3f} of the service "
        f"({found['lines']:,} lines in {found['versions']:,} changes)"
    )

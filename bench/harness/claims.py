"""Workers that ask for jobs, and what a million leased jobs cost while none of them is due."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Sequence

from . import stores
from .measures import Bench
from .servers import BenchFailed, Server, ask

CLAIMS = 2_000
WAKES = 300
IDLE_SECONDS = 10
SETTLE_SECONDS = 2

Run = dict[str, object]

QUEUED = '{"op":"create","id":"q%d","kind":"restyle","priority":%d,"input":{"clip":"/videos/%d.mp4"}}'
# As claimed just now, for a day.
LEASED = '{"op":"create","id":"l%d","kind":"leased","status":"processing","lease_seconds":86400,"priority":%d,"input":%d}'
CLAIM = json.dumps({"kinds": ["restyle"], "worker": "bench", "lease_seconds": 86400})
WAIT = json.dumps({"kinds": ["wake"], "worker": "bench", "lease_seconds": 86400, "wait_seconds": 20})


def claims(bench: Bench) -> Run:
    """Claims out of a long queue, claims that wait, and the sweep's look at many jobs none of which is due."""
    jobs = bench.options.queued
    config = Path(bench.scratch) / "claims.toml"
    # It looks from the start on, as it does when it has run for a while.
    config.write_text("[sweep]\nstart_grace_seconds = 0\n")
    with bench.serve(bench.scratch / "claims", config) as service:
        empty = _idle_cores(service)
        print(f"bench: making {jobs:,} queued jobs", flush=True)
        stores.fill(service, jobs, lambda number: QUEUED % (number, number % 7, number))
        found = {"jobs": jobs, "claimed": _claimed(service), "woken": _woken(service)}
        print(f"bench: making {jobs:,} leased jobs", flush=True)
        stores.fill(service, jobs, lambda number: LEASED % (number, 0, number))
        return {**found, "cores_empty": empty, "cores_leased": _idle_cores(service)}


def _claimed(service: Server) -> Run:
    """Claims one after the other, each by itself."""
    connection = service.connection()
    seconds = []
    for _ in range(CLAIMS):
        began = time.perf_counter()
        answer = ask(connection, "POST", "/jobs/claim", CLAIM)
        seconds.append(time.perf_counter() - began)
        if answer.status != 200:
            raise BenchFailed(f"a claim of many jobs is answered {answer.status}")
    connection.close()
    return _spread(seconds)


def _woken(service: Server) -> Run:
    """From asking for a job to be made until the worker that waits for it has it."""
    creator = service.connection()
    seconds = []
    for number in range(WAKES):
        waiter = _Waiter(service)
        waiter.start()
        _until_waiting(service)
        began = time.perf_counter()
        answer = ask(creator, "PUT", f"/jobs/w{number}", json.dumps({"kind": "wake"}))
        waiter.join()
        if answer.status != 201 or waiter.claimed != f"w{number}":
            raise BenchFailed(f"the job w{number} was answered {answer.status}, and {waiter.claimed} was claimed")
        seconds.append(waiter.at - began)
    creator.close()
    return _spread(seconds)


class _Waiter(threading.Thread):
    """A worker that waits for a job."""

    def __init__(self, service: Server) -> None:
        super().__init__()
        self.claimed = ""
        self.at = 0.0
        self._service = service

    def run(self) -> None:
        connection = self._service.connection()
        answer = ask(connection, "POST", "/jobs/claim", WAIT)
        self.at = time.perf_counter()
        self.claimed = str(json.loads(answer.body)["id"]) if answer.status == 200 else str(answer.status)
        connection.close()


def _until_waiting(service: Server) -> None:
    while b'milepost_push_open{kind="claim"} 1' not in service.ask("GET", "/metrics").body:
        pass


def _idle_cores(service: Server) -> float:
    time.sleep(SETTLE_SECONDS)
    usage = service.usage()
    time.sleep(IDLE_SECONDS)
    return service.usage().since(usage).cpu_seconds / IDLE_SECONDS


def _spread(seconds: Sequence[float]) -> Run:
    ordered = sorted(seconds)
    at = lambda share: ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000  # noqa: E731
    return {"count": len(ordered), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": ordered[-1] * 1000}

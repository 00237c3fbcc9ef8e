"""Stores of more and more jobs: how soon each is ready after kill -9, what it takes, and how it is slower than a small one."""

from __future__ import annotations

import random
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Iterator

from . import stores
from .load import in_turn
from .measures import JOBS, Bench, Run
from .report import aimed
from .servers import BenchFailed, Server

CONNECTIONS = 64
# Of a large store many jobs are as they were made, without the longer stage that a change gives.
ANSWER_TOLERANCE = 0.1
KILLED_CONNECTIONS = 16
# Log lines come last: jobs with more of them have longer documents, of which fewer are in memory.
WORK = {"patch": "PATCH", "poll": "poll", "log": "log line"}
# Seconds until ready after kill -9, MiB resident at most, p50 of a PATCH against that with 10,000 jobs.
TARGETS = {1_000_000: (2, 300, 1.3), 10_000_000: (3, 300, 1.5)}


def growth(bench: Bench) -> list[Run]:
    """Each size, beside a store of 10,000 jobs."""
    return [_size(bench, jobs) for jobs in bench.options.jobs]


def _size(bench: Bench, jobs: int) -> Run:
    store = stores.copied(jobs, bench.serve, bench.scratch / "large")
    service = bench.serve(store)
    print(f"bench: {bench.options.kills} times kill -9 with {jobs:,} jobs", flush=True)
    found: Run = {"jobs": jobs, "lines": stores.LINES, "store_mib": stores.size_mib(store)}
    try:
        service.start()
        found["resident_at_start_mib"] = service.memory_mib()[0]
        found["ready_after_kill"] = [
            _killed(bench, service, store, jobs, number) for number in range(bench.options.kills)
        ]
        with bench.serve_copy() as small:
            stores.warm(small, JOBS)
            stores.remember(store)
            found["work"] = list(_slower(bench, small, service, jobs))
        found["resident_mib"], found["resident_max_mib"] = service.memory_mib()
    finally:
        service.stop()
    return found


def _killed(bench: Bench, service: Server, store: Path, jobs: int, number: int) -> Run:
    """Kills the service in the middle of changes and starts it again, every other time with nothing of it in the cache."""
    seconds = random.uniform(1.0, 3.0)
    loading = bench.loader.begin(service, "patch", jobs, KILLED_CONNECTIONS, 10)
    time.sleep(seconds)
    service.kill()
    loading.terminate()
    loading.wait()
    wal_mib = (store / "milepost.db-wal").stat().st_size / 2**20
    cold = number % 2 == 1
    if cold:
        stores.forget(store)
    ready = service.start()
    return {"ready_seconds": ready, "cold": cold, "wal_mib": wal_mib, "resident_mib": service.memory_mib()[0]}


def _slower(bench: Bench, small: Server, large: Server, jobs: int) -> Iterator[Run]:
    """The same work on both, in turn."""
    for work in WORK:
        load = partial(bench.loader.run, script=work, connections=CONNECTIONS, seconds=bench.options.seconds)
        loads = {"small": partial(load, small, jobs=JOBS), "large": partial(load, large, jobs=jobs)}
        for number in range(bench.options.rounds + 1):
            row: Run = {"work": work, "round": number, **in_turn(number, loads)}
            # The first round warms.
            if number > 0:
                if abs(float(row["small"]["answer_bytes"]) / float(row["large"]["answer_bytes"]) - 1) > ANSWER_TOLERANCE:
                    raise BenchFailed(f"{WORK[work]}: the jobs of the two stores have answers of different lengths")
                p50 = float(row["large"]["p50_ms"]) / float(row["small"]["p50_ms"])
                print(f"bench: round {number}, {WORK[work]}, {jobs:,} jobs: p50 {p50:.2f} times that with {JOBS:,}", flush=True)
                yield row


def summarise(found: list[Run]) -> list[Run]:
    """A row for each size: medians of the rounds."""
    return [_row(size) for size in found]


def _row(size: Run) -> Run:
    kills = size["ready_after_kill"]
    row: Run = {
        "jobs": size["jobs"],
        "store_mib": size["store_mib"],
        "ready_seconds_max": max(kill["ready_seconds"] for kill in kills),
        "ready_seconds_median": statistics.median(kill["ready_seconds"] for kill in kills),
        "kills": len(kills),
        "wal_mib_max": max(kill["wal_mib"] for kill in kills),
        "resident_at_start_mib": size["resident_at_start_mib"],
        "resident_mib": size["resident_mib"],
        "resident_max_mib": size["resident_max_mib"],
    }
    for work in WORK:
        rounds = [each for each in size["work"] if each["work"] == work]
        median = lambda of: statistics.median(of(each) for each in rounds)  # noqa: E731
        row[work] = {
            "p50_ratio": median(lambda each: each["large"]["p50_ms"] / each["small"]["p50_ms"]),
            "small_p50_ms": median(lambda each: each["small"]["p50_ms"]),
            "large_p50_ms": median(lambda each: each["large"]["p50_ms"]),
            "rate_ratio": median(lambda each: each["large"]["requests_per_second"] / each["small"]["requests_per_second"]),
        }
    return row


def table(rows: list[Run]) -> str:
    """The summary for people, as Markdown."""
    head = " | ".join(f"{name}, p50" for name in WORK.values())
    lines = [
        f"| jobs | disk, MiB | ready after kill -9, s | resident, MiB | {head} |",
        "|---:|---:|---:|---:|" + "---:|" * len(WORK),
    ]
    for row in rows:
        ready = f"{row['ready_seconds_median']:.2f}, at most {row['ready_seconds_max']:.2f}"
        resident = f"{row['resident_at_start_mib']:.0f}, at most {row['resident_max_mib']:.0f}"
        cells = " | ".join(f"{row[work]['p50_ratio']:.2f}x ({row[work]['large_p50_ms']:.2f} ms)" for work in WORK)
        lines.append(f"| {row['jobs']:,} | {row['store_mib']:,.0f} | {ready} | {resident} | {cells} |")
    return "\n".join(lines)


def targets(rows: list[Run]) -> list[Run]:
    """What was aimed at with many jobs, and what came of it."""
    found = []
    for row in rows:
        if row["jobs"] in TARGETS:
            ready, resident, p50 = TARGETS[row["jobs"]]
            for what, value, target in (
                ("seconds until ready after kill -9", row["ready_seconds_max"], ready),
                ("MiB resident at most", row["resident_max_mib"], resident),
                ("p50 of PATCH against 10,000 jobs", row["patch"]["p50_ratio"], p50),
            ):
                found.append(aimed(f"{row['jobs']:,} jobs, {what}", value, target, at_least=False))
    return found

"""Stores of so many jobs, each job with 20 lines: built once over HTTP and kept under target/bench."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Callable

from .servers import BenchFailed, Server, ask

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "target" / "bench" / "stores"

LINES = 20
FILL_CONNECTIONS = 4
FILL_OPERATIONS = 400  # a body of these is below http.body_bytes_max
PAGE_JOBS = 500
USERS = 5000

MakeServer = Callable[[Path], Server]


def job_id(number: int) -> str:
    """As bench/wrk/common.lua makes it; of the length of an id that the service gives."""
    return f"0199e0c1-7c1e-7a52-9d0e-{number:012x}"


def kept(jobs: int, make_server: MakeServer) -> Path:
    """The directory of the store of so many jobs, which is built when there is none yet."""
    home = KEPT / f"{jobs}-{_fingerprint()}"
    store, complete = home / "store", home / "complete"
    if not complete.exists():
        for stale in KEPT.glob(f"{jobs}-*"):
            shutil.rmtree(stale)
        home.mkdir(parents=True)
        print(f"bench: making a store of {jobs:,} jobs of {LINES} lines", flush=True)
        with make_server(store) as server:
            fill(server, jobs, create)
        complete.touch()
    return store


def copied(jobs: int, make_server: MakeServer, to: Path) -> Path:
    """A copy of such a store, which may be changed."""
    source = kept(jobs, make_server)
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(source, to)
    # What the copy left to be written is not the load's.
    os.sync()
    return to


def size_mib(store: Path) -> float:
    """What it takes on disk."""
    return sum(file.stat().st_size for file in store.iterdir()) / 2**20


def forget(store: Path) -> None:
    """Takes its files out of the kernel's cache, as after a restart of the machine."""
    for file in store.iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        try:
            # Only what is on the disk already can be forgotten.
            os.fdatasync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def remember(store: Path) -> None:
    """Has its files in the kernel's cache, as those of a service that has been up for a while."""
    for file in store.iterdir():
        with file.open("rb") as content:
            while content.read(2**20):
                pass


def warm(server: Server, jobs: int) -> None:
    """Reads every job once."""
    connection = server.connection()
    for number in range(jobs):
        answer = ask(connection, "GET", f"/jobs/{job_id(number)}")
        if answer.status != 200:
            raise BenchFailed(f"GET of a job answered {answer.status}: {answer.body[:200]!r}")
    connection.close()


def versions(server: Server, jobs: int) -> int:
    """The versions of all jobs added up: it rises by one for every change that really changed something."""
    connection = server.connection()
    total, seen, path = 0, 0, f"/jobs?limit={PAGE_JOBS}"
    while True:
        page = json.loads(ask(connection, "GET", path).body)
        seen += len(page["jobs"])
        total += sum(job["version"] for job in page["jobs"])
        if page["next"] is None:
            break
        path = f"/jobs?limit={PAGE_JOBS}&cursor={page['next']}"
    connection.close()
    if seen != jobs:
        raise BenchFailed(f"the store has {seen} jobs and not {jobs}")
    return total


def fill(server: Server, jobs: int, create: Callable[[int], str]) -> None:
    """Makes so many jobs, each by an operation of a batch."""
    starts = iter(range(0, jobs, FILL_OPERATIONS))
    lock, failures = threading.Lock(), []

    def work() -> None:
        connection = server.connection()
        while not failures:
            with lock:
                start = next(starts, None)
            if start is None:
                break
            numbers = range(start, min(start + FILL_OPERATIONS, jobs))
            body = "[" + ",".join(map(create, numbers)) + "]"
            answer = ask(connection, "POST", "/batch", body)
            made = answer.body.count(b'{"status":201,')
            if answer.status != 200 or made != len(numbers):
                failures.append(f"{answer.status}, {made} made: {answer.body[:300]!r}")
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(FILL_CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise BenchFailed(f"the store could not be filled: {failures[0]}")


def create(number: int) -> str:
    """An operation that makes a job with its lines."""
    return _CREATE % (job_id(number), number % USERS, number, _LOGS[number % len(_LOGS)])


_CREATE = (
    '{"op":"create","id":"%s","kind":"restyle","status":"processing","stage":"Matting subject",'
    '"labels":{"user":"%d"},"input":{"clip":"/videos/%d.mp4","style":"comic"},"log":%s}'
)
# Some logs for all, each with lines of its own.
_LOGS = [
    json.dumps([f"frame={log:4d}{line:02d} fps=24 q=28.0 time=00:00:{line:02d}.08 speed=1.21x" for line in range(LINES)])
    for log in range(64)
]


def _fingerprint() -> str:
    """Changes with the format of the store and with what is put into it."""
    digest = hashlib.sha256()
    engine = ROOT / "src" / "engine"
    records = sorted((engine / "record").glob("*.rs"))
    for file in (engine / "sqlite" / "schema.rs", engine / "record.rs", *records, Path(__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]

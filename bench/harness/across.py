"""From one replica to another: lines that are written through one and watched through the other.

Run as a program it is the watcher, a process of its own: across.py PORT JOBS LINES.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.servers import BenchFailed, Server, ask  # noqa: E402

Run = dict[str, object]

JOBS = 500
# Operations of one batch, batches of a second, and seconds: 2,000 lines a second.
OPERATIONS, BATCHES, SECONDS = 50, 40, 30
WAIT_SECONDS = 60


def across(writer: Server, reader: Server, seconds: int = SECONDS) -> Run:
    """What a watcher of many jobs at one replica hears of what is written through another, and when."""
    lines = OPERATIONS * BATCHES * seconds
    creates = [{"op": "create", "id": f"across-{number}", "kind": "across"} for number in range(JOBS)]
    if writer.ask("POST", "/batch", json.dumps(creates)).status != 200:
        raise BenchFailed("the jobs to watch are not made")
    command = [sys.executable, str(Path(__file__).resolve()), str(reader.port), str(JOBS), str(lines)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout
        if watcher.stdout.readline() != "open\n":
            raise BenchFailed("the watcher does not say that it is open")
        _write(writer, seconds)
        found = watcher.stdout.readline()
        if not found:
            raise BenchFailed("the watcher has ended")
    return {**json.loads(found), "lines_per_second": OPERATIONS * BATCHES}


def _write(writer: Server, seconds: int) -> None:
    """Batches at an even pace, each line with the moment it is sent at."""
    connection = writer.connection()
    begun = time.monotonic()
    for batch in range(BATCHES * seconds):
        time.sleep(max(0.0, begun + batch / BATCHES - time.monotonic()))
        first = batch * OPERATIONS
        now = time.monotonic_ns()
        operations = [
            {"op": "log", "id": f"across-{(first + number) % JOBS}", "line": f"~{now}~{first + number}~"}
            for number in range(OPERATIONS)
        ]
        answer = ask(connection, "POST", "/batch", json.dumps(operations))
        if answer.status != 200 or b'"problem"' in answer.body:
            raise BenchFailed(f"a line is not taken: {answer.body[:300]!r}")
    connection.close()


async def _watch(port: int, jobs: int, lines: int) -> Run:
    heard: dict[int, int] = {}
    twice = 0
    everything = asyncio.Event()

    async def follow(job: int, opened: asyncio.Event) -> None:
        nonlocal twice
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        writer.write(f"GET /jobs/across-{job}/logs?follow=1 HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        opened.set()
        while True:
            text = await reader.readline()
            if not text:
                return
            now = time.monotonic_ns()
            if not text.startswith(b"~"):
                continue
            _, sent, number, _ = text.split(b"~")
            twice += int(number) in heard
            heard[int(number)] = now - int(sent)
            if len(heard) == lines:
                everything.set()

    opened = [asyncio.Event() for _ in range(jobs)]
    tasks = [asyncio.ensure_future(follow(job, each)) for job, each in enumerate(opened)]
    for each in opened:
        await asyncio.wait_for(each.wait(), WAIT_SECONDS)
    print("open", flush=True)
    seconds = lines / (OPERATIONS * BATCHES)
    try:
        await asyncio.wait_for(everything.wait(), seconds + WAIT_SECONDS)
    except asyncio.TimeoutError:
        pass
    for task in tasks:
        task.cancel()
    took = sorted(heard.values())
    at = lambda share: took[min(len(took) - 1, int(len(took) * share))] / 1e6 if took else 0.0  # noqa: E731
    return {
        "lines": lines,
        "missed": lines - len(heard),
        "twice": twice,
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_watch(*map(int, sys.argv[1:])))), flush=True)

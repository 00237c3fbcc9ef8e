"""Load from wrk, and what it came to."""

from __future__ import annotations

import itertools
import json
import os
import resource
import subprocess
import time
from pathlib import Path
from typing import Callable, Iterator, Mapping, Sequence

from .machine import CORES, TICKS_PER_SECOND, Ticks, load_average
from .servers import BenchFailed, Server

SCRIPTS = Path(__file__).resolve().parent.parent / "wrk"
# wrk gives up on an answer after this.
TIMEOUT_SECONDS = 10
THREADS_MAX = 2
PAUSE_SECONDS = 0.5  # the kernel writes back what the run before has left


def in_turn(number: int, loads: Mapping[str, Callable[[], dict[str, float]]]) -> dict[str, dict[str, float]]:
    """What each load comes to in this round, counted from 0; who goes first changes from round to round."""
    names, first = list(loads), number % len(loads)
    found = {}
    for name in (*names[first:], *names[:first]):
        time.sleep(PAUSE_SECONDS)
        found[name] = loads[name]()
    return found


def rate(run: object) -> float:
    """Requests per second of a load."""
    assert isinstance(run, dict)
    return float(run["requests_per_second"])


class Loader:
    """Runs wrk; every run has a tag and a seed of its own, so that no two send the same."""

    def __init__(self) -> None:
        began = int(time.time())
        self._tags: Iterator[str] = (f"{(began + number) & 0xFFFFFFFF:08x}" for number in itertools.count())
        self._seeds = itertools.count(1)

    def tag(self) -> str:
        """A text that no change has had before."""
        return next(self._tags)

    def command(
        self, server: Server, script: str, jobs: int, connections: int, seconds: float, extra: Sequence[object] = ()
    ) -> list[str]:
        """What to run in the directory of the scripts."""
        threads = min(THREADS_MAX, CORES, connections)
        options = [f"--threads={threads}", f"--connections={connections}", f"--duration={seconds:g}s"]
        options += [f"--timeout={TIMEOUT_SECONDS}s", "--latency", f"--script={script}.lua"]
        arguments = [str(argument) for argument in (jobs, self.tag(), next(self._seeds), *extra)]
        return ["wrk", *options, server.url, "--", *arguments]

    def run(
        self, server: Server, script: str, jobs: int, connections: int, seconds: float, extra: Sequence[object] = ()
    ) -> dict[str, float]:
        """Runs a load to its end; fails when an answer was not as it must be."""
        command = self.command(server, script, jobs, connections, seconds, extra)
        load = load_average()
        usage, machine, clients = server.usage(), Ticks.now(), _children_cpu()
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=SCRIPTS, capture_output=True, text=True, timeout=seconds + 60, check=False, env=_environment()
        )
        took = time.monotonic() - began
        used, busy = server.usage().since(usage), Ticks.now()
        if done.returncode != 0:
            raise BenchFailed(f"wrk ended with {done.returncode}: {done.stderr or done.stdout}")
        result = json.loads(done.stdout.splitlines()[-1])
        wrong = {name: count for name, count in result["errors"].items() if count}
        if wrong or not result["requests"]:
            raise BenchFailed(f"{script} on {server.name} with {connections} connections: {result}")
        busy_seconds = (busy.busy - machine.busy) / TICKS_PER_SECOND
        others = busy_seconds - used.cpu_seconds - (_children_cpu() - clients)
        return {
            "requests": result["requests"],
            "requests_per_second": result["requests"] / (result["microseconds"] / 1e6),
            "answer_bytes": result["bytes"] / result["requests"],
            "p50_ms": result["p50"] / 1000,
            "p90_ms": result["p90"] / 1000,
            "p99_ms": result["p99"] / 1000,
            "max_ms": result["max"] / 1000,
            "cpu_seconds": used.cpu_seconds,
            "written_bytes": used.written_bytes,
            "load_average": load,
            # Of the whole machine's CPU time; the kernel's own threads are others too.
            "others_share": max(0.0, others / (took * CORES)),
            "stolen_share": (busy.stolen - machine.stolen) / TICKS_PER_SECOND / (took * CORES),
        }

    def begin(self, server: Server, script: str, jobs: int, connections: int, seconds: float) -> "subprocess.Popen[str]":
        """Starts a load whose server will be killed under it; the caller ends it."""
        return subprocess.Popen(
            self.command(server, script, jobs, connections, seconds),
            cwd=SCRIPTS,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            env=_environment(),
        )


def _environment() -> dict[str, str]:
    return {**os.environ, "LUA_PATH": f"{SCRIPTS}/?.lua;;"}


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

"""What people take instead, beside the service: the same work, at the same time, and what an answer of each promises."""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Callable, Iterator, Mapping, NamedTuple

from . import stores
from .measures import PAUSE_SECONDS, Bench, Run
from .pocketbase import RECORD, PocketBase
from .servers import START_SECONDS_MAX, BenchFailed, Server, free_port

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "bench" / "peers"
VENV = ROOT / "target" / "bench" / "venv"
PACKAGES = ["python3-venv", "redis-server"]
JOBS = 1_000
CONNECTIONS = (64, 256)
WORKERS = 2  # of those that can have several: as many as there are cores
# Redis writes its log of changes; snapshots beside that would be work of their own.
REDIS = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync"]
WORK = {"patch": "progress", "log": "log line", "poll": "poll"}


class Peer(NamedTuple):
    """Something that people take."""

    name: str
    #: What its answer to a change says.
    promise: str
    #: Whether that is what the service's says: on the disk.
    is_durable: bool
    serve: Callable[[Bench, ExitStack], Server]
    #: The script for wrk of some work, where it is not that of the service, and what it is told.
    scripts: Mapping[str, tuple[str, ...]] = {}

    def load(self, work: str) -> tuple[str, ...]:
        """The script for some work, and what it is told."""
        return self.scripts.get(work, (work,))


def install() -> None:
    """What the peers need, in target/bench."""
    if not VENV.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    subprocess.run([VENV / "bin" / "pip", "install", "--quiet", "--requirement", PEERS / "requirements.txt"], check=True)
    npm = ["npm", "--prefix", PEERS / "node", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(npm, check=True, env=_with_node())


def peers(bench: Bench) -> list[Run]:
    """Each of them beside the service, in turn."""
    with bench.serve_copy() as service:
        stores.warm(service, JOBS)
        rows: list[Run] = []
        for peer in PEERS_ALL:
            with ExitStack() as stack:
                rows += list(_beside(bench, service, peer, peer.serve(bench, stack)))
        return rows


def _beside(bench: Bench, service: Server, peer: Peer, server: Server) -> Iterator[Run]:
    for work in WORK:
        pair = [("service", service, (work,)), ("other", server, peer.load(work))]
        for _, who, (script, *extra) in pair:
            bench.loader.run(who, script, JOBS, 64, 1, extra)
        for connections in CONNECTIONS:
            for number in range(bench.options.rounds):
                row: Run = {"peer": peer.name, "work": work, "connections": connections, "round": number}
                for name, who, (script, *extra) in pair if number % 2 == 0 else reversed(pair):
                    time.sleep(PAUSE_SECONDS)
                    row[name] = bench.loader.run(who, script, JOBS, connections, bench.options.seconds, extra)
                row["ratio"] = _rate(row["service"]) / _rate(row["other"])
                print(
                    f"bench: round {number + 1}, {WORK[work]}, {connections} connections: {_rate(row['service']):,.0f}/s, "
                    f"{peer.name} {_rate(row['other']):,.0f}/s, ratio {row['ratio']:.1f}",
                    flush=True,
                )
                yield row


def summarise(rows: list[Run]) -> list[Run]:
    """Medians of the rounds."""
    found: list[Run] = []
    for peer in PEERS_ALL:
        for work in WORK:
            for connections in CONNECTIONS:
                key = (peer.name, work, connections)
                rounds = [row for row in rows if (row["peer"], row["work"], row["connections"]) == key]
                if rounds:
                    median = lambda of: statistics.median(of(row) for row in rounds)  # noqa: E731
                    found.append({
                        "peer": peer.name,
                        "promise": peer.promise,
                        "is_durable": peer.is_durable,
                        "work": work,
                        "connections": connections,
                        "ratio": median(lambda row: row["ratio"]),
                        "service_per_second": median(lambda row: _rate(row["service"])),
                        "peer_per_second": median(lambda row: _rate(row["other"])),
                        "p99_ms": median(lambda row: row["service"]["p99_ms"]),
                        "peer_p99_ms": median(lambda row: row["other"]["p99_ms"]),
                    })
    return found


def table(rows: list[Run]) -> str:
    """How many times as much the service does in the same time, by the side of each peer."""
    columns = [(work, connections) for work in WORK for connections in CONNECTIONS]
    head = " | ".join(f"{WORK[work]}, {connections}" for work, connections in columns)
    lines = [f"| the service beside | what an answer promises | {head} |", "|---|---|" + "---|" * len(columns)]
    for peer in PEERS_ALL:
        of = {(row["work"], row["connections"]): row for row in rows if row["peer"] == peer.name}
        if of:
            cells = [f"{of[column]['ratio']:.1f}x" if column in of else "" for column in columns]
            lines.append(f"| {peer.name} | {peer.promise} | {' | '.join(cells)} |")
    return "\n".join(lines)


def targets(rows: list[Run]) -> list[Run]:
    """Ahead of every peer whose answers promise as much."""
    durable = [row for row in rows if row["is_durable"] or row["work"] == "poll"]
    if not durable:
        return []
    worst = min(durable, key=lambda row: float(row["ratio"]))
    what = f"beside equally durable peers, the least: {worst['peer']}, {WORK[worst['work']]}, {worst['connections']} connections"
    return [{"what": what, "value": worst["ratio"], "target": 1, "at_least": True, "met": worst["ratio"] > 1}]


# Who they are.


def _origin(bench: Bench, stack: ExitStack, *options: str) -> Server:
    directory = bench.scratch / "origin"
    shutil.rmtree(directory, ignore_errors=True)
    return _python(bench, stack, "origin.py", directory, JOBS, *options)


def _on_redis(bench: Bench, stack: ExitStack, sync: str) -> Server:
    port = stack.enter_context(_redis(bench, sync))
    subprocess.run([VENV / "bin" / "python", PEERS / "on_redis.py", "fill", str(port), str(JOBS)], check=True)
    return _python(bench, stack, "on_redis.py", port, WORKERS)


def _bullmq(bench: Bench, stack: ExitStack, sync: str) -> Server:
    port = stack.enter_context(_redis(bench, sync))
    node = shutil.which("node", path=_with_node()["PATH"])
    program = PEERS / "node" / "bullmq.js"
    subprocess.run([str(node), str(program), "fill", str(port), str(JOBS)], check=True)
    return stack.enter_context(Server("bullmq", [node, program, port, WORKERS], bench.scratch / "bullmq.log"))


def _pocketbase(bench: Bench, stack: ExitStack) -> Server:
    directory = bench.scratch / "pocketbase"
    shutil.rmtree(directory, ignore_errors=True)
    server = PocketBase(VENV / "bin" / "pocketbase", directory, bench.scratch / "pocketbase.log")
    stack.enter_context(server)
    server.fill(JOBS)
    return server


def _python(bench: Bench, stack: ExitStack, program: str, *arguments: object) -> Server:
    command = [VENV / "bin" / "python", PEERS / program, *arguments]
    return stack.enter_context(Server(program, command, bench.scratch / f"{program}.log"))


@contextmanager
def _redis(bench: Bench, sync: str) -> Iterator[int]:
    """The port of a Redis of its own, which syncs its log of changes `always` or `everysec`."""
    directory = bench.scratch / "redis"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    port = free_port()
    command = ["redis-server", *REDIS, sync, "--port", str(port), "--dir", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            _await_port(port, process)
            yield port
        finally:
            process.terminate()


def _await_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchFailed("redis-server does not start") from None
            time.sleep(0.01)


def _with_node() -> dict[str, str]:
    found = subprocess.run([ROOT / "scripts" / "install-node"], check=True, capture_output=True, text=True).stdout.strip()
    return {**os.environ, "PATH": f"{found}:{os.environ['PATH']}"}


def _rate(run: object) -> float:
    assert isinstance(run, dict)
    return float(run["requests_per_second"])


PEERS_ALL = [
    Peer("FastAPI, a dict and a JSON file, synced", "on the disk", True, lambda bench, stack: _origin(bench, stack, "--sync")),
    Peer("FastAPI, a dict and a JSON file", "in the kernel's memory", False, _origin),
    Peer(
        "FastAPI and redis-py, appendfsync always",
        "on the disk",
        True,
        lambda bench, stack: _on_redis(bench, stack, "always"),
    ),
    Peer(
        "FastAPI and redis-py, appendfsync everysec",
        "on the disk within a second or two",
        False,
        lambda bench, stack: _on_redis(bench, stack, "everysec"),
    ),
    Peer("fastify and BullMQ, appendfsync always", "on the disk", True, lambda bench, stack: _bullmq(bench, stack, "always")),
    Peer(
        "fastify and BullMQ, appendfsync everysec",
        "on the disk within a second or two",
        False,
        lambda bench, stack: _bullmq(bench, stack, "everysec"),
    ),
    Peer(
        "PocketBase",
        "in the kernel's memory",
        False,
        _pocketbase,
        {"patch": ("patch", RECORD), "log": ("pocketbase-log",), "poll": ("poll", RECORD)},
    ),
]

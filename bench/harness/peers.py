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
from functools import partial
from pathlib import Path
from typing import Callable, Iterator, Mapping, NamedTuple

from . import postgres, stores
from .load import in_turn, rate
from .measures import Bench, Run
from .pocketbase import RECORD, PocketBase
from .replicas import serve_handler, serve_replica
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
# Polls before log lines, while all have jobs of as many lines.
ORDER = ("patch", "poll", "log")
#: What an answer of the service promises.
DURABLE = "on the disk"


class Place(NamedTuple):
    """Where a peer is started."""

    bench: Bench
    stack: ExitStack
    service: Server


class Peer(NamedTuple):
    """Something that people take."""

    name: str
    #: What its answer to a change says.
    promise: str
    serve: Callable[[Place], Server]
    #: The script for wrk of some work, where it is not that of the service, and what it is told.
    scripts: Mapping[str, tuple[str, ...]] = {}
    #: The service itself in another way is nobody to be ahead of.
    is_other: bool = True

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
    rows: list[Run] = []
    for peer in PEERS_ALL:
        with bench.serve_copy() as service, ExitStack() as stack:
            stores.warm(service, JOBS)
            rows += list(_beside(bench, service, peer, peer.serve(Place(bench, stack, service))))
    return rows


def _beside(bench: Bench, service: Server, peer: Peer, server: Server) -> Iterator[Run]:
    def load(who: Server, script: str, *extra: str, connections: int, seconds: int) -> dict[str, float]:
        return bench.loader.run(who, script, JOBS, connections, seconds, extra)

    for work in ORDER:
        pair = {"service": partial(load, service, work), "other": partial(load, server, *peer.load(work))}
        for each in pair.values():
            each(connections=64, seconds=1)
        for connections in sorted(set(CONNECTIONS) & set(bench.options.connections)):
            loads = {
                name: partial(each, connections=connections, seconds=bench.options.seconds) for name, each in pair.items()
            }
            for number in range(bench.options.rounds):
                row: Run = {"peer": peer.name, "work": work, "connections": connections, "round": number}
                row.update(in_turn(number, loads))
                row["ratio"] = rate(row["service"]) / rate(row["other"])
                print(
                    f"bench: round {number + 1}, {WORK[work]}, {connections} connections: {rate(row['service']):,.0f}/s, "
                    f"{peer.name} {rate(row['other']):,.0f}/s, ratio {row['ratio']:.1f}",
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
                        "is_equal": peer.is_other and (peer.promise == DURABLE or work == "poll"),
                        "work": work,
                        "connections": connections,
                        "ratio": median(lambda row: row["ratio"]),
                        "service_per_second": median(lambda row: rate(row["service"])),
                        "peer_per_second": median(lambda row: rate(row["other"])),
                        "p99_ms": median(lambda row: row["service"]["p99_ms"]),
                        "peer_p99_ms": median(lambda row: row["other"]["p99_ms"]),
                    })
    return found


def targets(rows: list[Run]) -> list[Run]:
    """Ahead of every peer whose answers promise as much."""
    equals = [row for row in rows if row["is_equal"]]
    if not equals:
        return []
    worst = min(equals, key=lambda row: float(row["ratio"]))
    what = f"beside equally durable peers, the least: {worst['peer']}, {WORK[worst['work']]}, {worst['connections']} connections"
    return [{"what": what, "value": worst["ratio"], "target": 1, "at_least": True, "met": worst["ratio"] > 1}]


# Who they are.


def _origin(place: Place, *options: str) -> Server:
    directory = place.bench.scratch / "origin"
    shutil.rmtree(directory, ignore_errors=True)
    return _python(place, "origin.py", directory, JOBS, *options)


def _on_redis(place: Place, sync: str) -> Server:
    port = place.stack.enter_context(_redis(place.bench, sync))
    subprocess.run([VENV / "bin" / "python", PEERS / "on_redis.py", "fill", str(port), str(JOBS)], check=True)
    return _python(place, "on_redis.py", port, WORKERS)


def _bullmq(place: Place, sync: str) -> Server:
    port = place.stack.enter_context(_redis(place.bench, sync))
    node = shutil.which("node", path=_with_node()["PATH"])
    program = PEERS / "node" / "bullmq.js"
    subprocess.run([str(node), str(program), "fill", str(port), str(JOBS)], check=True)
    return place.stack.enter_context(Server("bullmq", [node, program, port, WORKERS], place.bench.scratch / "bullmq.log"))


def _pocketbase(place: Place) -> Server:
    directory = place.bench.scratch / "pocketbase"
    shutil.rmtree(directory, ignore_errors=True)
    server = PocketBase(VENV / "bin" / "pocketbase", directory, place.bench.scratch / "pocketbase.log")
    place.stack.enter_context(server)
    server.fill(JOBS)
    return server


def _python(place: Place, program: str, *arguments: object) -> Server:
    command = [VENV / "bin" / "python", PEERS / program, *arguments]
    return place.stack.enter_context(Server(program, command, place.bench.scratch / f"{program}.log"))


def _transactions(place: Place) -> Server:
    url = place.stack.enter_context(postgres.database())
    return place.stack.enter_context(serve_handler(place.bench, place.service, url, JOBS))


def _replica(place: Place) -> Server:
    url = place.stack.enter_context(postgres.database())
    server = place.stack.enter_context(serve_replica(place.bench, url, 0))
    stores.fill(server, JOBS, stores.create)
    return server


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


PEERS_ALL = [
    Peer("FastAPI, a dict and a JSON file, synced", DURABLE, lambda place: _origin(place, "--sync")),
    Peer("FastAPI, a dict and a JSON file", "in the kernel's memory", _origin),
    Peer(
        "FastAPI and redis-py, appendfsync always",
        DURABLE,
        lambda place: _on_redis(place, "always"),
    ),
    Peer(
        "FastAPI and redis-py, appendfsync everysec",
        "on the disk within a second or two",
        lambda place: _on_redis(place, "everysec"),
    ),
    Peer("fastify and BullMQ, appendfsync always", DURABLE, lambda place: _bullmq(place, "always")),
    Peer(
        "fastify and BullMQ, appendfsync everysec",
        "on the disk within a second or two",
        lambda place: _bullmq(place, "everysec"),
    ),
    Peer("PostgreSQL, a transaction for each request", DURABLE, _transactions),
    Peer("Milepost itself on PostgreSQL", DURABLE, _replica, is_other=False),
    Peer(
        "PocketBase",
        "in the kernel's memory",
        _pocketbase,
        {"patch": ("patch", RECORD), "log": ("pocketbase-log",), "poll": ("poll", RECORD)},
    ),
]

"""Telling many readers of one job: how fast, beside nginx with nchan, and what it costs when there is nothing to tell."""

from __future__ import annotations

import json
import re
import subprocess
import time
from contextlib import contextmanager
from typing import Iterator

from .measures import PAUSE_SECONDS, Bench, Run
from .nchan import PUBLISH, SUBSCRIBE, Nchan
from .servers import BenchFailed, Server

JOB = "/jobs/j"
EVENTS = f"{JOB}/events"
MARK = "~000000~"  # as bench/watch.rs looks for it
CHANGE = f'PATCH {JOB} {{"stage":"{MARK}"}}'
NOTHING = "none"
CREATE = {
    "kind": "restyle",
    "status": "processing",
    "stage": NOTHING,
    "labels": {"user": "7"},
    "input": {"clip": "/videos/7.mp4", "style": "comic"},
}
# Connections of the service; the files that it and the watcher may open are 20,000 at least.
CONNECTIONS_MAX = 18_000
DESCRIPTORS = 20_000
# Frames in a phase, of all readers together.
FRAMES = 300_000
# Messages that go past whoever does not read: more than the kernel holds for it.
MESSAGES_UNREAD = 600
IDLE_SECONDS = 5
WAIT_SECONDS = 60
WATCH_SECONDS_MAX = 300


def push(bench: Bench) -> Run:
    """Everything about telling many."""
    config = bench.scratch / "push.toml"
    config.write_text(f"[http]\nconnections_max = {CONNECTIONS_MAX}\n")
    with bench.serve(bench.scratch / "push", config) as service:
        answer = service.ask("PUT", JOB, json.dumps(CREATE))
        if answer.status != 201:
            raise BenchFailed(f"PUT {JOB} answered {answer.status}: {answer.body!r}")
        with Nchan(bench.scratch / "nchan", DESCRIPTORS) as nchan:
            told = list(_told(bench, service, nchan))
        unread = list(_unread(bench, service))
    found: Run = {"told": told, "unread": unread}
    for name, measure in (("waiting", _waiting), ("idle", _idle)):
        # A fresh one: memory that readers before have left would be used again and not be counted.
        with bench.serve(bench.scratch / "push", config) as service:
            found[name] = measure(bench, service)
    return found


class Watch:
    """The tool of bench/watch.rs, its readers open."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def publish(self, line: str) -> Run:
        """What the tool found."""
        self._say(line)
        return dict(json.loads(self.hear()))

    def hear(self) -> str:
        """Its next line."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr
            said = self._process.stderr.read().strip()
            raise BenchFailed(f"the watcher ended with {self._process.wait(WATCH_SECONDS_MAX)}: {said}")
        return line.strip()

    def end(self) -> None:
        """Closes the connections."""
        self._process.communicate("\n\n", timeout=WATCH_SECONDS_MAX)

    def _say(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()


@contextmanager
def watch(bench: Bench, server: Server, path: str, readers: int, silent: int = 0, rounds: int = 1) -> Iterator[Watch]:
    """Readers that are open, and connections that ask and never read."""
    command = [bench.watch, f"127.0.0.1:{server.port}", path, readers, silent, rounds]
    with subprocess.Popen(
        [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            watching = Watch(process)
            if watching.hear() != "open":
                raise BenchFailed("the watcher does not say that it is open")
            yield watching
            watching.end()
        finally:
            process.kill()


def _told(bench: Bench, service: Server, nchan: Server) -> Iterator[Run]:
    """The same frame to the same number of readers, from the one and from the other in turn."""
    message = json.dumps({**_event(service), "stage": MARK}, separators=(",", ":"))
    lines = {service: (EVENTS, CHANGE), nchan: (SUBSCRIBE, f"POST {PUBLISH} {message}")}
    for readers in bench.options.readers:
        messages = max(FRAMES // readers, 10)
        for number in range(bench.options.rounds):
            row: Run = {"readers": readers, "round": number, "messages": messages}
            for server in (service, nchan) if number % 2 == 0 else (nchan, service):
                _reset(service)
                path, line = lines[server]
                with watch(bench, server, path, readers, rounds=messages) as watching:
                    time.sleep(PAUSE_SECONDS)
                    usage = server.usage()
                    found = watching.publish(line)
                    cpu = server.usage().since(usage).cpu_seconds
                frames = found["latency"]["frames"] + found["throughput"]["frames"]
                row[server.name] = {**found, "cpu_microseconds_per_frame": cpu / frames * 1e6}
            row["ratio"] = _rate(row[service.name]) / _rate(row[nchan.name])
            print(
                f"bench: round {number + 1}, {readers:,} readers: {_rate(row[service.name]):,.0f} frames/s, ratio to nchan "
                f"{row['ratio']:.2f}",
                flush=True,
            )
            yield row


def _unread(bench: Bench, service: Server) -> Iterator[Run]:
    """Readers beside as many that never read, and without them, in turn."""
    readers = min(bench.options.readers)
    for number in range(bench.options.rounds):
        row: Run = {"readers": readers, "round": number}
        for name, silent in (("without", 0), ("with", readers)) if number % 2 == 0 else (("with", readers), ("without", 0)):
            _reset(service)
            with watch(bench, service, EVENTS, readers, silent, MESSAGES_UNREAD) as watching:
                time.sleep(PAUSE_SECONDS)
                before = service.memory_mib()[0]
                found = watching.publish(CHANGE)
                row[name] = {**found, "resident_mib": service.memory_mib()[0], "resident_before_mib": before}
            _until_open(service, "events", 0)
        yield row


def _waiting(bench: Bench, service: Server) -> Run:
    """GETs that hold the latest cursor while nothing changes."""
    count = min(bench.options.readers)
    version = json.loads(service.ask("GET", JOB).body)["version"]
    return _still(bench, service, f"{JOB}?since={version}&wait={WAIT_SECONDS}", 0, count, "wait")


def _idle(bench: Bench, service: Server) -> Run:
    """Event streams of a job that does not change."""
    return _still(bench, service, EVENTS, bench.options.idle, 0, "events")


def _still(bench: Bench, service: Server, path: str, readers: int, silent: int, kind: str) -> Run:
    before = service.memory_mib()[0]
    with watch(bench, service, path, readers, silent):
        _until_open(service, kind, readers + silent)
        time.sleep(PAUSE_SECONDS)
        resident, usage = service.memory_mib()[0], service.usage()
        time.sleep(IDLE_SECONDS)
        cpu = service.usage().since(usage).cpu_seconds
        count = _open(service, kind)
        if count != readers + silent:
            raise BenchFailed(f"{count} {kind} of {readers + silent} are open")
    return {"count": count, "kib_each": (resident - before) * 1024 / count, "cores": cpu / IDLE_SECONDS}


def _event(service: Server) -> Run:
    """The job as its event says it."""
    connection = service.connection()
    connection.request("GET", EVENTS)
    for line in connection.getresponse():
        if line.startswith(b"data: "):
            connection.close()
            return dict(json.loads(line.removeprefix(b"data: ")))
    raise BenchFailed("an event stream without an event")


def _reset(service: Server) -> None:
    """A reader that begins must not take what the last ones were told for a round of its own."""
    service.ask("PATCH", JOB, json.dumps({"stage": NOTHING}))


def _open(service: Server, kind: str) -> int:
    text = service.ask("GET", "/metrics").body.decode()
    found = re.search(rf'^milepost_push_open{{kind="{kind}"}} (\d+)', text, re.MULTILINE)
    return int(found[1]) if found else 0


def _until_open(service: Server, kind: str, count: int) -> None:
    deadline = time.monotonic() + WATCH_SECONDS_MAX
    while _open(service, kind) != count:
        if time.monotonic() > deadline:
            raise BenchFailed(f"{_open(service, kind)} {kind} are open, not {count}")
        time.sleep(0.05)


def _rate(found: Run) -> float:
    return float(found["throughput"]["frames_per_second"])

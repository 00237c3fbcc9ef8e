"""What is measured, one function or class for each question."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Iterator, NamedTuple

from . import stores
from .load import PAUSE_SECONDS, Loader, in_turn, rate
from .servers import Answer, BenchFailed, Server

JOBS = 10_000
WARM_SECONDS = 2
# Answers of the service and of the ceiling may differ by as much in their length: a version has as many digits as it has.
ANSWER_TOLERANCE = 0.03
# Headers that the layers around both give.
OF_THE_LAYERS = {"date", "content-length", "x-request-id", "vary"}

Run = dict[str, object]


@dataclass(frozen=True)
class Options:
    """How long and how often."""

    connections: tuple[int, ...]
    seconds: int
    rounds: int
    # The stores of `growth`, and how often the service on each is killed.
    jobs: tuple[int, ...]
    kills: int
    # In the queue of `claims`.
    queued: int
    # Of a job that changes, and of one that does not.
    readers: tuple[int, ...]
    idle: int


class Bench(NamedTuple):
    """What every measurement needs."""

    service: Path
    ceiling: Path
    watch: Path
    stream: Path
    scratch: Path
    loader: Loader
    options: Options

    def serve(self, store: Path, config: Path | None = None) -> Server:
        """The service on a store, with its defaults but for what the file says."""
        command = [self.service, "serve", "--listen", "127.0.0.1:0", "--store", store]
        if config:
            command += ["--config", config]
        return Server("the service", command, self.scratch / "service.log")

    def serve_copy(self, jobs: int = JOBS) -> Server:
        """The service on a copy of a store that is kept."""
        return self.serve(stores.copied(jobs, self.serve, self.scratch / f"copy-{jobs}"))

    def serve_nothing(self, answer: "Planned") -> Server:
        """The ceiling, which gives one answer."""
        return Server("the ceiling", [self.ceiling, self._keep(answer)], self.scratch / "ceiling.log")

    def serve_log(self, answer: "Planned") -> Server:
        """The limit, which gives it once a bare log is synced."""
        log = self.scratch / "bare.log"
        return Server("the limit", [self.ceiling, self._keep(answer), "limit", log], self.scratch / "limit.log")

    def serve_committed(self, answer: "Planned", database: str) -> Server:
        """A handler that gives it once its transaction on that PostgreSQL is committed."""
        return Server("the handler", [self.ceiling, self._keep(answer), "database", database], self.scratch / "handler.log")

    def _keep(self, answer: "Planned") -> Path:
        path = self.scratch / "answer.json"
        path.write_text(json.dumps(answer._asdict()))
        return path


class Planned(NamedTuple):
    """What the ceiling answers with."""

    status: int
    headers: list[tuple[str, str]]
    body: str

    @staticmethod
    def like(answer: Answer) -> "Planned":
        """The answer, but for what the layers around it add."""
        headers = [(name, value) for name, value in answer.headers if name.lower() not in OF_THE_LAYERS]
        return Planned(answer.status, headers, answer.body.decode())


class Measure(NamedTuple):
    """A request, sent as fast as it is answered to the service and to the ceiling in turn."""

    name: str
    title: str
    script: str
    method: str
    path: str
    body: str | None
    status: int
    headers: dict[str, str] = {}
    # Changes in one request; 0: it reads.
    changes: int = 1
    # Instead of those of the options.
    connections: tuple[int, ...] | None = None

    def run(self, bench: Bench) -> Iterator[Run]:
        """All rounds of it."""
        options = bench.options
        connections = self.connections or options.connections
        with bench.serve_copy() as service, ExitStack() as stack:
            stores.warm(service, JOBS)
            sample = self._ask(service)
            planned = Planned.like(sample)
            servers = {"ceiling": stack.enter_context(bench.serve_nothing(planned)), "service": service}
            # A bare log can do what is one durable change.
            if self.changes == 1:
                servers["limit"] = stack.enter_context(bench.serve_log(planned))
            for server in servers.values():
                self._compare(sample, self._ask(server))
                self._load(bench, server, max(connections), min(WARM_SECONDS, options.seconds))
            versions, answered = stores.versions(service, JOBS), service.answered()
            requests = 0
            for number in range(options.rounds):
                for count in connections:
                    loads = {
                        name: partial(self._load, bench, server, count, options.seconds) for name, server in servers.items()
                    }
                    results = in_turn(number, loads)
                    requests += int(results["service"]["requests"])
                    yield self._row(number, count, results)
            self._verify(service, requests, versions, answered)

    def _ask(self, server: Server) -> Answer:
        answer = server.ask(self.method, self.path, self.body, **self.headers)
        if answer.status != self.status:
            raise BenchFailed(f"{self.title}: {server.name} answered {answer.status}: {answer.body[:300]!r}")
        return answer

    def _load(self, bench: Bench, server: Server, connections: int, seconds: int) -> Run:
        extra = (self.changes,) if self.script == "batch" else ()
        return dict(bench.loader.run(server, self.script, JOBS, connections, seconds, extra))

    def _compare(self, service: Answer, other: Answer) -> None:
        """What it is measured against must send what the service sends."""

        def shape(answer: Answer) -> list[tuple[str, str]]:
            # These two have another value, of the same length, in each answer.
            each = {"date", "x-request-id"}
            return sorted((name, str(len(value)) if name in each else value) for name, value in answer.headers)

        if shape(service) != shape(other) or len(service.body) != len(other.body):
            raise BenchFailed(
                f"{self.title}: the answers are other than the service's: {service.headers}, {len(service.body)} bytes;"
                f" {other.headers}, {len(other.body)} bytes"
            )

    def _row(self, number: int, connections: int, results: dict[str, Run]) -> Run:
        service = results["service"]
        row: Run = {
            "measure": self.name,
            "title": self.title,
            "connections": connections,
            "round": number,
            "changes": self.changes,
            **results,
        }
        for name, ratio in (("ceiling", "ratio"), ("limit", "limit_ratio")):
            if name in results:
                lengths = float(service["answer_bytes"]) / float(results[name]["answer_bytes"])
                if abs(lengths - 1) > ANSWER_TOLERANCE:
                    raise BenchFailed(
                        f"{self.title}: answers of the service are {lengths:.3f} times as long as those of the {name}"
                    )
                row[ratio] = rate(service) / rate(results[name])
        return row

    def _verify(self, service: Server, requests: int, versions: int, answered: dict[tuple[str, str], int]) -> None:
        """Every answer had the right status, and every change was one."""
        gone_up = stores.versions(service, JOBS) - versions
        if gone_up < requests * self.changes or (self.changes == 0 and gone_up):
            raise BenchFailed(f"{self.title}: {requests} requests made {gone_up} versions")
        expected = (self.method, str(self.status))
        counts = {key: count - answered.get(key, 0) for key, count in service.answered().items()}
        others = {key: count for key, count in counts.items() if count and key != expected}
        if others or counts.get(expected, 0) < requests:
            raise BenchFailed(f"{self.title}: {requests} requests were counted as {counts}")


_FIRST = f"/jobs/{stores.job_id(0)}"
_PATCH = '{"progress_pct":37.41,"stage":"Matting subject 00000000-0-00000000"}'
_LINE = '{"line":"frame=00000000-0-00000000 fps=24 q=28.0 size=1024KiB time=00:00:41.08 bitrate=204.2kbits/s speed=1.21x"}'


def _batch(operations: int) -> Measure:
    def operation(number: int) -> str:
        change = {"op": "patch", "id": stores.job_id(number), **json.loads(_PATCH)}
        return json.dumps(change, separators=(",", ":"))

    body = "[" + ",".join(map(operation, range(operations))) + "]"
    title = f"batch of {operations} changes"
    return Measure(
        f"batch-{operations}", title, "batch", "POST", "/batch", body, 200, {}, operations, (4, 16)
    )


MEASURES = {
    "patch": [Measure("patch", "durable PATCH", "patch", "PATCH", _FIRST, _PATCH, 200)],
    "log": [Measure("log", "durable log line", "log", "POST", f"{_FIRST}/logs", _LINE, 200)],
    "poll": [Measure("poll", "poll, 200", "poll", "GET", _FIRST, None, 200, {}, 0)],
    "unchanged": [
        Measure("unchanged", "poll, 304", "unchanged", "GET", _FIRST, None, 304, {"If_None_Match": '"v1"'}, 0)
    ],
    "batch": [_batch(operations) for operations in (100, 200, 500)],
}


_STREAMS = (
    ("stream", "batch as NDJSON stream", "representation"),
    ("stream-minimal", "batch as NDJSON stream, versions only", "minimal"),
)


def streamed(bench: Bench) -> Iterator[Run]:
    """POST /batch as NDJSON: changes in, outcomes out, on the same connection."""
    options = bench.options
    with bench.serve_copy() as service:
        stores.warm(service, JOBS)
        versions, changes = stores.versions(service, JOBS), 0
        for number in range(options.rounds):
            for (measure, title, answers), count in itertools.product(_STREAMS, (1, 4)):
                time.sleep(PAUSE_SECONDS)
                usage = service.usage()
                done, seconds = _stream(bench, service, count, answers)
                used = service.usage().since(usage)
                changes += done
                yield {
                    "measure": measure,
                    "title": title,
                    "connections": count,
                    "round": number,
                    "changes": 1,
                    "service": {
                        "requests": done,
                        "requests_per_second": done / seconds,
                        "cpu_seconds": used.cpu_seconds,
                        "written_bytes": used.written_bytes,
                    },
                }
        gone_up = stores.versions(service, JOBS) - versions
        if gone_up != changes:
            raise BenchFailed(f"{changes} streamed changes made {gone_up} versions")


def _stream(bench: Bench, server: Server, connections: int, answers: str) -> tuple[int, float]:
    """Sends changes over so many streams; how many were made, and in what time, the last answer included."""
    seconds = bench.options.seconds
    arguments = [f"127.0.0.1:{server.port}", JOBS, connections, seconds, bench.loader.tag(), answers]
    done = subprocess.run(
        [bench.stream, *map(str, arguments)], capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    if done.returncode != 0:
        raise BenchFailed(f"the streams ended with {done.returncode}: {done.stderr}")
    found = json.loads(done.stdout)
    if found["sent"] != found["made"]:
        raise BenchFailed(f"of {found['sent']} streamed changes {found['made']} were made")
    return found["made"], found["seconds"]

"""Processes under test: started on a free loopback port, watched through /proc, ended by their own process id."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Sequence

from .machine import TICKS_PER_SECOND

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30.0
REQUEST_SECONDS_MAX = 60.0
POLL_SECONDS = 0.002


class BenchFailed(Exception):
    """Something is not as it must be; figures taken then would be wrong."""


class Answer(NamedTuple):
    """An answer as it came."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Usage(NamedTuple):
    """What a process has used since it began."""

    cpu_seconds: float
    written_bytes: int

    def since(self, earlier: "Usage") -> "Usage":
        """The difference."""
        return Usage(self.cpu_seconds - earlier.cpu_seconds, self.written_bytes - earlier.written_bytes)


class Server:
    """A server that says `listening on http://...` first and answers /readyz when it serves."""

    #: What it answers when it serves.
    ready = ("/readyz", 200)

    def __init__(self, name: str, command: Sequence[object], log: Path, port: int = 0) -> None:
        """One that is told its `port` need not say anything."""
        self.name = name
        self.port = port
        self._is_told = port > 0
        self._command = [str(part) for part in command]
        self._log = log
        self._process: Optional["subprocess.Popen[bytes]"] = None

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process."""
        if self._process is None:
            raise BenchFailed(f"{self.name} is not running")
        return self._process.pid

    def start(self) -> float:
        """Starts it and returns the seconds until it was ready."""
        # Only defaults count, not what the shell has set for another server.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MILEPOST_")}
        said = self._log.with_suffix(".out")
        began = time.monotonic()
        with open(said, "wb") as stdout, open(self._log, "ab") as stderr:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=environment
            )
        try:
            self._await_start(said)
        except BaseException:
            self.kill()
            raise
        return time.monotonic() - began

    def stop(self) -> None:
        """Stops it as an operator would; it must end well."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise BenchFailed(f"{self.name} did not stop within {STOP_SECONDS_MAX:.0f} s") from None
        if code != 0:
            raise BenchFailed(f"{self.name} ended with {code}; see {self._log}")

    def kill(self) -> None:
        """kill -9."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def connection(self) -> http.client.HTTPConnection:
        """A connection to it."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_SECONDS_MAX)

    def ask(self, method: str, path: str, body: Optional[str] = None, **headers: str) -> Answer:
        """One request, on a connection of its own."""
        connection = self.connection()
        try:
            return ask(connection, method, path, body, **headers)
        finally:
            connection.close()

    @property
    def worker_pid(self) -> int:
        """The process that does its work."""
        return self.pid

    def usage(self) -> Usage:
        """CPU time, the kernel's work for it included, and what it had written to the device; see proc_pid_stat(5)."""
        # The second field is the name in brackets, which may have blanks in it.
        fields = Path(f"/proc/{self.worker_pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        written = _number(Path(f"/proc/{self.worker_pid}/io"), "write_bytes")
        return Usage(ticks / TICKS_PER_SECOND, written)

    def memory_mib(self) -> tuple[float, float]:
        """What is resident now, and the most that ever was."""
        status = Path(f"/proc/{self.worker_pid}/status")
        return _number(status, "VmRSS") / 1024, _number(status, "VmHWM") / 1024

    def answered(self) -> dict[tuple[str, str], int]:
        """How many requests it has answered, by method and status, those for /metrics and the like left out."""
        counts: dict[tuple[str, str], int] = {}
        for line in self.ask("GET", "/metrics").body.decode().splitlines():
            if line.startswith("milepost_http_requests_total{"):
                labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
                if labels["route"].startswith(("/jobs/", "/batch")):
                    key = (labels["method"], labels["status"])
                    counts[key] = counts.get(key, 0) + int(float(line.rsplit(" ", 1)[1]))
        return counts

    def _await_start(self, said: Path) -> None:
        """Returns when it serves; what it says on its standard output is in the file."""
        if not self._is_told:
            self._wait(lambda: b"\n" in said.read_bytes())
            self.port = _port(said.read_text().splitlines()[0])
        self._wait(self._is_ready)

    def _is_ready(self) -> bool:
        try:
            path, status = self.ready
            return self.ask("GET", path).status == status
        except OSError:
            return False

    def _wait(self, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not until():
            if self._process is None or self._process.poll() is not None:
                raise BenchFailed(f"{self.name} ended while it started; see {self._log}")
            if time.monotonic() > deadline:
                raise BenchFailed(f"{self.name} was not ready within {START_SECONDS_MAX:.0f} s; see {self._log}")
            time.sleep(POLL_SECONDS)


def free_port() -> int:
    """A port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: Optional[str] = None, **headers: str
) -> Answer:
    """One request; an underscore in the name of a header stands for a dash."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        named.setdefault("Content-Type", "application/json")
    connection.request(method, path, body, named)
    response = connection.getresponse()
    return Answer(response.status, response.getheaders(), response.read())


def _port(first_line: str) -> int:
    found = re.fullmatch(r"listening on http://127\.0\.0\.1:(\d+)", first_line)
    if found is None:
        raise BenchFailed(f"the first line of a server is {first_line!r}")
    return int(found[1])


def _number(file: Path, name: str) -> int:
    for line in file.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise BenchFailed(f"{file} does not say {name}")

"""A service of their own for the tests: the real binary, which they may kill and start again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from milepost import JobStore

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_SECONDS = 30.0


def binary() -> Path:
    """`MILEPOST_BINARY`, or what cargo has built last."""
    given = os.environ.get("MILEPOST_BINARY")
    found = [Path(given)] if given else [ROOT / "target" / profile / "milepost" for profile in ("debug", "release")]
    there = [path for path in found if path.exists()]
    assert there, f"no milepost to test with: cargo build, or MILEPOST_BINARY (looked for {found})"
    return max(there, key=lambda path: path.stat().st_mtime)


class Service:
    """The real thing, with a store of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it serves."""
        with (self.directory / "log").open("ab") as log:
            command = [str(binary()), "serve", "--listen", f"127.0.0.1:{self.port}", "--store", str(self.directory / "data")]
            # What is meant for the tests is none of its configuration.
            env = {name: value for name, value in os.environ.items() if not name.startswith("MILEPOST_")}
            # Leases run out from the start on, or no test could lose one.
            env["MILEPOST_SWEEP_START_GRACE_SECONDS"] = "0"
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert self.process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < until, "it does not get ready"
            time.sleep(0.01)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Ends it in the middle of whatever it does."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait()
        self.process = None

    def restart(self) -> None:
        """kill -9, and another one."""
        self.kill()
        self.start()


def free_port() -> int:
    """A port that nobody has."""
    # Below those that the system gives to clients, so that nobody has it while the service is down.
    for port in range(20000 + os.getpid() % 5000, 32000):
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port not in _given:
                _given.add(port)
                return port
    raise AssertionError("no free port")


_given: set[int] = set()


@pytest.fixture(scope="session")
def shared() -> Iterator[Service]:
    """A service for all tests that do it no harm."""
    yield from _service()


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that the test may kill."""
    yield from _service()


@pytest.fixture
def store(shared: Service) -> Iterator[JobStore]:
    """A store on the shared service."""
    with JobStore(shared.url, kind="test") as store:
        yield store


def _service() -> Iterator[Service]:
    directory = Path(tempfile.mkdtemp(prefix="milepost-python-"))
    service = Service(directory)
    service.start()
    try:
        yield service
    finally:
        if service.process is not None:
            service.kill()
        shutil.rmtree(directory)

"""Renewing leases from a process of its own, so that no busy loop, no stuck event loop and no call that keeps the interpreter's
lock can make a living worker look dead.

The process ends with the one it belongs to, and then the leases run out, as they must. It is told over its standard input
what to keep, one JSON object on each line, and tells over its standard output what it has learnt. It needs the standard
library alone.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable
from urllib.parse import urlsplit

BEATS_PER_LEASE = 3
BEAT_SECONDS_MAX = 10.0  # a cancel is noticed that soon where nothing else is reported
AGAIN_SECONDS = 1.0
REQUEST_SECONDS = 5.0
SILENT_SECONDS = 60.0  # without a job, it looks that often whether there is still somebody

Learnt = Callable[[Mapping[str, Any]], None]


class Pulse:
    """The parent's side. For any number of jobs and threads."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._hello = {"url": url, "headers": dict(headers)}
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, int], tuple[float, Learnt]] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def keep(self, job_id: str, attempt: int, lease_seconds: float, learnt: Learnt) -> None:
        """Renews a lease from now on. `learnt` is called, from a thread, with what each answer says of the job."""
        with self._lock:
            self._kept[job_id, attempt] = (min(lease_seconds / BEATS_PER_LEASE, BEAT_SECONDS_MAX), learnt)
            self._tell(job_id, attempt)

    def drop(self, job_id: str, attempt: int) -> None:
        """Lets a lease run out."""
        with self._lock:
            if self._kept.pop((job_id, attempt), None):
                self._write({"drop": job_id, "attempt": attempt})

    def close(self) -> None:
        """Ends the process."""
        with self._lock:
            self._kept.clear()
            process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.wait()

    def _tell(self, job_id: str, attempt: int) -> None:
        if self._process is None:
            self._spawn()
        every, _ = self._kept[job_id, attempt]
        self._write({"keep": job_id, "attempt": attempt, "every_seconds": every})

    def _spawn(self) -> None:
        # By its path: what the worker imports is not imported once more, and no directory of its own gets in the way.
        command = [sys.executable, "-I", str(Path(__file__).resolve())]
        self._process = subprocess.Popen(  # noqa: S603
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=(self._process,), name="milepost-pulse", daemon=True).start()
        self._write({**self._hello, "parent": os.getpid()})

    def _write(self, message: Mapping[str, Any]) -> None:
        if self._process is None or self._process.stdin is None:
            return
        # When it has died, whoever listens to it sees that, and begins anew.
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as told:
            for line in told:
                message = json.loads(line)
                with self._lock:
                    kept = self._kept.get((message["id"], message["attempt"]))
                if kept is not None:
                    kept[1](message)
        process.wait()
        with self._lock:
            if self._process is not process:
                return
            # Somebody has ended it.
            self._process = None
            if process.stdin is not None:
                process.stdin.close()
            for job_id, attempt in self._kept:
                self._tell(job_id, attempt)


class _Heart:
    """The process's side."""

    def __init__(self, url: str, headers: Mapping[str, str], parent: int) -> None:
        self._parts = urlsplit(url)
        self._headers = {**headers, "Content-Type": "application/json"}
        self._parent = parent
        self._connection: http.client.HTTPConnection | None = None
        #: Of each job and attempt: how often, and when next.
        self._kept: dict[tuple[str, int], tuple[float, float]] = {}

    def run(self, lines: queue.Queue[bytes]) -> None:
        """Until there is nobody to do it for."""
        # A fork of the parent may keep the pipe open that the parent has left.
        while os.getppid() == self._parent:
            with contextlib.suppress(queue.Empty):
                line = lines.get(timeout=self._wait_seconds())
                if not line:
                    return
                self._heed(json.loads(line))
            self._beat()

    def _wait_seconds(self) -> float:
        dues = [due for _, due in self._kept.values()]
        return max(min(dues) - time.monotonic(), 0.0) if dues else SILENT_SECONDS

    def _heed(self, message: Mapping[str, Any]) -> None:
        if "keep" in message:
            every = float(message["every_seconds"])
            self._kept[message["keep"], message["attempt"]] = (every, time.monotonic() + every)
        else:
            self._kept.pop((message["drop"], message["attempt"]), None)

    def _beat(self) -> None:
        now = time.monotonic()
        due = [key for key, (_, at) in self._kept.items() if at <= now]
        if not due:
            return
        try:
            results = self._post([{"op": "heartbeat", "id": job_id, "attempt": attempt} for job_id, attempt in due])
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            self._connection = None
            for key in due:
                self._kept[key] = (self._kept[key][0], now + AGAIN_SECONDS)
            return
        for key, result in zip(due, results):
            every = self._kept[key][0]
            self._kept[key] = (every, now + every)
            self._say(key, result)

    def _say(self, key: tuple[str, int], result: Mapping[str, Any]) -> None:
        job_id, attempt = key
        problem = result.get("problem")
        if problem is None:
            said: dict[str, Any] = {"cancel_requested": bool(result["job"]["cancel_requested"])}
        elif int(result["status"]) in (404, 409):
            said = {"status": result["status"], "problem": problem}
            del self._kept[key]
        else:
            self._kept[key] = (self._kept[key][0], time.monotonic() + AGAIN_SECONDS)
            return
        sys.stdout.write(json.dumps({"id": job_id, "attempt": attempt, **said}) + "\n")
        sys.stdout.flush()

    def _post(self, operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
            self._connection = kind(str(self._parts.hostname), self._parts.port, timeout=REQUEST_SECONDS)
        self._connection.request("POST", f"{self._parts.path.rstrip('/')}/batch", json.dumps(operations).encode(), self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise ValueError(answer.status)
        results: list[dict[str, Any]] = json.loads(body)["results"]
        return results


def _read(lines: queue.Queue[bytes]) -> None:
    for line in sys.stdin.buffer:
        lines.put(line)
    # Whoever it was done for has ended, or wants no more.
    lines.put(b"")


def main() -> None:
    """The process."""
    lines: queue.Queue[bytes] = queue.Queue()
    # A thread, as there are systems where one cannot wait for a pipe with a time limit.
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    first = lines.get()
    if first:
        hello = json.loads(first)
        _Heart(hello["url"], hello["headers"], hello["parent"]).run(lines)
    os._exit(0)


if __name__ == "__main__":
    main()

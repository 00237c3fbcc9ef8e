"""Renewing leases from a process of its own, so that no busy loop, no stuck event loop and no call that keeps the interpreter's
lock can make a living worker look dead.

The process ends with the one it belongs to, and then the leases run out, as they must. It is told over its standard input
what to keep, one JSON object on each line, and tells over its standard output what it has learnt. It needs the standard
library alone.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import logging
import os
import queue
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable
from urllib.parse import unquote, urlsplit

BEATS_PER_LEASE = 3
BEAT_SECONDS_MAX = 10.0  # a cancel is noticed that soon where nothing else is reported
AGAIN_SECONDS = 1.0
END_SECONDS = 2.0  # and then it is killed
FAILURES_MAX = 3  # of processes that end before they have renewed anything
REQUEST_SECONDS = 5.0
SILENT_SECONDS = 60.0  # without a job, it looks that often whether there is still somebody

Learnt = Callable[[Mapping[str, Any]], None]
Post = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]

log = logging.getLogger("milepost")


class Pulse:
    """The parent's side. For any number of jobs and threads.

    Where no process can be had, a thread does it, which is as good for as long as nothing keeps the interpreter's lock.
    """

    def __init__(self, url: str, headers: Mapping[str, str], post: Post | None = None, roots: str | None = None) -> None:
        """With `post` a thread sends what it is given by that, and there is no process. `roots` is a file with whom TLS trusts;
        without one it is whom the system does.
        """
        self._hello = {"url": url, "headers": dict(headers), "roots": roots}
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, int], tuple[float, Learnt]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._post = post
        self._lines: queue.Queue[bytes] | None = None
        self._failures = 0

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
        """Ends it."""
        with self._lock:
            self._kept.clear()
            process, self._process = self._process, None
            if self._lines is not None:
                self._lines.put(b"")
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # With the lock held.

    def _tell(self, job_id: str, attempt: int) -> None:
        if self._process is None and self._lines is None:
            self._begin()
        every, _ = self._kept[job_id, attempt]
        self._write({"keep": job_id, "attempt": attempt, "every_seconds": every})

    def _begin(self) -> None:
        if self._post is None and self._failures < FAILURES_MAX:
            # By its path: what the worker imports is not imported once more, and no directory of its own gets in the way.
            command = [sys.executable, "-I", str(Path(__file__).resolve())]
            try:
                self._process = subprocess.Popen(  # noqa: S603
                    command,
                    bufsize=0,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                log.warning("leases are renewed by a thread, as no process can be had for it: %s", error)
            else:
                threading.Thread(target=self._listen, args=(self._process,), name="milepost-pulse", daemon=True).start()
                self._write({**self._hello, "parent": os.getpid()})
                return
        lines = self._lines = queue.Queue()
        heart = _Heart({**self._hello, "parent": os.getppid()}, self._learnt, self._post)
        threading.Thread(target=heart.run, args=(lines,), name="milepost-pulse", daemon=True).start()

    def _write(self, message: Mapping[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        if self._lines is not None:
            self._lines.put(line)
        elif self._process is not None and self._process.stdin is not None:
            # When it has died, whoever listens to it sees that, and begins anew.
            with contextlib.suppress(OSError):
                self._process.stdin.write(line)

    # Without it.

    def _learnt(self, message: Mapping[str, Any]) -> None:
        if "warning" in message:
            log.warning("leases are not renewed: %s", message["warning"])
            return
        with self._lock:
            kept = self._kept.get((message["id"], message["attempt"]))
            self._failures = 0
        if kept is not None:
            kept[1](message)

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as told:
            for line in told:
                self._learnt(json.loads(line))
        process.wait()
        with self._lock:
            if self._process is not process:
                return
            # Somebody has ended it, or it cannot be.
            self._process = None
            self._failures += 1
            if process.stdin is not None:
                process.stdin.close()
            if self._failures == FAILURES_MAX:
                log.warning("leases are renewed by a thread, as a process for it ends each time: %s", process.returncode)
            for job_id, attempt in self._kept:
                self._tell(job_id, attempt)


class _Heart:
    """The process's side."""

    def __init__(self, hello: Mapping[str, Any], tell: Learnt, post: Post | None = None) -> None:
        """`hello`: the `url` and `headers` of requests, whom TLS trusts, and the process that is worked for."""
        self._parts = urlsplit(hello["url"])
        self._roots: str | None = hello["roots"]
        self._parent: int = hello["parent"]
        self._headers = {**hello["headers"], "Content-Type": "application/json"}
        if self._parts.username is not None:
            named = f"{unquote(self._parts.username)}:{unquote(self._parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(named.encode()).decode()
        self._tell = tell
        self._post = post or self._send
        self._connection: http.client.HTTPConnection | None = None
        self._has_warned = False
        #: Of each job and attempt: how often, and when next.
        self._kept: dict[tuple[str, int], tuple[float, float]] = {}

    def run(self, lines: queue.Queue[bytes]) -> None:
        """Until there is nobody to do it for."""
        try:
            # A fork of the parent may keep the pipe open that the parent has left.
            while os.getppid() == self._parent:
                with contextlib.suppress(queue.Empty):
                    line = lines.get(timeout=self._wait_seconds())
                    if not line:
                        return
                    self._heed(json.loads(line))
                self._beat()
        finally:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

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
        except Exception as error:  # whatever it is: it is tried again
            self._disconnect()
            if not self._has_warned:
                self._has_warned = True
                self._tell({"warning": f"{type(error).__name__}: {error}"})
            for key in due:
                self._kept[key] = (self._kept[key][0], now + AGAIN_SECONDS)
            return
        self._has_warned = False
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
        self._tell({"id": job_id, "attempt": attempt, **said})

    def _send(self, operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self._connection is None:
            host, port = str(self._parts.hostname), self._parts.port
            if self._parts.scheme == "https":
                trusted = ssl.create_default_context(cafile=self._roots)
                self._connection = http.client.HTTPSConnection(host, port, timeout=REQUEST_SECONDS, context=trusted)
            else:
                self._connection = http.client.HTTPConnection(host, port, timeout=REQUEST_SECONDS)
        self._connection.request("POST", f"{self._parts.path.rstrip('/')}/batch", json.dumps(operations).encode(), self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise ValueError(f"the answer is {answer.status}")
        results: list[dict[str, Any]] = json.loads(body)["results"]
        return results


def _print(message: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


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
        _Heart(json.loads(first), _print).run(lines)
    os._exit(0)


if __name__ == "__main__":
    main()

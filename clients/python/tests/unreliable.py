"""A network that cuts, delays and repeats: a proxy between a client and the service."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

MODES = ("pass", "pass", "pass", "cut before", "cut after", "late", "twice")


class UnreliableNetwork:
    """Takes connections, and passes on each request in one of the ways of `MODES`."""

    def __init__(self, port: int, seed: int, modes: tuple[str, ...] = MODES) -> None:
        self._upstream = ("127.0.0.1", port)
        self._random = random.Random(seed)
        #: Dealt like cards, so that all of them happen among a few requests.
        self._modes: list[str] = []
        self._all_modes = modes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.happened: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._listen)]
        self._open: set[socket.socket] = set()

    def __enter__(self) -> UnreliableNetwork:
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # Closing alone does not wake whoever accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
                thread = threading.Thread(target=self._carry, args=(connection,))
                self._threads.append(thread)
            thread.start()

    def _carry(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection:
            while request := _message(connection):
                with self._lock:
                    if not self._modes:
                        self._modes = self._random.sample(self._all_modes, len(self._all_modes))
                    mode = self._modes.pop()
                    seconds = self._random.uniform(0.0, 0.2)
                    self.happened[mode] += 1
                if mode == "cut before":
                    break
                if mode == "late":
                    time.sleep(seconds)
                answer = self._ask(request)
                if mode == "twice":
                    answer = self._ask(request)
                if mode == "cut after":
                    break
                connection.sendall(answer)
        with self._lock:
            self._open.discard(connection)

    def _ask(self, request: bytes) -> bytes:
        with socket.create_connection(self._upstream) as upstream:
            upstream.sendall(request)
            return _message(upstream)


def _message(connection: socket.socket) -> bytes:
    """A request or an answer with its body; empty: the other side has closed."""
    message = b""
    while b"\r\n\r\n" not in message:
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        message += chunk
    head, _, body = message.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        body += chunk
    return head + b"\r\n\r\n" + body

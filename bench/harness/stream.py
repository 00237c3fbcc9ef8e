"""A streamed batch: changes go out and their outcomes come back on one connection, over as long as it lasts."""

from __future__ import annotations

import random
import socket
import threading
import time

from .servers import BenchFailed, Server
from .stores import job_id

CHUNK_OPERATIONS = 256
TIMEOUT_SECONDS = 30
OUTCOME = b'{"status":200,'

_HEAD = (
    "POST /batch HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/x-ndjson\r\n"
    "Accept: application/x-ndjson\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)
_CHANGE = '{"op":"patch","id":"%s","progress_pct":%d.%02d,"stage":"Matting subject %s-%08d"}\n'


def stream(server: Server, jobs: int, connections: int, seconds: float, tag: str) -> tuple[int, float]:
    """Sends changes for so long over each connection; how many were made, and in what time, the last answer included."""
    workers = [_Stream(server, jobs, seconds, f"{tag}-{number}", number) for number in range(connections)]
    began = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took = time.monotonic() - began
    for worker in workers:
        if worker.failure or worker.sent != worker.made:
            raise BenchFailed(f"of {worker.sent} streamed changes {worker.made} were made: {worker.failure}")
    return sum(worker.made for worker in workers), took


class _Stream(threading.Thread):
    """One connection: this thread sends, another one reads."""

    def __init__(self, server: Server, jobs: int, seconds: float, tag: str, seed: int) -> None:
        super().__init__()
        self.sent = 0
        self.made = 0
        self.failure = ""
        self._seconds = seconds
        self._tag = tag
        self._ids = random.Random(seed)
        self._jobs = jobs
        self._socket = socket.create_connection(("127.0.0.1", server.port), TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall((_HEAD % server.port).encode())

    def run(self) -> None:
        reader = threading.Thread(target=self._read)
        reader.start()
        deadline = time.monotonic() + self._seconds
        try:
            while time.monotonic() < deadline and not self.failure:
                self._socket.sendall(self._chunk())
            self._socket.sendall(b"0\r\n\r\n")
        except OSError as error:
            self.failure = f"sending: {error}"
        reader.join()
        self._socket.close()

    def _chunk(self) -> bytes:
        lines = []
        for _ in range(CHUNK_OPERATIONS):
            self.sent += 1
            job = job_id(self._ids.randrange(self._jobs))
            hundredths = self.sent % 9000 + 1000
            lines.append(_CHANGE % (job, hundredths // 100, hundredths % 100, self._tag, self.sent))
        body = "".join(lines).encode()
        return b"%x\r\n%b\r\n" % (len(body), body)

    def _read(self) -> None:
        kept = b""
        try:
            while True:
                received = self._socket.recv(1 << 18)
                if not received:
                    return
                text = kept + received
                self.made += text.count(OUTCOME)
                # What may be the beginning of the next one.
                kept = text[-len(OUTCOME) + 1 :]
        except OSError as error:
            self.failure = f"reading: {error}"

"""What the peers in Python share: uvicorn as one runs it, with a process for each worker, on a port that is free."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from typing import Any, Callable, Iterator

import uvicorn


class Quiet(uvicorn.Server):
    """Ends well when it is asked to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        signal.signal(signal.SIGTERM, self.handle_exit)
        signal.signal(signal.SIGINT, self.handle_exit)
        yield


def serve(app: Callable[[], Any], workers: int) -> None:
    """Serves what `app` makes, in as many processes, until SIGTERM."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = listener.getsockname()[1]
    children = [child for _ in range(workers - 1) if (child := os.fork())] if workers > 1 else []
    is_parent = workers == 1 or len(children) == workers - 1
    if is_parent:
        print(f"listening on http://127.0.0.1:{port}", flush=True)
    config = uvicorn.Config(app(), loop="uvloop", http="httptools", log_level="warning", access_log=False)
    Quiet(config).run(sockets=[listener])
    if is_parent:
        for child in children:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
    sys.exit(0)

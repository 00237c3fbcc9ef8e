"""The service behind TLS: a proxy with a certificate of an authority of its own."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

COMMANDS = (
    "req -x509 -newkey rsa:2048 -nodes -subj /CN=authority -addext keyUsage=critical,keyCertSign -keyout root.key -out root.crt",
    "req -newkey rsa:2048 -nodes -subj /CN=service -keyout service.key -out service.csr",
    "x509 -req -in service.csr -CA root.crt -CAkey root.key -CAcreateserial -extfile names -out service.crt",
)


class SecureNetwork:
    """Takes TLS, and passes on what is in it."""

    def __init__(self, port: int, directory: Path) -> None:
        (directory / "names").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
        for command in COMMANDS:
            subprocess.run(["openssl", *command.split()], cwd=directory, check=True, capture_output=True)
        #: Whom to trust.
        self.roots = directory / "root.crt"
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(directory / "service.crt", directory / "service.key")
        self._upstream = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._listening = threading.Thread(target=self._listen)

    def __enter__(self) -> SecureNetwork:
        self._listening.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # Closing alone does not wake whoever accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._listening.join()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(connection,), daemon=True).start()

    def _carry(self, connection: socket.socket) -> None:
        # Whoever does not trust us goes away.
        with (
            contextlib.suppress(OSError),
            self._context.wrap_socket(connection, server_side=True) as client,
            socket.create_connection(self._upstream) as upstream,
        ):
            back = threading.Thread(target=_pass_on, args=(upstream, client), daemon=True)
            back.start()
            _pass_on(client, upstream)
            back.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

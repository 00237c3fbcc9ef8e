"""nginx with nchan: what somebody would put beside a store of jobs to tell browsers of changes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from .servers import Server, free_port

MODULE = "/usr/lib/nginx/modules/ngx_nchan_module.so"
PACKAGES = ("nginx", "libnginx-mod-nchan")
PUBLISH, SUBSCRIBE = "/publish", "/subscribe"

# One worker, which is what serves it best where readers have the other core. Messages are kept in memory only.
_CONF = """\
load_module {module};
user root;
daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {home}/pid;
error_log {home}/error.log;
events {{ worker_connections {descriptors}; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = {publish} {{
            nchan_publisher;
            nchan_channel_id job;
            nchan_message_buffer_length 10;
        }}
        location = {subscribe} {{
            nchan_subscriber eventsource;
            nchan_channel_id job;
            nchan_subscriber_first_message newest;
        }}
    }}
}}
"""


class Nchan(Server):
    """It says nothing when it starts, and its work is done by a child of the process that was started."""

    ready = (PUBLISH, 404)  # a channel without messages

    def __init__(self, home: Path, descriptors: int) -> None:
        home.mkdir()
        port = free_port()
        conf = home / "nginx.conf"
        conf.write_text(
            _CONF.format(
                module=MODULE,
                descriptors=descriptors,
                home=home,
                port=port,
                publish=PUBLISH,
                subscribe=SUBSCRIBE,
            )
        )
        # Before it has read which file that is, it writes errors to one of the system's.
        super().__init__("nginx with nchan", ["nginx", "-c", conf, "-e", home / "error.log"], home / "nginx.log", port)

    @property
    def worker_pid(self) -> int:
        """The only child of the process that was started."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])

    def kill(self) -> None:
        """The worker, too; it would go on without the other."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self.worker_pid, signal.SIGKILL)
        super().kill()

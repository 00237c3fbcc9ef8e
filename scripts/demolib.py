"""What the demos share: a service to kill, and a look into what was made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional

ROOT = Path(__file__).resolve().parent.parent
CLIPS = ROOT / "examples" / "clips"
BIG_BUCK_BUNNY = CLIPS / "bigbuckbunny.mp4"
BIKES = CLIPS / "bikes.mp4"

START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 15.0
REQUEST_TIMEOUT_SECONDS = 10.0
LENGTH_TOLERANCE_SECONDS = 0.5
COLUMNS = 160

Json = Dict[str, Any]


class DemoFailed(Exception):
    """Something is not as it must be."""


def require(holds: bool, otherwise: str) -> None:
    """Raises `DemoFailed`, saying `otherwise`, unless `holds`."""
    if not holds:
        raise DemoFailed(otherwise)


class Service:
    """The server process. Its store and, from the first start on, its port stay the same."""

    def __init__(self, program: Path, scratch: Path, settings: Optional[Dict[str, str]] = None) -> None:
        """`settings` are environment variables, such as `MILEPOST_SWEEP_START_GRACE_SECONDS`."""
        self.address = ""
        self._binary = program
        self._settings = settings or {}
        self._listen = "127.0.0.1:0"
        self._store = scratch / "store"
        self._stdout = scratch / "service.out"
        self._stderr = scratch / "service.err"
        self._process: Optional["subprocess.Popen[bytes]"] = None

    def start(self) -> float:
        """Starts the server and returns the seconds until it was ready."""
        began = time.monotonic()
        # Only what is said here counts, not what the shell has set for another server.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MILEPOST_")}
        environment.update(self._settings)
        command = [str(self._binary), "serve", "--listen", self._listen, "--store", str(self._store)]
        with open(self._stdout, "wb") as stdout, open(self._stderr, "ab") as stderr:
            self._process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=environment)
        self._wait_until(lambda: b"\n" in self._stdout.read_bytes(), "said where it listens")
        first_line = self._stdout.read_text().splitlines()[0]
        self.address = first_line.replace("listening on ", "", 1)
        require(self.address.startswith("http://127.0.0.1:"), f"the first line of the service is {first_line!r}")
        self._listen = self.address[len("http://") :]
        self._wait_until(self._is_ready, "was ready")
        return time.monotonic() - began

    def kill(self) -> int:
        """Kills the server with SIGKILL, as a crash would, and returns the pid it had."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        return self._process.pid

    def stop(self) -> Optional[int]:
        """Asks the server to stop and returns its exit code; None when it was not running any more."""
        if self._process is None or self._process.poll() is not None:
            return None
        self._process.terminate()
        try:
            return self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def get(self, path: str) -> Json:
        """Returns the JSON at `path`; raises `OSError` when that is not to be had."""
        return self._json(urllib.request.Request(self.address + path))

    def send(self, method: str, path: str, body: Json) -> Json:
        """Sends a body and returns the JSON of the answer; raises `OSError` for an answer that is none or an error."""
        request = urllib.request.Request(self.address + path, json.dumps(body).encode(), method=method)
        request.add_header("Content-Type", "application/json")
        return self._json(request)

    def _json(self, request: urllib.request.Request) -> Json:
        with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_SECONDS) as answer:
            document: Json = json.load(answer)
            return document

    def last_words(self) -> str:
        """Returns the end of what the server wrote to stderr."""
        if not self._stderr.exists():
            return ""
        return "\n".join(self._stderr.read_text(errors="replace").splitlines()[-20:])

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.address + "/readyz", timeout=REQUEST_TIMEOUT_SECONDS):
                return True
        except OSError:
            return False

    def _wait_until(self, holds: Callable[[], bool], what: str) -> None:
        assert self._process is not None
        give_up_at = time.monotonic() + START_SECONDS_MAX
        while not holds():
            code = self._process.poll()
            require(code is None, f"the service ended with exit code {code} before it {what}")
            require(time.monotonic() < give_up_at, f"{START_SECONDS_MAX:.0f} s passed before the service {what}")
            time.sleep(0.02)


class Media(NamedTuple):
    """What ffprobe says of a file."""

    width: int
    height: int
    duration_seconds: float
    has_sound: bool


def ffprobe(path: Path) -> Media:
    """Looks into a media file; raises `DemoFailed` when that is not one."""
    command = ["ffprobe", "-v", "error", "-show_format", "-show_streams", "-of", "json", str(path)]
    found = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    require(found.returncode == 0, f"{path}: {found.stderr.strip()}")
    about = json.loads(found.stdout)
    video = next(stream for stream in about["streams"] if stream["codec_type"] == "video")
    has_sound = any(stream["codec_type"] == "audio" for stream in about["streams"])
    return Media(video["width"], video["height"], float(about["format"]["duration"]), has_sound)


def verify_file(name: str, result: Json, width: int, height: int, seconds: float) -> Media:
    """Checks a file against what a result says of it, and against the expected size and length."""
    path = Path(result["path"])
    require(path.is_file(), f"{name}: {path} does not exist")
    require(path.stat().st_size == result["bytes"], f"{name}: {path} does not have {result['bytes']} bytes")
    made = ffprobe(path)
    for said in ((result["width"], result["height"]), (width, height)):
        require((made.width, made.height) == said, f"{name}: {path} is {made.width}x{made.height}, not {said}")
    for said_seconds in (result["duration_seconds"], seconds):
        off = abs(made.duration_seconds - said_seconds)
        require(off <= LENGTH_TOLERANCE_SECONDS, f"{name}: {path} is {made.duration_seconds} s, not {said_seconds}")
    return made


def binary() -> Path:
    """Returns the server's program; raises `DemoFailed` when it, ffmpeg or a clip is not there."""
    program = Path(os.environ.get("MILEPOST_BIN", ROOT / "target" / "release" / "milepost"))
    require(os.access(program, os.X_OK), f"{program} is not there: cargo build --release")
    for tool in ("ffmpeg", "ffprobe"):
        require(shutil.which(tool) is not None, f"{tool} is missing: scripts/install-packages ffmpeg")
    for clip in (BIG_BUCK_BUNNY, BIKES):
        require(clip.is_file(), f"{clip} is not there: scripts/fetch-clips")
    return program.resolve()

"""Drives ffmpeg and ffprobe: what is in a clip, and a run that can be watched and stopped.

Knows nothing of jobs: a run tells its progress and its lines to whoever asked for it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

from milepost import Failed

PROBE_TIMEOUT_SECONDS = 60.0
CHECK_SECONDS = 0.1
TERMINATE_SECONDS = 5.0  # ffmpeg closes its files on SIGTERM; one that has not ended after this long is killed
LENGTH_TOLERANCE_SECONDS = 0.5  # encoders pad sound and round to whole frames
LINE_BYTES_MAX = 64 * 1024  # bounds memory only; the service cuts lines earlier, and marks them

# How the workers encode: quick, and in a form that plays everywhere, from the first bytes on.
H264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p")
AAC = ("-c:a", "aac", "-b:a", "128k")
MP4 = ("-movflags", "+faststart", "-f", "mp4")


class Clip(NamedTuple):
    """A video file, as ffprobe sees it. `video_stream` is a stream number; `audio_codec` is None without sound."""

    path: Path
    duration_seconds: float
    bytes: int
    width: int
    height: int
    video_stream: int
    audio_codec: Optional[str]


def probe(path: Path) -> Clip:
    """Looks into the file at `path`.

    Raises `Failed`: `unreadable` (missing, or not a media file), `no_video`, `no_duration`.
    """
    command = [_program("ffprobe"), "-v", "error", "-show_format", "-show_streams", "-of", "json", argument(path)]
    found = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_TIMEOUT_SECONDS, check=False
    )
    if found.returncode != 0:
        said = found.stderr.decode(errors="replace").strip().splitlines()
        raise Failed("unreadable", f"ffprobe cannot read {path.name}: {said[-1] if said else 'no reason given'}")
    return _clip(path, json.loads(found.stdout))


def verify(path: Path, expected_seconds: float) -> Clip:
    """Looks into a file that ffmpeg made; raises `Failed` `short_output` when part of it is missing.

    ffmpeg ends with exit code 0 when its input breaks off in the middle, so the exit code proves nothing.
    """
    clip = probe(path)
    if clip.duration_seconds < expected_seconds - LENGTH_TOLERANCE_SECONDS:
        made, expected = f"{clip.duration_seconds:.2f} s", f"{expected_seconds:.2f} s"
        raise Failed("short_output", f"ffmpeg made only {made} of {expected}; the input seems to be damaged")
    return clip


def run(
    arguments: Sequence[str],
    seconds: float,
    on_progress: Callable[[float], None],
    on_line: Callable[[str], None],
    check: Callable[[], None],
) -> None:
    """Runs ffmpeg to make `seconds` of media, and waits for its end.

    `on_progress` is told the fraction done and `on_line` each line of ffmpeg's stderr, both from other threads. `check`
    is called ten times a second: what it raises ends ffmpeg and is passed on. Raises `Failed` `ffmpeg_exit` when
    ffmpeg fails.
    """
    command = [_program("ffmpeg"), "-hide_banner", "-nostdin", "-y", "-progress", "pipe:1", "-stats_period", "0.2"]
    command += arguments
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe) as process:
        assert process.stdout and process.stderr  # for the type checker: both are pipes
        with ThreadPoolExecutor(max_workers=2) as threads:
            progress = threads.submit(_read_progress, process.stdout, seconds, on_progress)
            last_line = threads.submit(_read_lines, process.stderr, on_line)
            try:
                _wait_for_all([progress, last_line], check)
                process.wait()
            finally:
                _end(process)
    check()  # Ctrl-C goes to ffmpeg too; that it was stopped is then the reason, not its exit code
    if process.returncode != 0:
        raise Failed("ffmpeg_exit", f"ffmpeg {_ending(process.returncode)}: {last_line.result()}")


def argument(path: Path) -> str:
    """Returns `path` for a command line: absolute, as `-y` or `concat:x` would be read as an option or a protocol."""
    return os.path.abspath(path)


class LineFolder:
    r"""Makes lines of what a program writes for a terminal, where text after a CR overwrites what stood there.

    >>> folder = LineFolder()
    >>> folder.feed(b"Stream mapping:\nframe= 1\rframe=")
    ['Stream mapping:']
    >>> folder.feed(b" 2\rframe= 3\r\nvideo:1459kB")
    ['frame= 3']
    >>> folder.rest()
    ['video:1459kB']
    """

    def __init__(self) -> None:
        self._open = b""  # the line that has not ended yet

    def feed(self, data: bytes) -> List[str]:
        """Returns the lines that `data` ends; blank ones are left out."""
        *ended, still_open = (self._open + data).split(b"\n")
        self._open = _last_overwrite(still_open)[:LINE_BYTES_MAX]
        lines = (_last_overwrite(line).decode(errors="replace").rstrip() for line in ended)
        return [line for line in lines if line]

    def rest(self) -> List[str]:
        """Returns the line that was never ended, if there is one."""
        return self.feed(b"\n")


def seconds_done(line: str) -> Optional[float]:
    """Returns how much media is done, from a line of `-progress`; None when the line does not tell.

    `out_time_ms` has been in microseconds since ever, in spite of its name. Before the first frame it is `N/A` or a
    huge negative number.

    >>> seconds_done("out_time_ms=4480000")
    4.48
    >>> seconds_done("out_time_ms=N/A"), seconds_done("out_time_ms=-9223372036854775808"), seconds_done("fps=25.0")
    (None, None, None)
    """
    name, _, value = line.strip().partition("=")
    return int(value) / 1_000_000 if name == "out_time_ms" and value.isdigit() else None


def _clip(path: Path, found: Dict[str, Any]) -> Clip:
    streams = found.get("streams", [])
    # The cover picture of a song is a video stream too.
    videos = [s for s in streams if s.get("codec_type") == "video" and not s["disposition"].get("attached_pic")]
    sounds = [s for s in streams if s.get("codec_type") == "audio"]
    if not videos:
        raise Failed("no_video", f"{path.name} has no video")
    about = found["format"]
    if "duration" not in about:
        raise Failed("no_duration", f"{path.name} does not say how long it is")
    return Clip(
        path=path,
        duration_seconds=float(about["duration"]),
        bytes=int(about["size"]),
        width=int(videos[0]["width"]),
        height=int(videos[0]["height"]),
        video_stream=int(videos[0]["index"]),
        audio_codec=str(sounds[0].get("codec_name", "unknown")) if sounds else None,
    )


def _read_progress(pipe: IO[bytes], seconds: float, on_progress: Callable[[float], None]) -> None:
    for line in pipe:
        done = seconds_done(line.decode(errors="replace"))
        if done is not None:
            on_progress(done / seconds)


def _read_lines(pipe: IO[bytes], on_line: Callable[[str], None]) -> str:
    """Returns the last line that says something; ffmpeg likes to close with one that only says that it failed."""
    last = "it gave no reason"
    for line in _lines(pipe):
        on_line(line)
        last = line if line != "Conversion failed!" else last
    return last


def _lines(pipe: IO[bytes]) -> Iterator[str]:
    folder = LineFolder()
    while True:
        data = os.read(pipe.fileno(), 65536)
        if not data:
            break
        yield from folder.feed(data)
    yield from folder.rest()


def _wait_for_all(readers: Sequence["Future[Any]"], check: Callable[[], None]) -> None:
    """Waits until ffmpeg has closed its pipes; raises what a reader raised, as ffmpeg hangs when nobody reads on."""
    while True:
        check()
        done, running = wait(readers, timeout=CHECK_SECONDS, return_when=FIRST_EXCEPTION)
        for reader in done:
            reader.result()
        if not running:
            return


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(TERMINATE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _ending(returncode: int) -> str:
    if returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"ended with exit code {returncode}"


def _last_overwrite(line: bytes) -> bytes:
    return line[line.rstrip(b"\r").rfind(b"\r") + 1 :]


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise Failed("ffmpeg_missing", f"{name} is not installed on the worker's machine")
    return path

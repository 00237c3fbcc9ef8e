#!/usr/bin/env python3
"""Cuts vertical clips out of a video, as a Milepost job of kind `shortform`.

Finds where scenes change, picks the longest pieces between the changes, and makes each a 9:16 clip. A clip is shown in
the job's result as soon as its file is whole, so a page can play the first one while the others are being made.

    python examples/shortform.py --server http://127.0.0.1:8080 INPUT OUTPUT_DIR

The result: {clips_planned, clips: [{path, start_seconds, width, height, duration_seconds, bytes}]}.
"""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Callable, List, NamedTuple, Sequence

import ffmpeg
from ffmpeg import Clip
from milepost import Failed
from worker import Job, Json, command_line, paths, work

DURATION_SECONDS_MAX = 3600.0
SCENE_SCORE_MIN = 0.3  # how much a frame must differ from the one before, 0 to 1, to begin a scene
PIECE_SECONDS_MIN = 1.0
PIECE_SECONDS_MAX = 3.0
CLIPS_MAX = 3
WIDTH = 540
HEIGHT = 960

# Every frame gets its score and passes, so that ffmpeg's progress is that of the whole video; only high scores are
# printed. Scores come out nearly the same on a small picture, and much faster.
SCENES = (
    "scale=320:-2,select='gte(scene,0)',"
    f"metadata=mode=print:key=lavfi.scene_score:value={SCENE_SCORE_MIN}:function=greater"
)
SCENE_LINE = re.compile(r"\[Parsed_metadata_\d+ @ \w+\] frame:.*\bpts_time:(\d+(?:\.\d+)?)")
# The middle of the picture, as large as 9:16 allows.
VERTICAL = f"crop=w='min(iw,ih*9/16)':h='min(ih,iw*16/9)',scale={WIDTH}:{HEIGHT},setsar=1"


class Piece(NamedTuple):
    """A part of the video, in seconds."""

    start: float
    duration: float


def shortform(job: Job, source: Path, output_dir: Path) -> Json:
    """Makes the clips of `source` in `output_dir` and returns the job's result; raises `Failed`."""
    job.stage("Probing the input", 0, 3)
    clip = ffmpeg.probe(source)
    if not PIECE_SECONDS_MIN <= clip.duration_seconds <= DURATION_SECONDS_MAX:
        limit = f"it must be {PIECE_SECONDS_MIN:.0f} to {DURATION_SECONDS_MAX:.0f} s long"
        raise Failed("bad_duration", f"{source.name} is {clip.duration_seconds:.2f} s long; {limit}")

    changes = find_scene_changes(job, clip)
    pieces = pick(changes, clip.duration_seconds)
    job.log(f"{source.name}: {len(changes)} scene changes, making {len(pieces)} clips")
    result: Json = {"clips_planned": len(pieces), "clips": []}
    job.publish(result)

    output_dir.mkdir(parents=True, exist_ok=True)
    share = (99 - 25) / len(pieces)
    for index, piece in enumerate(pieces):
        stage = f"Cutting clip {index + 1} of {len(pieces)}"
        advance = job.stage(stage, 25 + share * index, 25 + share * (index + 1))
        result["clips"].append(cut(job, clip, piece, output_dir / f"{source.stem}-{index + 1}.mp4", advance))
        job.publish(result)
    return result


def find_scene_changes(job: Job, clip: Clip) -> List[float]:
    """Returns the times, in seconds, at which a new scene begins."""
    changes: List[float] = []

    def on_line(line: str) -> None:
        job.log(line)
        found = SCENE_LINE.match(line)
        if found:
            changes.append(float(found.group(1)))

    advance = job.stage("Finding scenes", 3, 25)
    arguments = ["-i", ffmpeg.argument(clip.path), "-map", f"0:{clip.video_stream}", "-vf", SCENES, "-f", "null", "-"]
    ffmpeg.run(arguments, clip.duration_seconds, advance, on_line, job.check)
    return changes


def pick(changes: Sequence[float], duration_seconds: float) -> List[Piece]:
    """Returns the longest pieces without a scene change inside, in the order of the video; never none.

    Scenes too long for a clip are divided evenly, those too short are left out, unless there is nothing else.

    >>> pick([1.2, 5.5], 6.0)
    [Piece(start=0.0, duration=1.2), Piece(start=1.2, duration=2.15), Piece(start=3.35, duration=2.15)]
    >>> pick([0.5], 1.0)
    [Piece(start=0.0, duration=1.0)]
    """
    pieces: List[Piece] = []
    for start, end in zip([0.0, *changes], [*changes, duration_seconds]):
        parts = math.ceil((end - start) / PIECE_SECONDS_MAX)
        for part in range(parts):
            length = (end - start) / parts
            pieces.append(Piece(round(start + part * length, 3), round(length, 3)))
    long_enough = [piece for piece in pieces if piece.duration >= PIECE_SECONDS_MIN]
    longest = sorted(long_enough, key=lambda piece: -piece.duration)[:CLIPS_MAX]
    return sorted(longest) or [Piece(0.0, min(duration_seconds, PIECE_SECONDS_MAX))]


def cut(job: Job, clip: Clip, piece: Piece, output: Path, advance: Callable[[float], None]) -> Json:
    """Makes the clip `output` of one piece, and returns its entry in the result."""
    with TemporaryDirectory(prefix=".shortform-", dir=output.parent) as scratch:
        whole = Path(scratch, "whole.mp4")
        arguments = ["-ss", str(piece.start), "-t", str(piece.duration), "-i", ffmpeg.argument(clip.path)]
        arguments += ["-map", f"0:{clip.video_stream}", "-vf", VERTICAL, *ffmpeg.H264]
        if clip.audio_codec:
            arguments += ["-map", "0:a:0", *ffmpeg.AAC]
        arguments += [*ffmpeg.MP4, ffmpeg.argument(whole)]
        ffmpeg.run(arguments, piece.duration, advance, job.log, job.check)
        made = ffmpeg.verify(whole, piece.duration)
        whole.replace(output)
    return {
        "path": str(output.resolve()),
        "start_seconds": piece.start,
        "width": made.width,
        "height": made.height,
        "duration_seconds": made.duration_seconds,
        "bytes": made.bytes,
    }


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = command_line("Cuts vertical clips out of a video, as a Milepost job.")
    parser.add_argument("input", nargs="?", type=Path, metavar="INPUT", help="the video file to cut clips from")
    parser.add_argument("output_dir", nargs="?", type=Path, metavar="OUTPUT_DIR", help="the directory for the clips")
    options = parser.parse_args()
    inputs = {"input": str(options.input), "output_dir": str(options.output_dir)} if options.output_dir else None
    return work(options, "shortform", inputs, lambda job, told: shortform(job, *paths(told, "input", "output_dir")))


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Redraws a video as a cartoon, as a Milepost job of kind `restyle`.

The stages are those of every video pipeline: look into the input, refuse what cannot work, do the long part, put the
sound back, look at what came out. OUTPUT appears when it is whole, never before.

    python examples/restyle.py --server http://127.0.0.1:8080 INPUT OUTPUT

The result: {path, width, height, duration_seconds, bytes, audio_codec}.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import ffmpeg
from ffmpeg import Clip
from milepost import Failed
from worker import Job, Json, command_line, paths, work

DURATION_SECONDS_MAX = 600.0
SIDE_PIXELS_MIN = 16
SIDE_PIXELS_MAX = 4096

# Flat colours of a few brightnesses each, under the outlines of the picture in ink. The encoder wants even sides.
STYLE = ";".join(
    [
        "[{video}]scale=trunc(iw/2)*2:trunc(ih/2)*2,format=yuv420p,split[paint][ink]",
        "[paint]smartblur=lr=3:ls=1:lt=-10,lutyuv=y=36*round(val/36),hue=s=1.6[painted]",
        "[ink]extractplanes=y,gblur=sigma=1.5,edgedetect=low=0.04:high=0.1,negate,erosion,format=yuv420p[inked]",
        "[painted][inked]blend=c0_mode=multiply:c1_mode=normal:c2_mode=normal[restyled]",
    ]
)
# Sound that an MP4 file may carry as it is; other sound is encoded again.
MP4_AUDIO_CODECS = {"aac", "mp3", "ac3", "alac", "opus"}


def restyle(job: Job, source: Path, output: Path) -> Json:
    """Makes the restyled `output` from `source` and returns the job's result; raises `Failed`."""
    job.stage("Probing the input", 0, 2)
    clip = ffmpeg.probe(source)
    sound = clip.audio_codec or "no"
    job.log(f"{source.name}: {clip.width}x{clip.height}, {clip.duration_seconds:.2f} s, {sound} sound")

    job.stage("Checking the input", 2, 5)
    check(clip)

    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".restyle-", dir=output.parent) as scratch:
        silent, whole = Path(scratch, "silent.mp4"), Path(scratch, "whole.mp4")
        redraw(job, clip, silent)
        mux(job, clip, silent, whole)
        job.stage("Verifying the output", 98, 100)
        made = ffmpeg.verify(whole, clip.duration_seconds)
        whole.replace(output)
    return {
        "path": str(output.resolve()),
        "width": made.width,
        "height": made.height,
        "duration_seconds": made.duration_seconds,
        "bytes": made.bytes,
        "audio_codec": made.audio_codec,
    }


def check(clip: Clip) -> None:
    """Raises `Failed` for a clip that would take for ever or that no encoder takes."""
    if not 0 < clip.duration_seconds <= DURATION_SECONDS_MAX:
        limit = f"it must be at most {DURATION_SECONDS_MAX:.0f} s long"
        raise Failed("bad_duration", f"{clip.path.name} is {clip.duration_seconds:.2f} s long; {limit}")
    if not all(SIDE_PIXELS_MIN <= side <= SIDE_PIXELS_MAX for side in (clip.width, clip.height)):
        limit = f"each side must have {SIDE_PIXELS_MIN} to {SIDE_PIXELS_MAX} pixels"
        raise Failed("bad_resolution", f"{clip.path.name} is {clip.width}x{clip.height}; {limit}")


def redraw(job: Job, clip: Clip, silent: Path) -> None:
    """The long part: makes `silent`, the restyled video without its sound."""
    advance = job.stage("Restyling", 5, 90)
    style = STYLE.format(video=f"0:{clip.video_stream}")
    arguments = ["-i", ffmpeg.argument(clip.path), "-filter_complex", style, "-map", "[restyled]"]
    arguments += [*ffmpeg.H264, *ffmpeg.MP4, ffmpeg.argument(silent)]
    ffmpeg.run(arguments, clip.duration_seconds, advance, job.log, job.check)


def mux(job: Job, clip: Clip, silent: Path, whole: Path) -> None:
    """Makes `whole` of the restyled video and the sound of the input, if it has any."""
    advance = job.stage("Muxing the sound", 90, 98)
    arguments = ["-i", ffmpeg.argument(silent), "-i", ffmpeg.argument(clip.path), "-map", "0:v:0", "-c:v", "copy"]
    if clip.audio_codec in MP4_AUDIO_CODECS:
        arguments += ["-map", "1:a:0", "-c:a", "copy"]
    elif clip.audio_codec:
        arguments += ["-map", "1:a:0", *ffmpeg.AAC]
    arguments += [*ffmpeg.MP4, ffmpeg.argument(whole)]
    ffmpeg.run(arguments, clip.duration_seconds, advance, job.log, job.check)


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = command_line("Redraws a video as a cartoon, as a Milepost job.")
    parser.add_argument("input", nargs="?", type=Path, metavar="INPUT", help="the video file to restyle")
    parser.add_argument("output", nargs="?", type=Path, metavar="OUTPUT", help="the MP4 file to make")
    options = parser.parse_args()
    inputs = {"input": str(options.input), "output": str(options.output)} if options.output else None
    return work(options, "restyle", inputs, lambda job, told: restyle(job, *paths(told, "input", "output")))


if __name__ == "__main__":
    sys.exit(main())

"""A web backend in the usual shape: two pipelines run in threads of the web process, and frontends poll.

It had `jobs: dict = {}` in two places. The restyle pipeline was written around a small store class with a lock, the short-form
pipeline writes to the dict directly. Now both keep their jobs in Milepost, so they outlive the process, and any number of
web workers sees the same ones; nothing else in the code has changed. `run` starts it.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
import uuid
from pathlib import Path
from typing import Any

from fastapi import BackgroundTasks, FastAPI, HTTPException
from pydantic import BaseModel, Field

from milepost import Cancelled, JobsDict, JobStore, Refused

app = FastAPI()
made = Path(tempfile.mkdtemp(prefix="milepost-fastapi-"))

store = JobStore(kind="restyle")  # was: JobStore(), with a dict and a threading.Lock
jobs = JobsDict(kind="shortform")  # was: jobs: dict = {}


class Wish(BaseModel):
    """What the frontend asks for: a test picture of so many seconds stands for an upload."""

    seconds: float = Field(default=2.0, gt=0, le=600)


# The restyle pipeline: one atomic step after the other.


@app.post("/api/restyle", status_code=202)
def start_restyle(wish: Wish, background: BackgroundTasks) -> dict[str, str]:
    """Makes a job and begins to work on it."""
    job = store.create(input=wish.model_dump(), lease_seconds=30)
    background.add_task(restyle, job["id"], wish.seconds)
    return {"job_id": job["id"]}


def restyle(job_id: str, seconds: float) -> None:
    """The work. `track` takes the place of the try and except around it, and its lease tells a dead process from a slow one."""
    try:
        with store.track(id=job_id) as job:
            job.stage("Restyling")
            output = made / f"{job_id}.mp4"
            for pct in encode(seconds, "hue=s=0", output):
                job.progress(pct)
            job.log(f"made {output.stat().st_size} bytes")
            job.result = {"path": str(output)}
    except Cancelled:
        pass


@app.get("/api/restyle/{job_id}")
def restyle_status(job_id: str) -> dict[str, Any]:
    """What the frontend polls."""
    job = store.read(job_id)
    if job is None:
        raise HTTPException(404, "Job not found")
    return {name: job.get(name) for name in ("status", "logs", "progress_pct", "result")}


@app.post("/api/restyle/{job_id}/cancel")
def cancel_restyle(job_id: str) -> dict[str, Any]:
    """The button that used to race the pipeline."""
    try:
        return {"status": store.cancel(job_id)["status"]}
    except Refused as refused:
        raise HTTPException(refused.status, refused.detail) from None


# The short-form pipeline: as it always was.


@app.post("/api/shortform", status_code=202)
def start_shortform(wish: Wish) -> dict[str, str]:
    """Makes a job and begins to work on it."""
    job_id = str(uuid.uuid4())
    jobs[job_id] = {"status": "queued", "logs": [], "result": None}
    threading.Thread(target=shortform, args=(job_id, wish.seconds), daemon=True).start()
    return {"job_id": job_id}


def shortform(job_id: str, seconds: float) -> None:
    """The work."""
    try:
        jobs[job_id]["status"] = "processing"
        output = made / f"{job_id}.mp4"
        for pct in encode(seconds, "crop=in_h*9/16:in_h", output):
            jobs[job_id]["logs"].append(f"at {pct:.0f} %")
        jobs[job_id]["status"] = "completed"
        jobs[job_id]["result"] = {"path": str(output)}
    except Exception as error:
        jobs[job_id]["status"] = "failed"
        jobs[job_id]["logs"].append(f"❌ {error}")


@app.get("/api/status/{job_id}")
def shortform_status(job_id: str) -> dict[str, Any]:
    """What the frontend polls."""
    if job_id not in jobs:
        raise HTTPException(404, "Job not found")
    job = jobs[job_id]
    return {"status": job["status"], "logs": list(job["logs"]), "result": job.get("result")}


def encode(seconds: float, style: str, output: Path) -> Any:
    """Makes a video, and yields how far it is, in percent."""
    picture = f"testsrc2=size=640x360:rate=25:duration={seconds}"
    command = ["ffmpeg", "-loglevel", "error", "-progress", "pipe:1", "-stats_period", "0.1", "-y"]
    command += ["-f", "lavfi", "-i", picture, "-vf", style, "-pix_fmt", "yuv420p", str(output)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            name, _, value = line.strip().partition("=")
            if name == "out_time_us" and value.isdigit():
                yield min(int(value) / 1e6 / seconds, 1.0) * 100
        _, errors = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(errors.strip() or f"ffmpeg ended with {process.returncode}")
    finally:
        process.kill()
        process.communicate()

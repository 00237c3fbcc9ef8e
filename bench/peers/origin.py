"""The way of the origin: FastAPI, a dict in the process, and a JSON file for each job that is replaced whole.

    origin.py DIRECTORY JOBS [--sync]

With --sync the file and its directory are synced before the answer; without, an answer is in the kernel's memory. One process: a
dict is not shared.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from fastapi import Body, FastAPI, HTTPException
from work import LINES, LINES_MAX, first_job, first_lines, job_id
from serving import serve


class Jobs:
    """The dict, and its files."""

    def __init__(self, directory: Path, count: int, is_synced: bool) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self._descriptor = os.open(directory, os.O_RDONLY)
        self._is_synced = is_synced
        self.jobs: dict[str, dict[str, Any]] = {}
        self.locks: dict[str, threading.Lock] = {}
        for number in range(count):
            known = job_id(number)
            self.jobs[known] = {**first_job(number), "logs": first_lines(number)}
            self.locks[known] = threading.Lock()

    def save(self, known: str) -> None:
        """Replaces the file of a job."""
        path = self._directory / f"{known}.json"
        temporary = path.with_suffix(".tmp")
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(self.jobs[known], file)
            if self._is_synced:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if self._is_synced:
            os.fsync(self._descriptor)


def app() -> FastAPI:
    """The routes."""
    directory, count = Path(sys.argv[1]), int(sys.argv[2])
    kept = Jobs(directory, count, "--sync" in sys.argv)
    api = FastAPI()

    def lock_of(known: str) -> threading.Lock:
        if known not in kept.jobs:
            raise HTTPException(404)
        return kept.locks[known]

    @api.get("/readyz")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    @api.patch("/jobs/{known}")
    def patch(known: str, change: dict[str, Any] = Body(...)) -> dict[str, Any]:
        with lock_of(known):
            job = kept.jobs[known]
            job.update(change)
            job["version"] += 1
            kept.save(known)
            return {name: value for name, value in job.items() if name != "logs"}

    @api.post("/jobs/{known}/logs")
    def log(known: str, line: dict[str, Any] = Body(...)) -> dict[str, Any]:
        with lock_of(known):
            job = kept.jobs[known]
            job["logs"] = [*job["logs"], line["line"]][-LINES_MAX:]
            job["version"] += 1
            kept.save(known)
            return {"version": job["version"]}

    @api.get("/jobs/{known}")
    def read(known: str) -> dict[str, Any]:
        with lock_of(known):
            job = kept.jobs[known]
            return {**job, "logs": job["logs"][-LINES:]}

    return api


if __name__ == "__main__":
    serve(app, 1)

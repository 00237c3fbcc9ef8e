"""PocketBase: a collection of jobs that anybody may read and change, and one of the lines of their logs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from .servers import BenchFailed, Server, ask, free_port
from .stores import job_id

#: Where a job is.
RECORD = "/api/collections/jobs/records/%s"
USER, PASSWORD = "bench@example.com", "not-a-secret-of-anybody"
OPEN = {rule: "" for rule in ("listRule", "viewRule", "createRule", "updateRule")}
# With the bench's ids; otherwise as the program's own page makes it.
ID = {
    "name": "id",
    "type": "text",
    "primaryKey": True,
    "required": True,
    "system": True,
    "min": 1,
    "max": 64,
    "pattern": "^[a-z0-9-]+$",
    "autogeneratePattern": "[a-z0-9]{15}",
}
COLLECTIONS = [
    {
        "name": "jobs",
        "type": "base",
        **OPEN,
        "fields": [
            ID,
            *({"name": name, "type": "text"} for name in ("kind", "status", "stage")),
            {"name": "progress_pct", "type": "number"},
            {"name": "result", "type": "json"},
        ],
    },
    {
        "name": "lines",
        "type": "base",
        **OPEN,
        "fields": [{"name": "job", "type": "text"}, {"name": "line", "type": "text"}],
        "indexes": ["CREATE INDEX lines_of_jobs ON lines (job)"],
    },
]


class PocketBase(Server):
    """The program, with jobs in it."""

    ready = ("/api/health", 200)

    def __init__(self, program: Path, directory: Path, log: Path) -> None:
        port = free_port()
        self._of_directory = [str(program), f"--dir={directory}"]
        super().__init__("PocketBase", [*self._of_directory, "serve", f"--http=127.0.0.1:{port}"], log, port)

    def fill(self, jobs: int) -> None:
        """Makes the collections, and so many jobs."""
        subprocess.run(
            [*self._of_directory, "superuser", "upsert", USER, PASSWORD], check=True, stdout=subprocess.DEVNULL
        )
        body = json.dumps({"identity": USER, "password": PASSWORD})
        answer = self.ask("POST", "/api/collections/_superusers/auth-with-password", body)
        token = json.loads(answer.body).get("token", "")
        for collection in COLLECTIONS:
            made = self.ask("POST", "/api/collections", json.dumps(collection), Authorization=token)
            if made.status != 200:
                raise BenchFailed(f"PocketBase makes no collection: {made.body[:300]!r}")
        connection = self.connection()
        for number in range(jobs):
            job = {"id": job_id(number), "kind": "restyle", "status": "processing", "stage": "Matting subject"}
            made = ask(connection, "POST", "/api/collections/jobs/records", json.dumps(job))
            if made.status != 200:
                raise BenchFailed(f"PocketBase makes no job: {made.body[:300]!r}")
        connection.close()

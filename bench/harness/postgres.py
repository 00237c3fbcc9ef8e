"""A PostgreSQL for the bench, and the tables of those who use it without Milepost."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from .servers import BenchFailed
from .stores import LINES

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["openssl", "postgresql"]
SETTINGS = ["shared_buffers=512MB", "max_wal_size=4GB"]

# As the service has it: what is changed has room in its page, and vacuum keeps up.
_TABLES = f"""
CREATE TABLE peer(id text PRIMARY KEY, version int8 NOT NULL, lines int8 NOT NULL, document jsonb NOT NULL) WITH (fillfactor = 50);
CREATE TABLE peer_lines(id text, seq int8, line text NOT NULL, PRIMARY KEY (id, seq));
INSERT INTO peer SELECT '0199e0c1-7c1e-7a52-9d0e-' || lpad(to_hex(n), 12, '0'), 1, {LINES},
    '{{"kind": "restyle", "status": "processing", "stage": "Matting subject", "labels": {{"user": "7"}}}}'
    FROM generate_series(0, %d) AS n;
INSERT INTO peer_lines SELECT id, seq, 'frame= ' || seq || ' fps=24 q=28.0 time=00:00:08.08 speed=1.21x'
    FROM peer, generate_series(1, {LINES}) AS seq;
"""


@contextmanager
def database() -> Iterator[str]:
    """The URL of a PostgreSQL of its own, which syncs."""
    command = [ROOT / "scripts" / "throwaway-postgres", *SETTINGS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        url = process.stdout.readline().strip()
        if not url.startswith("postgres://"):
            raise BenchFailed("PostgreSQL does not start; what it says is above")
        try:
            yield url
        finally:
            process.stdin.close()


def sql(url: str, statement: str) -> None:
    """Has the database do something."""
    subprocess.run(["psql", "-Xqd", url, "-v", "ON_ERROR_STOP=1", "-c", statement], check=True, stdout=subprocess.DEVNULL)


def fill(url: str, jobs: int) -> None:
    """Makes the tables of `ceiling ANSWER.json database URL`."""
    sql(url, _TABLES % (jobs - 1))
    # By itself: it cannot be done inside of what the others are done in.
    sql(url, "VACUUM ANALYZE")

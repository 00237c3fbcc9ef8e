"""The work that all peers do: jobs of the bench's ids, each with 20 lines, of which a hundred are kept and 20 are read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.stores import LINES, job_id  # noqa: E402

__all__ = ["LINES", "LINES_MAX", "first_job", "first_lines", "job_id"]

LINES_MAX = 100


def first_job(number: int) -> dict[str, Any]:
    """What a job is at first."""
    return {
        "id": job_id(number),
        "kind": "restyle",
        "status": "processing",
        "progress_pct": 0,
        "stage": "Matting subject",
        "result": None,
        "error": None,
        "version": 1,
    }


def first_lines(number: int) -> list[str]:
    """Its log at first."""
    return [f"frame={number:4d}{line:02d} fps=24 q=28.0 time=00:00:{line:02d}.08 speed=1.21x" for line in range(LINES)]

"""Milepost's client: jobs whose status, progress, results and log lines others follow.

`JobStore` and `AsyncJobStore` are the service; `track` and `worker` report on work; `JobsDict` is for code that keeps its jobs in
a dict.
"""

from .aio import AsyncJobStore, AsyncTrackedJob
from .documents import Job, LogLine
from .errors import (
    Cancelled,
    Failed,
    Fenced,
    GivenBack,
    JobNotFound,
    MilepostError,
    Refused,
    Unavailable,
    Undelivered,
)
from .job_entry import JobEntry, LogLines
from .jobs_dict import JobsDict
from .reporting import JobLogHandler, job_tqdm, progress_callback
from .signals import interruptible
from .store import JobStore
from .tracking import TrackedJob
from .watching import Event
from .working import Worker, worker

__all__ = [
    "AsyncJobStore",
    "AsyncTrackedJob",
    "Cancelled",
    "Event",
    "Failed",
    "Fenced",
    "GivenBack",
    "Job",
    "JobEntry",
    "JobLogHandler",
    "JobNotFound",
    "JobStore",
    "JobsDict",
    "LogLine",
    "LogLines",
    "MilepostError",
    "Refused",
    "TrackedJob",
    "Unavailable",
    "Undelivered",
    "Worker",
    "interruptible",
    "job_tqdm",
    "progress_callback",
    "worker",
]

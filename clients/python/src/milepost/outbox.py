"""What waits to be sent: the changes of each job, in their order, with their log lines counted.

Promises: changes of a job are sent one after the other, each again until it is answered. Consecutive ones become one request: the
latest progress, stage and result count, and every line travels, exactly once: lines are numbered in this writer's own count, so
that the service drops those it has. It holds at most `bytes_max`; whoever brings more waits. A refused change is told to whoever
waits for it, or with the job's next call.

Knows nothing of HTTP. All methods may be called by any thread.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from .errors import MilepostError, Refused, Undelivered
from .members import DONE, Members
from .transport import json_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

CHANGE_LINES_MAX = 2000
CHANGE_BYTES_MAX = 256 * 1024  # of members and lines that become one step
LINE_CHARS_MAX = 64 * 1024  # the service cuts lines, too, and sooner unless it is told otherwise
LINE_CUT = "…[cut]"
LANES_MAX = 10_000  # jobs whose counts are remembered when nothing waits
OVERHEAD_BYTES = 400  # of a change in memory, beside what it says
LINE_OVERHEAD_BYTES = 41  # of a line in memory, beside its text


class NoRoom(Undelivered):
    """Too much waits to be sent."""


class Answer(NamedTuple):
    """What is known of a job from the last answer to one of its changes."""

    status: str
    attempt: int
    version: int
    cancel_requested: bool


#: Those who wait for changes.
Told = list["Future[Answer]"]


class Change:
    """Some members and lines of one job that become visible in one step."""

    __slots__ = ("attempt", "is_closed", "lines", "members", "seq", "size", "waiting")

    def __init__(self, attempt: int | None) -> None:
        self.attempt = attempt
        self.members = Members({})
        #: As JSON.
        self.lines: list[bytes] = []
        self.size = OVERHEAD_BYTES
        self.waiting: list[Future[Answer]] = []
        self.is_closed = False
        self.seq = 0

    def takes(self, members: Members, lines: list[bytes], attempt: int | None, size: int) -> bool:
        """Whether something later may become visible with this. What ends an attempt, or begins one, is a step of its own."""
        if self.is_closed or attempt != self.attempt or members.status == "queued":
            return False
        if self.members.status in DONE and members.texts:
            return False
        return len(self.lines) + len(lines) <= CHANGE_LINES_MAX and self.size + size <= CHANGE_BYTES_MAX

    def add(self, members: Members, lines: list[bytes], size: int) -> None:
        """Takes it up."""
        if members.texts:
            self.members.add(members)
            self.is_closed = members.status == "queued"
        self.lines += lines
        self.size += size

    def tell(self, what: Answer | MilepostError) -> None:
        """Tells all who wait for it what has become of it."""
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            # Whoever waited may have gone away.
            if not future.set_running_or_notify_cancel():
                continue
            if isinstance(what, MilepostError):
                future.set_exception(what)
            else:
                future.set_result(what)

    def split(self) -> tuple[Change, Change]:
        """Its members, with those who wait for them, and its lines."""
        lines = Change(self.attempt)
        lines.lines, lines.size = self.lines, self.size
        return self, lines


class Lane:
    """The changes of one job."""

    __slots__ = ("answer", "counts", "failure", "in_flight", "is_ensured", "job_id", "not_before", "pending", "writer")

    def __init__(self, job_id: str, writer: str) -> None:
        self.job_id = job_id
        self.writer = writer
        self.pending: deque[Change] = deque()
        self.in_flight: Change | None = None
        #: Lines that the service has of each attempt that was named; `None`: of whichever it was.
        self.counts: dict[int | None, int] = {}
        self.answer: Answer | None = None
        self.failure: MilepostError | None = None
        self.not_before = 0.0
        #: It was made since its changes came.
        self.is_ensured = False

    def changes(self) -> list[Change]:
        """All that wait, in their order."""
        return [*([self.in_flight] if self.in_flight else []), *self.pending]

    def operation(self) -> bytes:
        """What is in flight, as an operation of a batch."""
        change = self.in_flight
        assert change is not None
        is_report = change.members.are_a_report() and bool(change.lines)
        names = {"progress_pct": "pct"} if is_report else {}
        parts = [b'"op":"log"' if is_report else b'"op":"patch"', b'"id":' + json_bytes(self.job_id)]
        parts += [b'"%b":%b' % (names.get(name, name).encode(), text) for name, text in change.members.texts.items()]
        if change.attempt is not None:
            parts.append(b'"attempt":%d' % change.attempt)
        if change.lines:
            change.seq = self.counts.get(change.attempt, 0) + 1
            # Lines that name their attempt, and lines that do not, are counted apart.
            writer = self.writer if change.attempt is None else f"{self.writer}@{change.attempt}"
            parts.append(b'"writer":%b,"seq":%d' % (json_bytes(writer), change.seq))
            parts.append(b'"%b":[%b]' % (b"lines" if is_report else b"log", b",".join(change.lines)))
        return b"{" + b",".join(parts) + b"}"


class Outbox:
    """See the module."""

    def __init__(self, writer: str, bytes_max: int, on_error: Callable[[str, MilepostError], None] | None) -> None:
        """`writer` is what names of this process's writers begin with; nobody else may use them."""
        self._writer = writer
        self._writers = 0
        self._bytes_max = bytes_max
        self._on_error = on_error
        self._lock = threading.Condition()
        self._lanes: OrderedDict[str, Lane] = OrderedDict()
        self._ready: OrderedDict[str, Lane] = OrderedDict()
        self._bytes = 0
        self._closed: str | None = None
        self._failed: OrderedDict[str, Lane] = OrderedDict()

    # For those who bring changes.

    def put(
        self,
        job_id: str,
        members: Members,
        lines: list[str],
        attempt: int | None = None,
        *,
        wait_seconds: float,
        future: bool = False,
    ) -> Future[Answer] | None:
        """Takes a change; waits for room for so long at the most. With `future` returns what tells when it is durable.

        Raises what has become of an earlier change of the job that nobody waited for, and then has not taken this one; and
        `Undelivered` when there is no room.
        """
        *first, last = _steps([_line(line) for line in lines])
        with self._lock:
            self._check(job_id)
            for step in first:
                self._put(job_id, Members({}), step, attempt, wait_seconds)
            change = self._put(job_id, members, last, attempt, wait_seconds)
            if not future:
                return None
            told: Future[Answer] = Future()
            change.waiting.append(told)
            self._lock.notify_all()
            return told

    def last(self, job_id: str | None) -> Told:
        """What tells when the last changes of a job, or of all, that are there now are durable."""
        with self._lock:
            self._check(job_id)
            told = []
            for waiting in self._waiting(job_id):
                lane = self._lanes[waiting]
                change = lane.pending[-1] if lane.pending else lane.in_flight
                if change is not None:
                    told.append(Future[Answer]())
                    change.waiting.append(told[-1])
            self._lock.notify_all()
            return told

    def answer(self, job_id: str) -> Answer | None:
        """What the last answer said of a job."""
        with self._lock:
            lane = self._lanes.get(job_id)
            return lane.answer if lane else None

    def check(self, job_id: str | None) -> None:
        """Raises what has been refused that nobody was told of."""
        with self._lock:
            self._check(job_id)

    def close(self, why: str) -> list[str]:
        """Takes nothing more; returns the jobs of which something is left."""
        with self._lock:
            self._closed = self._closed or why
            left = self._waiting(None)
            changes = [(lane.job_id, change) for lane in self._lanes.values() for change in lane.changes()]
            self._lock.notify_all()
        for job_id, change in changes:
            change.tell(Undelivered(why, (job_id,)))
        return left

    # For the one who sends them.

    def take(self, linger_seconds: float, operations_max: int, bytes_max: int) -> list[Lane]:
        """The jobs whose next changes are to be sent now, which are then in flight; waits for some. Empty: closed.

        What comes within `linger_seconds` goes along, but for changes that somebody waits for.
        """
        with self._lock:
            while not self._closed:
                now = time.monotonic()
                due = [lane for lane in self._ready.values() if lane.not_before <= now]
                if due:
                    break
                nexts = [lane.not_before for lane in self._ready.values()]
                self._lock.wait(min(nexts) - now if nexts else None)
            if not self._is_urgent():
                self._lock.wait_for(lambda: self._closed or self._is_urgent(), linger_seconds)
            now, size = time.monotonic(), 0
            taken: list[Lane] = []
            for job_id, lane in list(self._ready.items()):
                if lane.not_before > now:
                    continue
                size += lane.pending[0].size
                if taken and (size > bytes_max or len(taken) == operations_max):
                    break
                lane.in_flight = lane.pending.popleft()
                del self._ready[job_id]
                taken.append(lane)
            return [] if self._closed else taken

    def settle(self, lane: Lane, answer: Answer) -> None:
        """The change in flight is durable."""
        with self._lock:
            change = lane.in_flight
            if change is None:
                return
            if change.lines:
                lane.counts[change.attempt] = change.seq + len(change.lines) - 1
            lane.answer = answer
            self._end(lane, change)
        change.tell(answer)

    def refuse(self, lane: Lane, error: Refused) -> None:
        """The service has refused the change in flight."""
        with self._lock:
            change = lane.in_flight
            if change is None:
                return
            expected = error.problem.get("expected")
            if error.code == "log_gap" and isinstance(expected, int) and expected > 0:
                # Another attempt counts anew.
                lane.counts[change.attempt] = expected - 1
                self._again(lane, change, 0.0)
                return
            is_told = bool(change.waiting)
            if not is_told:
                lane.failure = lane.failure or error
                self._failed[lane.job_id] = lane
            if error.code == "already_finished" and change.lines and change.members.texts:
                # A done job still takes the last lines of its worker.
                told, change = change.split()
                self._again(lane, change, 0.0)
            else:
                told = change
                self._end(lane, change)
        told.tell(error)
        if not is_told and self._on_error:
            self._on_error(lane.job_id, error)

    def again(self, lane: Lane, after_seconds: float) -> None:
        """There was no answer to the change in flight: it is sent again."""
        with self._lock:
            if lane.in_flight is not None:
                self._again(lane, lane.in_flight, after_seconds)

    # With the lock held.

    def _again(self, lane: Lane, change: Change, after_seconds: float) -> None:
        lane.in_flight = None
        lane.not_before = time.monotonic() + after_seconds
        change.is_closed = True
        lane.pending.appendleft(change)
        self._ready[lane.job_id] = lane
        self._lock.notify_all()

    def _end(self, lane: Lane, change: Change) -> None:
        lane.in_flight = None
        lane.not_before = 0.0
        self._bytes -= change.size
        if lane.pending:
            self._ready[lane.job_id] = lane
        self._lock.notify_all()

    def _check(self, job_id: str | None) -> None:
        if not self._failed:
            return
        lane = self._failed.get(job_id) if job_id else next(iter(self._failed.values()))
        if lane is None or lane.failure is None:
            return
        error, lane.failure = lane.failure, None
        del self._failed[lane.job_id]
        raise error

    def _lane(self, job_id: str) -> Lane:
        lane = self._lanes.get(job_id)
        if lane is None:
            self._writers += 1
            # A count that is forgotten is never gone on with: the name is new.
            lane = self._lanes[job_id] = Lane(job_id, f"{self._writer}.{self._writers}")
            self._forget()
        self._lanes.move_to_end(job_id)
        return lane

    def _forget(self) -> None:
        if len(self._lanes) > LANES_MAX:
            for lane in list(self._lanes.values())[: LANES_MAX // 10]:
                if not lane.pending and lane.in_flight is None and lane.failure is None:
                    del self._lanes[lane.job_id]

    def _put(self, job_id: str, members: Members, lines: list[bytes], attempt: int | None, wait_seconds: float) -> Change:
        size = members.size + sum(len(line) + LINE_OVERHEAD_BYTES for line in lines)
        self._wait_for_room(job_id, size + OVERHEAD_BYTES, wait_seconds)
        lane = self._lane(job_id)
        last = lane.pending[-1] if lane.pending else None
        if last is None or not last.takes(members, lines, attempt, size):
            last = Change(attempt)
            lane.pending.append(last)
            self._bytes += OVERHEAD_BYTES
            if lane.in_flight is None:
                self._ready[job_id] = lane
                self._lock.notify_all()
        last.add(members, lines, size)
        self._bytes += size
        return last

    def _wait_for_room(self, job_id: str, size: int, wait_seconds: float) -> None:
        def has_room() -> bool:
            return bool(self._closed) or self._bytes == 0 or self._bytes + size <= self._bytes_max

        if not has_room() and not self._lock.wait_for(has_room, wait_seconds):
            raise NoRoom(f"no room for more after {wait_seconds:g} s: {self._bytes} bytes wait to be sent", (job_id,))
        if self._closed:
            raise Undelivered(self._closed, (job_id,))

    def _waiting(self, job_id: str | None) -> list[str]:
        if job_id is None:
            return [lane.job_id for lane in self._lanes.values() if lane.pending or lane.in_flight]
        lane = self._lanes.get(job_id)
        return [job_id] if lane and (lane.pending or lane.in_flight) else []

    def _is_urgent(self) -> bool:
        return any(lane.pending[0].waiting for lane in self._ready.values() if lane.pending)


def _line(line: str) -> bytes:
    return json_bytes(line if len(line) <= LINE_CHARS_MAX else line[:LINE_CHARS_MAX] + LINE_CUT)


def _steps(lines: list[bytes]) -> list[list[bytes]]:
    """Lines in as many steps as they need; at least one, which may be empty."""
    steps: list[list[bytes]] = [[]]
    size = 0
    for line in lines:
        size += len(line) + LINE_OVERHEAD_BYTES
        if steps[-1] and (size > CHANGE_BYTES_MAX // 2 or len(steps[-1]) == CHANGE_LINES_MAX):
            steps.append([])
            size = len(line) + LINE_OVERHEAD_BYTES
        steps[-1].append(line)
    return steps


def answer_of(document: Mapping[str, Any]) -> Answer:
    """What the document of a job, or the receipt of an append, says."""
    return Answer(str(document["status"]), int(document["attempt"]), int(document["version"]), bool(document["cancel_requested"]))

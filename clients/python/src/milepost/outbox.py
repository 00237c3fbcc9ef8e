"""What waits to be sent: the changes of each job, in their order, with their log lines counted.

Promises: changes of a job are sent one after the other, each again until it is answered. Consecutive ones become one request: the
latest progress, stage and result count, and every line travels, exactly once: lines are numbered in this writer's own count, so
that the service drops those it has. What is refused takes nothing else with it. It is told to the call that waits for it, or
kept for the job's next call, and never forgotten. At most `bytes_max` is held; whoever brings more waits.

Knows nothing of HTTP. All methods may be called by any thread.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from .errors import FENCED_CODES, JobNotFound, MilepostError, Refused, Undelivered
from .members import ALIASES, DONE, Members
from .transport import Backoff, json_bytes

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
Told = list["Future[None]"]


class Change:
    """Some members and lines of one job that become visible in one step."""

    __slots__ = ("attempt", "barriers", "is_closed", "is_repeat", "lines", "members", "seq", "size", "writers")

    def __init__(self, attempt: int | None) -> None:
        self.attempt = attempt
        self.members = Members({})
        #: As JSON.
        self.lines: list[bytes] = []
        self.size = OVERHEAD_BYTES
        #: Calls that wait for what they have written.
        self.writers: list[Future[Answer]] = []
        #: Calls that wait until nothing is under way any more, whatever has become of it.
        self.barriers: Told = []
        self.is_closed = False
        self.is_repeat = False
        self.seq = 0

    def takes(self, members: Members, lines: list[bytes], attempt: int | None, size: int) -> bool:
        """Whether something later may become visible with this.

        What ends or begins an attempt shares a step with lines alone: what is refused of other members must not stop it.
        """
        if self.is_closed or attempt != self.attempt:
            return False
        if members.texts and self.members.texts and (members.is_end or self.members.status in DONE):
            return False
        return len(self.lines) + len(lines) <= CHANGE_LINES_MAX and self.size + size <= CHANGE_BYTES_MAX

    def add(self, members: Members, lines: list[bytes], size: int) -> None:
        """Takes it up."""
        if members.texts:
            self.members.add(members)
            self.is_closed = members.status == "queued"
        self.lines += lines
        self.size += size

    def tell(self, what: Answer | MilepostError) -> bool:
        """Tells the calls that have written it, and whether there are any left."""
        # Whoever waited may have gone away.
        waiting = [future for future in self.writers if future.set_running_or_notify_cancel()]
        self.writers = []
        for future in waiting:
            if isinstance(what, MilepostError):
                future.set_exception(what)
            else:
                future.set_result(what)
        return bool(waiting)

    def is_over(self) -> None:
        """Nothing of it is under way any more."""
        for barrier in self.barriers:
            if barrier.set_running_or_notify_cancel():
                barrier.set_result(None)

    def without(self, error: Refused) -> bool:
        """Leaves out what is refused; whether something is left to send. Those who wait are told before."""
        if error.code in FENCED_CODES - {"already_finished"} or isinstance(error, JobNotFound) or not self.members.texts:
            return False
        field = str(error.problem.get("field", "")).partition(".")[0].partition("[")[0]
        field = ALIASES.get(field, field)
        if field in self.members.texts and not self.members.is_end:
            self.members.drop(field)
        elif field in ("log", "lines", "line", "writer", "seq"):
            return False
        else:
            # A done job still takes the last lines of its worker.
            self.members = Members({})
        return bool(self.lines or self.members.texts)


class Lane:
    """The changes of one job."""

    __slots__ = (
        "answer",
        "backoff",
        "counts",
        "failure",
        "in_flight",
        "is_ensured",
        "is_uncounted",
        "job_id",
        "not_before",
        "pending",
        "writer",
    )

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
        self.backoff = Backoff()
        #: It was made since its changes came.
        self.is_ensured = False
        #: The service counts no more writers in this attempt.
        self.is_uncounted = False

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
        attempt = change.attempt
        if attempt is None and change.is_repeat and self.answer is not None:
            # It may be there already, in the attempt of then. In another one nobody would know it again.
            attempt = self.answer.attempt
        if attempt is not None:
            parts.append(b'"attempt":%d' % attempt)
        if change.lines:
            parts.append(b'"%b":[%b]' % (b"lines" if is_report else b"log", b",".join(change.lines)))
        if change.lines and not self.is_uncounted:
            change.seq = self.counts.get(change.attempt, 0) + 1
            # Lines that name their attempt, and lines that do not, are counted apart.
            writer = self.writer if change.attempt is None else f"{self.writer}@{change.attempt}"
            parts.append(b'"writer":%b,"seq":%d' % (json_bytes(writer), change.seq))
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
        self, job_id: str, members: Members, lines: list[str], attempt: int | None = None, *, future: bool = False
    ) -> Future[Answer] | None:
        """Takes a change. With `future` returns what tells when it is durable; who cancels it, is not told of a refusal.

        Raises `NoRoom`, and has taken nothing then.
        """
        *first, last = _steps([_line(line) for line in lines])
        size = members.size + sum(len(line) + LINE_OVERHEAD_BYTES for step in (*first, last) for line in step)
        with self._lock:
            if self._closed:
                raise Undelivered(self._closed, (job_id,))
            if self._bytes and self._bytes + size + OVERHEAD_BYTES > self._bytes_max:
                raise NoRoom(f"no room for more: {self._bytes} bytes wait to be sent", (job_id,))
            for step in first:
                self._put(job_id, Members({}), step, attempt)
            change = self._put(job_id, members, last, attempt)
            if not future:
                return None
            told: Future[Answer] = Future()
            change.writers.append(told)
            self._lock.notify_all()
            return told

    def wait_for_room(self, seconds: float) -> None:
        """Returns when some of what waits has been sent, or after so long."""
        with self._lock:
            before = self._bytes
            self._lock.wait_for(lambda: self._closed or self._bytes < before or not self._bytes, seconds)

    def barriers(self, job_id: str | None) -> Told:
        """What tells when all changes of a job, or of all, that are there now have come to an end, well or not."""
        with self._lock:
            barriers: Told = []
            for waiting in self._waiting(job_id):
                if self._closed:
                    raise Undelivered(self._closed, (waiting,))
                barriers.append(Future())
                self._lanes[waiting].changes()[-1].barriers.append(barriers[-1])
            self._lock.notify_all()
            return barriers

    def answer(self, job_id: str) -> Answer | None:
        """What the last answer said of a job."""
        with self._lock:
            lane = self._lanes.get(job_id)
            return lane.answer if lane else None

    def check(self, job_id: str | None) -> None:
        """Raises what has been refused that nobody was told of, and forgets it."""
        with self._lock:
            if not self._failed:
                return
            lane = self._failed.get(job_id) if job_id else next(iter(self._failed.values()))
            if lane is None or lane.failure is None:
                return
            error, lane.failure = lane.failure, None
            del self._failed[lane.job_id]
        raise error

    def close(self, why: str) -> list[str]:
        """Takes nothing more; returns the jobs of which something is left."""
        with self._lock:
            self._closed = self._closed or why
            left = self._waiting(None)
            for job_id in left:
                for change in self._lanes[job_id].changes():
                    change.tell(Undelivered(why, (job_id,)))
                    change.is_over()
            self._lock.notify_all()
        return left

    # For the one who sends them.

    def take(self, linger_seconds: float, operations_max: int, bytes_max: int) -> list[Lane]:
        """The jobs whose next changes are to be sent now, which are then in flight; waits for some. Empty: closed.

        What comes within `linger_seconds` goes along, unless somebody waits.
        """
        with self._lock:
            while not self._closed:
                now = time.monotonic()
                if any(lane.not_before <= now for lane in self._ready.values()):
                    break
                nexts = [lane.not_before for lane in self._ready.values()]
                self._lock.wait(min(nexts) - now if nexts else None)
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
            if change.lines and change.seq:
                lane.counts[change.attempt] = change.seq + len(change.lines) - 1
            lane.answer = answer
            change.tell(answer)
            self._end(lane, change)

    def refuse(self, lane: Lane, error: Refused) -> None:
        """The service has refused the change in flight. What is not refused of it is sent again."""
        with self._lock:
            change = lane.in_flight
            if change is None:
                return
            expected = error.problem.get("expected")
            if error.code == "log_gap" and isinstance(expected, int) and expected > 0:
                # Another attempt counts anew. What may be there already names its attempt, and is not of this one.
                lane.counts[change.attempt] = expected - 1
                self._again(lane, change, 0.0)
                return
            if error.problem.get("field") == "writer" and not lane.is_uncounted:
                lane.is_uncounted = True
                change.seq = 0
                self._again(lane, change, 0.0)
                return
            is_told = change.tell(error)
            if not is_told:
                lane.failure = lane.failure or error
                self._failed[lane.job_id] = lane
            if change.without(error):
                self._again(lane, change, 0.0)
            else:
                self._end(lane, change)
        if not is_told and self._on_error:
            self._on_error(lane.job_id, error)

    def again(self, lane: Lane, after_seconds: float, *, is_sent: bool) -> None:
        """There was no answer to the change in flight: it is sent again. It may be there already if it was sent."""
        with self._lock:
            if lane.in_flight is not None:
                lane.in_flight.is_repeat |= is_sent
                self._again(lane, lane.in_flight, after_seconds)

    # With the lock held.

    def _put(self, job_id: str, members: Members, lines: list[bytes], attempt: int | None) -> Change:
        size = members.size + sum(len(line) + LINE_OVERHEAD_BYTES for line in lines)
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

    def _again(self, lane: Lane, change: Change, after_seconds: float) -> None:
        lane.in_flight = None
        lane.not_before = time.monotonic() + after_seconds
        change.is_closed = True
        lane.pending.appendleft(change)
        self._ready[lane.job_id] = lane
        self._lock.notify_all()

    def _end(self, lane: Lane, change: Change) -> None:
        change.is_over()
        lane.in_flight = None
        lane.not_before = 0.0
        lane.backoff = Backoff()
        self._bytes -= change.size
        if lane.pending:
            self._ready[lane.job_id] = lane
        self._lock.notify_all()

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
                if not lane.changes() and lane.failure is None:
                    del self._lanes[lane.job_id]

    def _waiting(self, job_id: str | None) -> list[str]:
        if job_id is None:
            return [lane.job_id for lane in self._lanes.values() if lane.changes()]
        lane = self._lanes.get(job_id)
        return [job_id] if lane and lane.changes() else []

    def _is_urgent(self) -> bool:
        waiting = (change for lane in self._ready.values() for change in lane.pending)
        return any(change.writers or change.barriers for change in waiting)


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

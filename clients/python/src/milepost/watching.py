"""Server-sent events, and going on where a stream broke off.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

BUFFER_CHARS_MAX = 8 * 1024 * 1024  # of one event


class Event(NamedTuple):
    """What a stream tells. `event` is `job`, `log`, `dropped`, `reset`, `end`; of many jobs also `ready`, `left`, `deleted`.

    `id` is the place in the stream: whoever gives it as `since` is told what follows.
    """

    event: str
    data: Any
    id: str


class Events:
    """Reads the bytes of a stream. Keeps the last id and how long to wait before coming back."""

    def __init__(self, since: str | None = None) -> None:
        self.last_id = since or ""
        self.retry_seconds = 1.0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._event = ""
        self._data: list[str] = []
        self._id = self.last_id

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that are complete with this chunk. Raises `ValueError` for what is no such stream."""
        *lines, self._rest = (self._rest + self._decoder.decode(chunk)).split("\n")
        if len(self._rest) > BUFFER_CHARS_MAX:
            raise ValueError("a line without an end is no event")
        for line in lines:
            event = self._line(line.rstrip("\r"))
            if event is not None:
                yield event

    def broken_off(self) -> None:
        """What has come of an event that was not complete is forgotten."""
        self._decoder.reset()
        self._rest, self._event, self._data, self._id = "", "", [], self.last_id

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._event = value
        elif field == "data":
            self._data.append(value)
        elif field == "id":
            self._id = value
        elif field == "retry" and value.isdigit():
            self.retry_seconds = int(value) / 1000
        return None

    def _dispatch(self) -> Event | None:
        self.last_id = self._id
        event, data = self._event, self._data
        self._event, self._data = "", []
        if not data:
            return None
        return Event(event or "message", json.loads("\n".join(data)), self.last_id)

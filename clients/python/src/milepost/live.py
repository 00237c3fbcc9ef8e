"""Dicts and lists that are written back when something inside of them is changed.

`jobs[id]["result"]["clips"].append(clip)` changes what a dict holds; here what `result` gives is a copy, so the change is made in
the copy, and the whole is written.
"""

from __future__ import annotations

from typing import Any, Callable

Write = Callable[[Any], None]

DICT_CHANGES = ("__setitem__", "__delitem__", "clear", "pop", "popitem", "setdefault", "update", "__ior__")
LIST_CHANGES = (
    "__setitem__",
    "__delitem__",
    "__iadd__",
    "__imul__",
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "remove",
    "reverse",
    "sort",
)


class LiveDict(dict[str, Any]):
    """A dict whose changes are written."""

    write: Callable[[], None]


class LiveList(list[Any]):
    """A list whose changes are written."""

    write: Callable[[], None]


def alive(value: Any, write: Write) -> Any:
    """A copy of what JSON can hold; `write` is called with the whole after each change inside of it."""
    whole = _alive(value, lambda: write(plain(whole)))
    return whole


def plain(value: Any) -> Any:
    """The same in plain dicts and lists."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def _alive(value: Any, write: Callable[[], None]) -> Any:
    if isinstance(value, dict):
        members = LiveDict({name: _alive(item, write) for name, item in value.items()})
        members.write = write
        return members
    if isinstance(value, list):
        items = LiveList(_alive(item, write) for item in value)
        items.write = write
        return items
    return value


def _written(change: Callable[..., Any], put: Callable[[Any, Any, Any], None]) -> Callable[..., Any]:
    def changed(self: Any, *arguments: Any, **named: Any) -> Any:
        came = change(self, *arguments, **named)
        # What came in is alive, too.
        for at, item in list(self.items() if isinstance(self, LiveDict) else enumerate(self)):
            if type(item) in (dict, list):
                put(self, at, _alive(item, self.write))
        self.write()
        return self[arguments[0]] if change.__name__ == "setdefault" else came

    changed.__name__ = change.__name__
    changed.__doc__ = change.__doc__
    return changed


for _kind, _names in ((LiveDict, DICT_CHANGES), (LiveList, LIST_CHANGES)):
    _put: Callable[[Any, Any, Any], None] = getattr(_kind, "__setitem__")  # noqa: B009 - as it is now
    for _name in _names:
        setattr(_kind, _name, _written(getattr(_kind, _name), _put))

"""Where the service stands: one table of ratios, from a stack that does nothing to what people take instead."""

from __future__ import annotations

from typing import Iterator, Mapping, Sequence

from .measures import Run
from .peers import CONNECTIONS, DURABLE, WORK

READERS = 1_000
FAN_OUT = f"to {READERS:,} readers"
#: What is compared: the work, and over how many connections.
COLUMNS = [*(f"{name}, {connections}" for name in WORK.values() for connections in CONNECTIONS), FAN_OUT]


def standing(rows: Sequence[Run], peers: Sequence[Run], push: Mapping[str, object] | None) -> list[Run]:
    """Who it was measured beside, what an answer of each promises, and how many times as much the service does."""
    found = [*_around(rows), *_instead(peers)]
    told = [each for each in (push["told"] if push else []) if each["readers"] == READERS]
    if told:
        found.append(_beside("nginx with nchan", "in memory", {FAN_OUT: told[0]["ratio"]}))
    return [each for each in found if each["ratios"]]


def _around(rows: Sequence[Run]) -> Iterator[Run]:
    """The ceiling and the limit."""
    for who, promise, name in (
        ("the ceiling: the same stack, nothing behind", "nothing", "ratio"),
        ("the limit: the same stack, a bare log", DURABLE, "limit_ratio"),
    ):
        at = {(row["measure"], row["connections"]): row[name] for row in rows if row[name] is not None}
        yield _beside(who, promise, {
            f"{title}, {connections}": at[work, connections]
            for work, title in WORK.items()
            for connections in CONNECTIONS
            if (work, connections) in at
        })


def _instead(peers: Sequence[Run]) -> Iterator[Run]:
    for who in dict.fromkeys(str(row["peer"]) for row in peers):
        of = [row for row in peers if row["peer"] == who]
        ratios = {f"{WORK[str(row['work'])]}, {row['connections']}": row["ratio"] for row in of}
        yield _beside(who, str(of[0]["promise"]), ratios)


def _beside(who: str, promise: str, ratios: Mapping[str, object]) -> Run:
    return {"who": who, "promise": promise, "ratios": dict(ratios)}


def table(found: Sequence[Run]) -> str:
    """For people, as Markdown."""
    lines = [f"| the service beside | what an answer promises | {' | '.join(COLUMNS)} |", "|---|---|" + "---:|" * len(COLUMNS)]
    for row in found:
        cells = (form(row["ratios"].get(column)) for column in COLUMNS)
        lines.append(f"| {row['who']} | {row['promise']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def form(ratio: object) -> str:
    """So many times as much."""
    if ratio is None:
        return ""
    return f"{ratio:.2f}x" if float(ratio) < 10 else f"{ratio:.0f}x"

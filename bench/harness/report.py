"""What was measured, as a table for people and as JSON for programs."""

from __future__ import annotations

import statistics
from typing import Callable, Iterable, Sequence

Run = dict[str, object]

# Above this share of the machine's CPU time, what else it did has spoilt the figures.
OTHERS_SHARE_MAX = 0.10

MEANING = """\
ratio: requests/s of the service / of the ceiling, the median of the rounds, with the lowest and the highest; of limit: the same
to a bare log; the columns after it are p50/p99 in ms of all three;
CPU: seconds of the service, user and kernel, for 100,000 changes or reads; device: KiB that its process had written for each
change; others: the most of the machine's CPU time in any round that neither the server nor the load took, the kernel's threads
included; ! marks rows that this has spoilt."""


def summarise(runs: Sequence[Run]) -> list[Run]:
    """One row for each measurement and number of connections: medians of its rounds."""
    keys = list(dict.fromkeys((run["measure"], run["connections"]) for run in runs))
    return [_row([run for run in runs if (run["measure"], run["connections"]) == key]) for key in keys]


def _row(rounds: Sequence[Run]) -> Run:
    def of(server: str, value: Callable[[dict[str, float]], float]) -> float | None:
        values = [value(run[server]) for run in rounds if server in run and run[server]]
        return statistics.median(values) if values else None

    def of_named(server: str, name: str) -> float | None:
        return of(server, lambda run: run[name]) if name in rounds[0].get(server, {}) else None

    changes = int(rounds[0]["changes"])
    units = max(changes, 1)
    ratios = [float(run["ratio"]) for run in rounds if "ratio" in run]
    of_limit = [float(run["limit_ratio"]) for run in rounds if "limit_ratio" in run]
    loads = [run[server] for run in rounds for server in ("service", "ceiling", "limit") if server in run]
    shares = [load["others_share"] for load in loads if "others_share" in load]
    return {
        "measure": rounds[0]["measure"],
        "title": rounds[0]["title"],
        "connections": rounds[0]["connections"],
        "rounds": len(rounds),
        "ratio": statistics.median(ratios) if ratios else None,
        "ratio_min": min(ratios) if ratios else None,
        "ratio_max": max(ratios) if ratios else None,
        "limit_ratio": statistics.median(of_limit) if of_limit else None,
        "service_per_second": of("service", lambda run: run["requests_per_second"] * units),
        "limit_per_second": of("limit", lambda run: run["requests_per_second"] * units),
        "limit_p50_ms": of_named("limit", "p50_ms"),
        "limit_p99_ms": of_named("limit", "p99_ms"),
        "ceiling_per_second": of("ceiling", lambda run: run["requests_per_second"] * units),
        "p50_ms": of_named("service", "p50_ms"),
        "p99_ms": of_named("service", "p99_ms"),
        "ceiling_p50_ms": of_named("ceiling", "p50_ms"),
        "ceiling_p99_ms": of_named("ceiling", "p99_ms"),
        "cpu_seconds_per_100k": of("service", lambda run: run["cpu_seconds"] / (run["requests"] * units) * 1e5),
        "ceiling_cpu_seconds_per_100k": of("ceiling", lambda run: run["cpu_seconds"] / (run["requests"] * units) * 1e5),
        "device_kib_per_change": of("service", lambda run: run["written_bytes"] / (run["requests"] * units) / 1024)
        if changes
        else None,
        "others_share_max": max(shares, default=None),
    }


def summarise_push(found: Run) -> Run:
    """The figures of telling many readers: medians of the rounds."""
    told = []
    for readers in dict.fromkeys(row["readers"] for row in found["told"]):
        rounds = [row for row in found["told"] if row["readers"] == readers]
        ratios = [row["ratio"] for row in rounds]
        summary: Run = {
            "readers": readers,
            "rounds": len(rounds),
            "ratio": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
        }
        for name in ("the service", "nginx with nchan"):
            summary[name] = {
                "frames_per_second": statistics.median(row[name]["throughput"]["frames_per_second"] for row in rounds),
                "p50_ms": statistics.median(row[name]["latency"]["p50_ms"] for row in rounds),
                "p99_ms": statistics.median(row[name]["latency"]["p99_ms"] for row in rounds),
                "cpu_microseconds_per_frame": statistics.median(
                    row[name]["cpu_microseconds_per_frame"] for row in rounds
                ),
            }
        told.append(summary)
    unread = found["unread"]
    return {
        "told": told,
        "unread": {
            "readers": unread[0]["readers"],
            "p99_ratio": statistics.median(
                row["with"]["latency"]["p99_ms"] / row["without"]["latency"]["p99_ms"] for row in unread
            ),
            "p99_ms": statistics.median(row["with"]["latency"]["p99_ms"] for row in unread),
            "resident_max_mib": max(row["with"]["resident_mib"] for row in unread),
        },
        "waiting": found["waiting"],
        "idle": found["idle"],
    }


def table(rows: Sequence[Run]) -> str:
    """The summary for people."""
    head = ["measure", "conns", "ratio", "(range)", "of limit", "service/s", "ceiling/s", "limit/s"]
    head += ["p50/p99 ms", "ceiling", "limit", "CPU", "ceiling", "device", "others"]
    body = [
        [
            str(row["title"]),
            str(row["connections"]),
            _text(row["ratio"], ".2f"),
            f"{row['ratio_min']:.2f}-{row['ratio_max']:.2f}" if row["ratio"] is not None else "",
            _text(row["limit_ratio"], ".2f"),
            _text(row["service_per_second"], ",.0f"),
            _text(row["ceiling_per_second"], ",.0f"),
            _text(row["limit_per_second"], ",.0f"),
            *(_latencies(row, who) for who in ("", "ceiling_", "limit_")),
            _text(row["cpu_seconds_per_100k"], ".2f"),
            _text(row["ceiling_cpu_seconds_per_100k"], ".2f"),
            _text(row["device_kib_per_change"], ".2f"),
            _text(row["others_share_max"], ".0%") + ("!" if (row["others_share_max"] or 0) > OTHERS_SHARE_MAX else ""),
        ]
        for row in rows
    ]
    return _aligned([head, *body])


def _latencies(row: Run, who: str) -> str:
    p50, p99 = row[f"{who}p50_ms"], row[f"{who}p99_ms"]
    return "" if p50 is None else f"{p50:.2f}/{p99:.2f}"


def table_push(found: Run) -> str:
    """The figures of telling many readers, for people."""
    head = ["one job's change to its readers", "ratio", "(range)", "frames/s", "nchan", "p50/p99 ms", "nchan", "CPU us", "nchan"]
    body = []
    for row in found["told"]:
        ours, theirs = row["the service"], row["nginx with nchan"]
        body.append(
            [
                f"{row['readers']:,} readers",
                f"{row['ratio']:.2f}",
                f"{row['ratio_min']:.2f}-{row['ratio_max']:.2f}",
                *(f"{each['frames_per_second']:,.0f}" for each in (ours, theirs)),
                *(f"{each['p50_ms']:.1f}/{each['p99_ms']:.1f}" for each in (ours, theirs)),
                *(f"{each['cpu_microseconds_per_frame']:.1f}" for each in (ours, theirs)),
            ]
        )
    unread, waiting, idle = found["unread"], found["waiting"], found["idle"]
    return "\n".join(
        [
            _aligned([head, *body]),
            f"{unread['readers']:,} readers beside as many that never read: p99 {unread['p99_ms']:.1f} ms, "
            f"{unread['p99_ratio']:.2f} times that without them; resident at most {unread['resident_max_mib']:.0f} MiB",
            f"{waiting['count']:,} GETs that wait: {waiting['cores']:.1%} of a core, {waiting['kib_each']:.1f} KiB each",
            f"{idle['count']:,} idle event streams: {idle['cores']:.1%} of a core, {idle['kib_each']:.1f} KiB each",
        ]
    )


def table_claims(found: Run) -> str:
    """The figures of claims, for people."""
    claimed, woken = found["claimed"], found["woken"]
    spread = lambda of: f"p50 {of['p50_ms']:.2f} ms, p99 {of['p99_ms']:.2f} ms, at most {of['max_ms']:.2f} ms"  # noqa: E731
    return "\n".join(
        [
            f"{claimed['count']:,} claims out of a queue of {found['jobs']:,}: {spread(claimed)}",
            f"{woken['count']:,} workers that waited, from the request that makes the job: {spread(woken)}",
            f"{found['jobs']:,} leased jobs of which none is due: {found['cores_leased']:.2%} of a core; "
            f"without any: {found['cores_empty']:.2%}",
        ]
    )


def aimed(what: str, value: float, target: float, at_least: bool) -> Run:
    """Whether a value is at least what was aimed at, or less than it."""
    met = value >= target if at_least else value < target
    return {"what": what, "value": value, "target": target, "at_least": at_least, "met": met}


def targets(
    rows: Sequence[Run], claims: Run | None, push: Run | None, replicas: Run | None, client: Run | None
) -> list[Run]:
    """What was aimed at and what came of it."""
    at = {(row["measure"], row["connections"]): row for row in rows}
    found: list[Run] = []

    def aim(what: str, value: float | None, target: float, at_least: bool) -> None:
        if value is not None:
            found.append(aimed(what, value, target, at_least))

    for name, target in (("patch", 0.45), ("log", 0.40), ("poll", 1), ("unchanged", 0.95)):
        row = at.get((name, 64))
        if row:
            aim(f"{row['title']}, ratio at 64 connections", row["ratio"], target, True)
    for row in rows:
        if row["limit_ratio"] is not None and row["connections"] in (64, 256):
            what = f"{row['title']}, {row['connections']} connections"
            aim(f"{what}, ratio to the limit", row["limit_ratio"], 0.90, True)
            aim(f"{what}, p99 against the limit's", row["p99_ms"] / row["limit_p99_ms"], 2, False)
        if row["measure"] in ("stream", "stream-minimal"):
            what = f"{row['title']}, {row['connections']} connections"
            aim(f"{what}, changes/s", row["service_per_second"], 200_000, True)
        if str(row["measure"]).startswith("batch-"):
            aim(f"{row['title']}, {row['connections']} connections, changes/s", row["service_per_second"], 100_000, True)
    if claims:
        jobs = f"{claims['jobs']:,}"
        aim(f"claims out of a queue of {jobs}, p99 in ms", claims["claimed"]["p99_ms"], 5, False)
        aim("a worker that waits, from making its job, at most in ms", claims["woken"]["max_ms"], 50, False)
        more = max(claims["cores_leased"] - claims["cores_empty"], 0)
        aim(f"{jobs} leased jobs of which none is due, share of a core", more, 0.005, False)
    if push:
        for row in push["told"]:
            if row["readers"] == 1_000:
                aim("1,000 readers of a job, frames/s, ratio to nginx with nchan", row["ratio"], 1, True)
        unread, waiting, idle = push["unread"], push["waiting"], push["idle"]
        aim(f"p99 beside {unread['readers']:,} that never read against without", unread["p99_ratio"], 2, False)
        aim(f"{waiting['count']:,} GETs that wait, share of a core", waiting["cores"], 0.02, False)
        aim(f"{idle['count']:,} idle event streams, KiB each", idle["kib_each"], 16, False)
    if replicas:
        for count, row in replicas["peer"].items():
            aim(f"a replica on PostgreSQL, {count} connections, against a transaction each", row["ratio"], 3, True)
        for row in replicas["across"]:
            how, bound = ("without notifications", 300) if row.get("is_deaf") else ("with notifications", 100)
            aim(f"from one replica to another {how}, p99 in ms", row["p99_ms"], bound, False)
            aim(f"from one replica to another {how}, lines missed or told twice", row["missed"] + row["twice"], 1, False)
    if client:
        what = f"Python client, {client['calls_per_second']:,.0f} append_log calls/s"
        aim(f"{what}, share of a core of the worker", client["cores_worker"], 0.5, False)
        aim(f"{what}, share of a core of the service", client["cores_service"], 0.1, False)
    return found


def table_targets(found: Iterable[Run]) -> str:
    """The targets for people."""
    rows = [
        [
            str(aim["what"]),
            f"{aim['value']:,.2f}",
            (">= " if aim["at_least"] else "< ") + f"{aim['target']:,g}",
            "met" if aim["met"] else "MISSED",
        ]
        for aim in found
    ]
    return _aligned([["target", "measured", "aim", ""], *rows])


def _text(value: object, form: str) -> str:
    return "" if value is None else format(value, form)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    # The first column is text, the others are numbers.
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    )

"""Replicas on PostgreSQL: beside a handler that commits each request by itself, two and three of them, and from one to another."""

from __future__ import annotations

import statistics
import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import Iterator

from . import postgres, stores
from .across import across
from .load import PAUSE_SECONDS, Loader, in_turn, rate
from .measures import JOBS, Bench, Planned, Run
from .servers import BenchFailed, Server

REPLICAS = 3
CREATE = '{"op":"create","id":"%s","kind":"restyle","status":"processing","labels":{"user":"%d"}}'


def replicas(bench: Bench) -> Run:
    """Everything about replicas."""
    with postgres.database() as url, ExitStack() as stack:
        services = [stack.enter_context(serve_replica(bench, url, number)) for number in range(REPLICAS)]
        stores.fill(services[0], JOBS, lambda number: CREATE % (stores.job_id(number), number % stores.USERS))
        found: Run = {"peer": list(_beside(bench, services[0], url)), "more": list(_more(bench, services))}
        found["across"] = [across(services[0], services[1])]
    # Notifications that nobody gets: the replicas find another function of that name first.
    with postgres.database() as url, ExitStack() as stack:
        postgres.sql(url, "CREATE SCHEMA deaf; CREATE FUNCTION deaf.pg_notify(text, text) RETURNS void LANGUAGE sql AS ''")
        deaf = f"{url}?options=-csearch_path%3Dpublic%2Cdeaf%2Cpg_catalog"
        services = [stack.enter_context(serve_replica(bench, deaf, number)) for number in range(2)]
        found["across"].append({**across(services[0], services[1]), "is_deaf": True})
    return found


def serve_replica(bench: Bench, url: str, number: int) -> Server:
    """The service on a database."""
    command = [bench.service, "serve", "--listen", "127.0.0.1:0", "--store", url]
    return Server(f"replica {number + 1}", command, bench.scratch / f"replica-{number}.log")


def serve_handler(bench: Bench, service: Server, url: str, jobs: int) -> Server:
    """A handler that commits each request on a database, and answers a change as the service does."""
    postgres.fill(url, jobs)
    sample = service.ask("PATCH", f"/jobs/{stores.job_id(0)}", '{"progress_pct":37.41,"stage":"Matting subject"}')
    return bench.serve_committed(Planned.like(sample), url)


def _beside(bench: Bench, service: Server, url: str) -> Iterator[Run]:
    """The same change, durable each time, by one replica and by a handler that commits each request."""
    with serve_handler(bench, service, url, JOBS) as peer:
        for server in (service, peer):
            bench.loader.run(server, "patch", JOBS, 64, 2)
        for number in range(bench.options.rounds):
            for count in (64, 256):
                load = partial(bench.loader.run, script="patch", jobs=JOBS, connections=count, seconds=bench.options.seconds)
                loads = {server.name: partial(load, server) for server in (service, peer)}
                row: Run = {"connections": count, "round": number, **in_turn(number, loads)}
                row["ratio"] = rate(row[service.name]) / rate(row[peer.name])
                print(
                    f"bench: round {number + 1}, durable PATCH through one replica, {count} connections: "
                    f"{rate(row[service.name]):,.0f}/s, a transaction for each request {rate(row[peer.name]):,.0f}/s, "
                    f"ratio {row['ratio']:.2f}",
                    flush=True,
                )
                yield row


def _more(bench: Bench, services: list[Server]) -> Iterator[Run]:
    """The same load on one, two and three replicas, as many connections in all."""
    for number in range(bench.options.rounds):
        for count in range(1, len(services) + 1):
            time.sleep(PAUSE_SECONDS)
            rates = _at_once(bench.loader, services[:count], 128 // count, bench.options.seconds)
            print(f"bench: round {number + 1}, {count} replicas: {sum(rates):,.0f} changes/s", flush=True)
            yield {"replicas": count, "round": number, "changes_per_second": sum(rates)}


def _at_once(loader: Loader, services: list[Server], connections: int, seconds: int) -> list[float]:
    rates: list[float] = []

    def load(server: Server) -> None:
        rates.append(rate(loader.run(server, "patch", JOBS, connections, seconds)))

    threads = [threading.Thread(target=load, args=(server,)) for server in services]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(rates) != len(services):
        raise BenchFailed("a load on one of the replicas failed")
    return rates


def summarise(found: Run) -> Run:
    """Medians of the rounds."""
    peer, more = {}, {}
    for count in (64, 256):
        rounds = [row for row in found["peer"] if row["connections"] == count]
        peer[str(count)] = {
            "ratio": statistics.median(row["ratio"] for row in rounds),
            "service_per_second": statistics.median(rate(row["replica 1"]) for row in rounds),
            "peer_per_second": statistics.median(rate(row["the handler"]) for row in rounds),
            "p99_ms": statistics.median(row["replica 1"]["p99_ms"] for row in rounds),
            "peer_p99_ms": statistics.median(row["the handler"]["p99_ms"] for row in rounds),
        }
    for count in range(1, REPLICAS + 1):
        rates = [row["changes_per_second"] for row in found["more"] if row["replicas"] == count]
        more[str(count)] = statistics.median(rates)
    return {"peer": peer, "more": more, "across": found["across"]}


def table(found: Run) -> str:
    """The figures, for people."""
    lines = []
    for count, row in found["peer"].items():
        lines.append(
            f"durable PATCH on PostgreSQL, {count} connections: one replica {row['service_per_second']:,.0f}/s, a transaction for "
            f"each request {row['peer_per_second']:,.0f}/s, {row['ratio']:.2f} times; p99 {row['p99_ms']:.1f} and "
            f"{row['peer_p99_ms']:.1f} ms"
        )
    one = found["more"]["1"]
    rates = ", ".join(f"{count}: {rate:,.0f}/s ({rate / one:.2f})" for count, rate in found["more"].items())
    lines.append(f"changes/s of 128 connections by replicas: {rates}")
    for row in found["across"]:
        how = "without notifications" if row.get("is_deaf") else "with notifications"
        lines.append(
            f"written through one replica and watched through another, {how}: {row['lines']:,} lines at "
            f"{row['lines_per_second']:,.0f}/s, p50 {row['p50_ms']:.1f} ms, p99 {row['p99_ms']:.1f} ms, at most "
            f"{row['max_ms']:.1f} ms; {row['missed']} missed"
        )
    return "\n".join(lines)

"""The machine a run is on: what it is, and what else it was doing meanwhile."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count() or 1
# A load average above this many runnable tasks for each core is somebody else's.
QUIET_LOAD_PER_CORE = 0.5
SETTLE_SECONDS_MAX = 240


def load_average() -> float:
    """Of the last minute."""
    return os.getloadavg()[0]


def wait_until_quiet() -> bool:
    """Waits, within bounds, for the load of what came before, such as a build, to fade; false when it does not."""
    limit = QUIET_LOAD_PER_CORE * CORES
    if load_average() > limit:
        print(f"bench: load average {load_average():.2f}, waiting until it is below {limit:.2f}", flush=True)
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while load_average() > limit:
        if time.monotonic() > deadline:
            return False
        time.sleep(2)
    return True


def describe(directory: Path) -> dict[str, object]:
    """What a reader must know to compare figures; `directory` is where the stores are."""
    return {
        "cores": CORES,
        "cpu": _field("/proc/cpuinfo", "model name"),
        "memory_mib": int(_field("/proc/meminfo", "MemTotal").split()[0]) // 1024,
        "kernel": platform.release(),
        "filesystem": _filesystem(directory),
        "sync_us": _sync_microseconds(directory),
        "wrk": _first_line(["wrk", "--version"]),
        "rustc": _first_line(["rustc", "--version"]),
    }


def line(machine: dict[str, object]) -> str:
    """The description in one line."""
    return (
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_mib']} MiB, Linux {machine['kernel']}, "
        f"{machine['filesystem']}, write of 4 KiB + fdatasync {machine['sync_us']} us"
    )


class Ticks(NamedTuple):
    """CPU time of the whole machine in clock ticks."""

    busy: int
    stolen: int

    @staticmethod
    def now() -> "Ticks":
        # user nice system idle iowait irq softirq steal; see proc_stat(5).
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        idle, stolen = fields[3] + fields[4], fields[7]
        return Ticks(sum(fields) - idle - stolen, stolen)


def _field(file: str, name: str) -> str:
    for text in Path(file).read_text().splitlines():
        key, _, value = text.partition(":")
        if key.strip() == name:
            return value.strip()
    return "?"


def _filesystem(directory: Path) -> str:
    best = ("", "?")
    for text in Path("/proc/mounts").read_text().splitlines():
        device, point, kind = text.split()[:3]
        inside = directory == Path(point) or Path(point) in directory.parents
        if inside and len(point) >= len(best[0]):
            best = (point, f"{kind} on {device}")
    return best[1]


def _sync_microseconds(directory: Path, times: int = 200) -> int:
    """Median time of what every durable change waits for at the least."""
    path = directory / "sync-probe"
    block = os.urandom(4096)
    taken = []
    with open(path, "wb", buffering=0) as file:
        for _ in range(times):
            began = time.perf_counter()
            file.write(block)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    path.unlink()
    return round(statistics.median(taken) * 1e6)


def _first_line(command: list[str]) -> str:
    # `wrk --version` ends with 1 after it has said its version.
    output = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    return output.splitlines()[0].strip() if output else "?"

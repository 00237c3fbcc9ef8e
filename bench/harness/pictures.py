"""Pictures of what was measured, as SVG: drawn from the JSON of a run and from nothing else."""

from __future__ import annotations

import math
from typing import Mapping, Sequence
from xml.sax.saxutils import escape

from .growth import WORK as GROWN
from .measures import Run
from .peers import DURABLE, WORK

CONNECTIONS = 64
_WIDTH = 960
_NAMES = 330  # where names end
_PANEL, _GAP = 180, 22
_ROW = 24
_TOP = 74
# The rates that a picture of bars has room for, in parts of the service's.
_LEAST, _MOST = 0.01, 4.0

_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f } .small { font-size: 11px; fill: #57606a } .bold { font-weight: 600 }
.own { fill: #0969da } .equal { fill: #6e7781 } .less { fill: #d0d7de } .line { stroke: #0969da; stroke-width: 1.5; fill: none }
.grid { stroke: #d8dee4; stroke-width: 1 } .one { stroke: #0969da; stroke-width: 1; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .own { fill: #4493f8 } .equal { fill: #8b949e } .less { fill: #3d444d }
  .line, .one { stroke: #4493f8 } .grid { stroke: #30363d }
}
"""


def standing(rows: Sequence[Run]) -> str:
    """How much each does in the time in which the service does one, for each work; those first that promise as much."""
    own: Run = {"who": "Milepost", "promise": DURABLE, "ratios": {f"{name}, {CONNECTIONS}": 1.0 for name in WORK.values()}}
    bars = [own, *(row for row in rows if any(_column(name) in row["ratios"] for name in WORK.values()))]
    # As the ceiling and the limit come first: by how fast a change is made.
    bars.sort(key=lambda row: float(row["ratios"].get(_column(next(iter(WORK.values()))), math.inf)))
    height = _TOP + _ROW * len(bars) + 46
    parts = [
        _text(0, 18, "Work done in the same time, Milepost = 1", "bold"),
        _text(0, 38, f"{CONNECTIONS} connections, two cores shared with the load, logarithmic; pale: an answer promises less", "small"),
    ]
    for number, name in enumerate(WORK.values()):
        left = _NAMES + 20 + number * (_PANEL + _GAP)
        parts.append(_text(left, _TOP - 10, name, "bold"))
        for tick in (0.01, 0.1, 1):
            at = left + _along(tick) * _PANEL
            kind = "one" if tick == 1 else "grid"
            parts.append(f'<line class="{kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{height - 40}"/>')
            parts.append(_text(at, height - 24, f"{tick:g}", "small", "middle"))
    for place, row in enumerate(bars):
        middle = _TOP + _ROW * place + _ROW / 2
        kind = "own" if row is own else "equal" if row["promise"] == DURABLE else "less"
        parts.append(_text(_NAMES, middle + 4, str(row["who"]), "bold" if row is own else "", "end"))
        for number, name in enumerate(WORK.values()):
            ratio = row["ratios"].get(_column(name))
            if ratio is None:
                continue
            left, rate = _NAMES + 20 + number * (_PANEL + _GAP), 1 / float(ratio)
            length = max(_along(rate) * _PANEL, 1)
            parts.append(f'<rect class="{kind}" x="{left}" y="{middle - 8:.1f}" width="{length:.1f}" height="16" rx="2"/>')
            if row is not own:
                parts.append(_text(left + length + 4, middle + 4, f"{rate:.2g}", "small"))
    return _svg(height, parts)


def growth(rows: Sequence[Run]) -> str:
    """How the median of each work rises with the number of jobs, and what these take."""
    left, width, height = 60, 400, 250
    counts = [int(row["jobs"]) for row in rows]
    ratios = {work: [float(row[work]["p50_ratio"]) for row in rows] for work in GROWN if all(work in row for row in rows)}
    top = max(2.0, *(max(values) for values in ratios.values())) * 1.1
    across = lambda jobs: left + width * (math.log10(jobs / counts[0]) / max(math.log10(counts[-1] / counts[0]), 1))  # noqa: E731
    up = lambda ratio: 60 + height * (1 - ratio / top)  # noqa: E731
    parts = [
        _text(0, 18, "Median time of an answer, with 10,000 jobs = 1", "bold"),
        _text(0, 38, f"{CONNECTIONS} connections, each job with 20 log lines", "small"),
    ]
    for tick in range(int(top) + 1):
        parts.append(f'<line class="grid" x1="{left}" x2="{left + width}" y1="{up(tick):.1f}" y2="{up(tick):.1f}"/>')
        parts.append(_text(left - 8, up(tick) + 4, f"{tick}", "small", "end"))
    for jobs in counts:
        parts.append(_text(across(jobs), 60 + height + 18, f"{jobs:,}", "small", "middle"))
    ends: list[float] = []
    for work in sorted(ratios, key=lambda work: -ratios[work][-1]):
        points = " ".join(f"{across(jobs):.1f},{up(ratio):.1f}" for jobs, ratio in zip(counts, ratios[work]))
        parts.append(f'<polyline class="line" points="{points}"/>')
        # Names that would lie on each other stand below each other.
        at = max(up(ratios[work][-1]) + 4, *(end + 15 for end in ends), 0)
        ends.append(at)
        parts.append(_text(left + width + 10, at, f"{GROWN[work]} {ratios[work][-1]:.2f}x"))
    right = left + width + 170
    parts += [_text(right + 100 * number, 72, name, "bold") for number, name in enumerate(("jobs", "on disk", "in memory"))]
    for place, row in enumerate(rows):
        cells = (f"{row['jobs']:,}", f"{row['store_mib']:,.0f} MiB", f"{row['resident_max_mib']:,.0f} MiB")
        parts += [_text(right + 100 * number, 96 + 22 * place, cell) for number, cell in enumerate(cells)]
    return _svg(60 + height + 30, parts)


def _column(name: str) -> str:
    return f"{name}, {CONNECTIONS}"


def _along(rate: float) -> float:
    """How far along its panel a rate is, from 0 to 1."""
    bounded = min(max(rate, _LEAST), _MOST)
    return math.log(bounded / _LEAST) / math.log(_MOST / _LEAST)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: float, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height:.0f}" viewBox="0 0 {_WIDTH} {height:.0f}" role="img">\n'
        f"<style>{_STYLE}</style>\n{body}\n</svg>\n"
    )


def drawn(everything: Mapping[str, object]) -> dict[str, str]:
    """The pictures that a run has figures for, by name."""
    pictures = {"standing": standing, "growth": growth}
    return {name: draw(everything[name]) for name, draw in pictures.items() if everything.get(name)}

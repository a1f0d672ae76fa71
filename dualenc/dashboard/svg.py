"""Charts as SVG inside a page: no script, and every number that is drawn can be read from the page again."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from dualenc.report.html import text

WIDTH, HEIGHT = 460, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 30, 40
_MAX_MARKED = 12  # points of a line; a longer one shows none


@dataclass(frozen=True)
class Series:
    """Points of one run, in order of x. `classes` are for the page's styles; a line joins them where `joined`."""

    label: str
    points: Sequence[tuple[float, float]]
    color: str
    classes: str = ""
    joined: bool = True


def chart(title: str, series: Sequence[Series], *, x_label: str) -> str:
    """A chart as SVG. Each series is a `<g>` whose data-x and data-y hold its numbers exactly."""
    from matplotlib.ticker import EngFormatter

    across = _Scale([x for each in series for x, _ in each.points], _LEFT, WIDTH - _RIGHT)
    up = _Scale([y for each in series for _, y in each.points], HEIGHT - _BOTTOM, _TOP)
    large = EngFormatter(sep="", places=None)
    parts = [f'<text x="0" y="15" class="title">{text(title)}</text>']
    for tick in across.ticks:
        x = across(tick)
        parts.append(f'<path class="grid" d="M{x} {_TOP}V{HEIGHT - _BOTTOM}"/>')
        words = large(tick) if abs(tick) >= 1000 else f"{tick:g}"
        parts.append(f'<text x="{x}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{words}</text>')
    for tick in up.ticks:
        y = up(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {y}H{WIDTH - _RIGHT}"/>')
        words = large(tick) if abs(tick) >= 1000 else f"{tick:g}"
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{words}</text>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{text(x_label)}</text>')
    parts += [_drawn(each, across, up) for each in series]
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(title)}">{"".join(parts)}</svg>'


class _Scale:
    """From a number to a place between two ends, a little inside them, with ticks at round numbers."""

    def __init__(self, values: Sequence[float], begin: float, end: float) -> None:
        from matplotlib.ticker import MaxNLocator

        low, high = min(values), max(values)
        margin = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
        self.low, self.high = low - margin, high + margin
        self.begin, self.end = begin, end
        located = MaxNLocator(nbins=6).tick_values(self.low, self.high)
        self.ticks = [float(tick) for tick in located if self.low <= tick <= self.high]

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.begin + share * (self.end - self.begin), 2)


def _drawn(series: Series, across: _Scale, up: _Scale) -> str:
    places = [(across(x), up(y)) for x, y in series.points]
    line = "M" + "L".join(f"{x} {y}" for x, y in places)
    path = f'<path d="{line}" stroke="{series.color}"/>' if series.joined and len(places) > 1 else ""
    marked = places if not series.joined or len(places) <= _MAX_MARKED else []
    circles = "".join(
        f'<circle cx="{place[0]}" cy="{place[1]}" r="3.2" fill="{series.color}">'
        f"<title>{text(series.label)}: {x:g}, {y:g}</title></circle>"
        for place, (x, y) in zip(marked, series.points)
    )
    xs, ys = (json.dumps([point[axis] for point in series.points]) for axis in (0, 1))
    return (
        f'<g class="series {series.classes}" data-run="{text(series.label)}" data-x="{xs}" data-y="{ys}">'
        f"<title>{text(series.label)}: {series.points[-1][1]:g}</title>{path}{circles}</g>"
    )

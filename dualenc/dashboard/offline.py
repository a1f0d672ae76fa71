"""The panels of a dashboard as a local page, from the metrics.jsonl of the runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dualenc.dashboard.spec import Dashboard, Panel, Section
from dualenc.dashboard.svg import Series, chart
from dualenc.report import html
from dualenc.report.figures import RUN_COLORS
from dualenc.report.folder import read_examples, read_lines
from dualenc.report.html import text
from dualenc.report.page import examples_of
from dualenc.sweep.results import groups, means
from dualenc.sweep.spec import as_text
from dualenc.sweep.state import RunState, State, remaining
from dualenc.sweep.table import totals

MAX_RUNS_WITH_SCENES = 24
_SCENES = 3  # of a run and split
_STYLE = """
svg { width: 100%; height: auto; display: block; font-size: 11px; }
svg text { fill: #5b616b; } svg .title { fill: #1d1f23; font-size: 12.5px; }
svg .grid { stroke: #e6e6e6; } svg path { fill: none; stroke-width: 1.4; opacity: 0.85; }
svg g:hover path { stroke-width: 3.5; opacity: 1; } svg g:hover circle { r: 5px; }
.choice { font-size: 13px; display: flex; flex-wrap: wrap; gap: 2px 14px; margin: 6px 0; }
.choice i { display: inline-block; width: 18px; height: 4px; border-radius: 2px; margin-right: 4px; }
"""


@dataclass
class RunData:
    """A run as the panels need it: metric -> points over samples; its place on the axis, and its group."""

    state: RunState
    group: int
    step: int
    points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def classes(self) -> str:
        """By which the page shows or hides it."""
        return f"step{self.step} group{self.group}"


def page(dashboard: Dashboard, states: Sequence[RunState]) -> str:
    """The HTML of the dashboard, of all runs that have logged something."""
    values, names, runs = _read(dashboard, states)
    colors = _ramp(len(values))
    shown = {section.title: _section(section, dashboard, runs, colors) for section in dashboard.sections}
    parts = [html.section(title, content) for title, content in shown.items()]
    facts = f'<p class="soft">{text(totals(list(states), remaining(list(states))))}</p>'
    head = f"<h1>{text(dashboard.sweep)}</h1>{facts}{html.contents(parts, list(shown))}"
    axis = [f"{dashboard.axis} = {as_text(value)}" for value in values] if dashboard.axis else []
    choices = _choices("step", axis, colors) + _choices("group", names, RUN_COLORS)
    style = _STYLE + "".join(_hiding("step", len(values)) + _hiding("group", len(names)))
    title = f"{dashboard.sweep} \u00b7 dualenc dashboard"
    return html.page(title, head + choices + "".join(parts), style=style)


def _read(dashboard: Dashboard, states: Sequence[RunState]) -> tuple[list[float], list[str], list[RunData]]:
    """The axis values, the names of the groups, and the runs with what the panels need of them."""
    axis = dashboard.axis
    values = sorted({state.run.point[axis] for state in states if axis in state.run.point}) if axis else []
    grouped = groups(list(states), axis) if axis else {"": list(states)}
    metrics = {panel.metric for section in dashboard.sections for panel in section.panels if panel.metric}
    runs = []
    for number, members in enumerate(grouped.values()):
        for state in members:
            if state.folder is not None and (rows := read_lines(state.folder / "metrics.jsonl")):
                run = RunData(state, number, values.index(state.run.point[axis]) if axis else 0)
                for row in rows:
                    for key in metrics & row.keys():
                        if row[key] is not None:
                            run.points.setdefault(key, []).append((row["samples"], row[key]))
                runs.append(run)
    return values, list(grouped), runs


def _section(section: Section, dashboard: Dashboard, runs: Sequence[RunData], colors: Sequence[str]) -> str:
    drawn = [_panel(panel, dashboard, runs, colors) for panel in section.panels if panel.kind != "examples"]
    figures = "".join(f"<figure>{svg}</figure>" for svg in drawn if svg)
    charts = f'<div class="figures large">{figures}</div>' if figures else ""
    scenes = _scenes(runs) if any(panel.kind == "examples" for panel in section.panels) else ""
    return charts + scenes


def _panel(panel: Panel, dashboard: Dashboard, runs: Sequence[RunData], colors: Sequence[str]) -> str:
    known = [run for run in runs if panel.metric in run.points]
    if not known:
        return ""
    if panel.kind == "curve":
        series = [
            Series(_label(run), run.points[panel.metric], colors[run.step] if colors else RUN_COLORS[0], run.classes)
            for run in known
        ]
        return chart(panel.title, series, x_label="training samples")
    assert dashboard.axis is not None
    places = [
        Series(
            _label(run),
            [(float(run.state.run.point[dashboard.axis]), run.points[panel.metric][-1][1])],
            RUN_COLORS[run.group % len(RUN_COLORS)],
            run.classes,
            joined=False,
        )
        for run in known
    ]
    return chart(panel.title, [*_means(places), *places], x_label=dashboard.axis)


def _means(places: Sequence[Series]) -> list[Series]:
    """The mean of the runs of each colour, where they stand at several places."""
    lines = []
    for color in dict.fromkeys(place.color for place in places):
        points = sorted(point for place in places if place.color == color for point in place.points)
        if len(averaged := means(points)) > 1:
            group = next(place.classes.split()[1] for place in places if place.color == color)
            lines.append(Series("mean", averaged, color, group))
    return lines


def _label(run: RunData) -> str:
    so_far = "" if run.state.state is State.DONE else f" ({run.state.state}, {run.state.progress:.0%})"
    return f"run {run.state.run.index} {run.state.run.label}{so_far}"


def _scenes(runs: Sequence[RunData]) -> str:
    """The worst-bound scenes of the first runs that have any."""
    parts: list[str] = []
    for run in runs:
        folder = run.state.folder or Path()
        if len(parts) < MAX_RUNS_WITH_SCENES and (found := read_examples(folder)):
            parts.append(html.details(_label(run), examples_of(found, shown=_SCENES)))
    left = len(runs) - len(parts)
    more = f'<p class="soft">{left:,} more runs: see the report.html of each.</p>' if parts and left else ""
    return "".join(parts) + more


def _choices(kind: str, names: Sequence[str], colors: Sequence[str]) -> str:
    """A box for each of several names that shows or hides its runs in every panel."""
    if len(names) < 2:
        return ""
    boxes = (
        f'<label><input type="checkbox" id="{kind}{i}" checked> <i style="background:{colors[i % len(colors)]}"></i>'
        f"{text(name)}</label>"
        for i, name in enumerate(names)
    )
    return f'<div class="choice">{"".join(boxes)}</div>'


def _hiding(kind: str, number: int) -> list[str]:
    return [f"body:has(#{kind}{i}:not(:checked)) .{kind}{i} {{ display: none; }}\n" for i in range(number)]


def _ramp(number: int) -> list[str]:
    """Colours from dark to light for the values of the axis in order."""
    import matplotlib
    from matplotlib.colors import to_hex

    return [to_hex(matplotlib.colormaps["viridis"](0.9 * i / max(1, number - 1))) for i in range(number)]

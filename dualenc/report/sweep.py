"""The page of a sweep: transition, thresholds, probes against recognition, cost, failures, all runs with links."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dualenc.analysis.correlation import LEAST_RUNS, Point, correlation, points_of
from dualenc.analysis.curves import probe_fits
from dualenc.errors import InputError
from dualenc.report import figures as draw
from dualenc.report import html
from dualenc.report.folder import read_lines, read_optional
from dualenc.report.html import text
from dualenc.report.page import number
from dualenc.report.results import DASH
from dualenc.sweep.plan import Plan
from dualenc.sweep.results import groups, interval, is_seed, repetitions, series, transition, x_axis
from dualenc.sweep.spec import as_text
from dualenc.sweep.state import METRICS, RunState, State, log_path, remaining
from dualenc.sweep.table import time, totals, word

RECOGNITION = "ood/object_recognition"
THRESHOLDS = "threshold.json"
PROBES = Path("analysis") / "multiplicative.json"
NOTES = {
    "Transition": "All of held-out objects, last weights. Same status: held-out against held-out candidates. A bag of "
    "concepts that knows every value present reaches the bag level in practice; binding gain is the part above what it "
    "can reach at best. Intervals of the mean resample the seeds (not scenes) and are widened for few of them.",
    "Thresholds": "Where each curve crosses the level (rho*): the mean over seeds where it is known for all of them, "
    "with an interval that resamples seeds and is widened for few of them. Several crossings: rho* is that of the "
    "logistic curve that fits best.",
    "Probe fit": "Each run a point for each kind of probe, at the rank that its validation scenes prefer: how much of "
    "the variance of embeddings of held-out objects the probe explains, against how well the run recognises them. "
    "Correlations over runs and their differences, with 95% intervals that resample runs; not made for fewer than "
    "eight runs.",
    "Cost": "Of finished runs. A run that was interrupted counts as if it had gone on at the speed of its last part. "
    "Core hours: threads times processes; GPU hours: processes.",
    "Failures": "The last lines that each has said. The command that ran the sweep tries these runs again.",
}


def sweep_page(
    plan: Plan, states: Sequence[RunState], *, folder: Path, refresh: int | None = None
) -> tuple[str, list[draw.Drawing]]:
    """The HTML of a sweep, for a file in `folder`, and the pictures in it."""
    done = [state for state in states if state.state is State.DONE]
    axis = x_axis(plan.sweep.points)
    points, left_out = _studied(done)
    probes = correlation(points) if len({point.run for point in points}) >= LEAST_RUNS else None
    transitions = [transition(done, axis)] if done and axis else []
    scatter = probe_fits(probes) if probes else []
    sections = {
        "Transition": html.figures(transitions, large=True) + (_averages(done, axis) if axis else ""),
        "Thresholds": _thresholds(plan.folder / THRESHOLDS),
        "Probe fit": (html.figures(scatter) + _probes(probes) if probes else "") + left_out,
        "Cost": _cost(done),
        "Failures": _failures(plan, states, folder),
        "Runs": _runs(plan, states, folder),
    }
    parts = [html.section(heading, content, note=NOTES.get(heading, "")) for heading, content in sections.items()]
    facts = f"{plan.sweep.path} \u00b7 {totals(list(states), remaining(list(states)))}"
    head = f'<h1>{text(plan.sweep.name)}</h1><p class="soft">{text(facts)}</p>'
    body = head + html.contents(parts, list(sections)) + "".join(parts)
    page = html.page(f"{plan.sweep.name} \u00b7 dualenc sweep", body, style=_STYLE, refresh=refresh)
    return page, [*transitions, *scatter]


_STYLE = """
#transition .figures.large { grid-template-columns: 1fr; }
#runs td { white-space: nowrap; }
#runs th:last-child, #runs td:last-child { text-align: left; }
"""


# --- transition and thresholds ---------------------------------------------------------------------------


def _averages(done: list[RunState], axis: str) -> str:
    """The numbers that the figure draws."""
    metrics = [key for key in METRICS if key.startswith("ood/")]
    rows = []
    for group, states in groups(done, axis).items():
        held = {metric: repetitions(series(states, axis, metric)) for metric in metrics}
        for x in sorted({x for values in held.values() for x in values}):
            cells = [_mean(held[metric].get(x, [])) for metric in metrics]
            seeds = max(len(values.get(x, [])) for values in held.values())
            rows.append([text(group or "all"), number(x), str(seeds), *cells])
    headings = ["", text(axis), "seeds", *(text(METRICS[metric]) for metric in metrics)]
    return html.details("Numbers of the figure", html.table(headings, rows))


def _mean(values: Sequence[float]) -> str:
    return number(sum(values) / len(values)) + _between(interval(values)) if values else DASH


def _between(pair: Sequence[float] | None) -> str:
    return f"<small>{number(pair[0])} to {number(pair[1])}</small>" if pair else ""


def _thresholds(path: Path) -> str:
    """What `python -m dualenc.sweep threshold` has found; nothing where it has not run."""
    found = read_optional(path, {})
    if not found:
        return ""
    keys = list(dict.fromkeys(key for group in found["groups"] for key in group["values"]))
    headings = [*map(text, keys), "rho*", "seeds known", "runs", "runs of a grid"]
    rows = [
        [
            *(text(as_text(group["values"][key])) if key in group["values"] else DASH for key in keys),
            number(group["rho"]) + _between(group["interval"]),
            f"{group['num_known']} of {len(group['curves'])}",
            str(group["num_runs"]),
            str(group["num_grid_runs"]),
        ]
        for group in found["groups"]
    ]
    said = f"{found['metric']} crosses {found['level']:g} at {found['key']} = rho*, known to {found['step']:g}."
    return f"<p>{text(said)}</p>{html.table(headings, rows)}{_curves(found)}"


def _curves(found: Mapping[str, Any]) -> str:
    rows = [
        [
            text(" ".join(f"{key}={as_text(value)}" for key, value in {**group["values"], **curve["seed"]}.items())),
            text(curve["outcome"]),
            str(curve["crossings"]),
            number(curve["rho"]) + _between(curve["interval"]),
            str(len(curve["points"])),
            text(curve["error"] or ""),
        ]
        for group in found["groups"]
        for curve in group["curves"]
    ]
    return html.details("Every curve", html.table(["", "outcome", "crossings", "rho*", "runs", "error"], rows))


# --- probes ----------------------------------------------------------------------------------------------


def _studied(done: Sequence[RunState]) -> tuple[list[Point], str]:
    """The fits of the runs that have been studied, each folder once and under its run's number; and why studies are
    left out."""
    folders = {state.folder: state for state in done if state.folder and state.metrics.get(RECOGNITION) is not None}
    points, left_out = [], ""
    for folder, state in folders.items():
        if (folder / PROBES).is_file():
            try:
                points += [replace(point, run=str(state.run.index)) for point in points_of(folder)]
            except InputError as error:
                left_out += f"<p>Left out: {text(str(error))}.</p>"
    return points, left_out


def _probes(found: Mapping[str, Any]) -> str:
    """How far the runs agree, and the numbers that the figure draws."""
    tables = found["tables"]
    agreement = [
        [
            text(row["probe"] + (f" minus {row['minus']}" if "minus" in row else "")),
            str(row["runs"]),
            *(number(row[c]) + _between(row[f"{c}_interval"]) for c in _KINDS),
        ]
        for row in (*tables["Correlations"], *tables["Differences"])
    ]
    points = [
        [point["run"], text(point["probe"]), str(point["rank"] or DASH), number(point["r2"]), number(point[_Y])]
        for point in tables["Runs"]
    ]
    headings = ["run", "probe", "rank", "held-out R\u00b2", text(METRICS[RECOGNITION])]
    return html.table(["probe", "runs", *_KINDS], agreement) + html.details(
        "Numbers of the figure", html.table(headings, points)
    )


_KINDS = ("pearson", "spearman")
_Y = "recognition"


# --- cost, failures, runs --------------------------------------------------------------------------------


def hours(state: RunState) -> tuple[str, float] | None:
    """What a finished run used, `core` or `GPU`, and how many hours of it; None where its time is not known."""
    assert state.folder is not None
    if state.seconds is None:
        return None
    last = read_lines(state.folder / "segments.jsonl")[-1]
    processes = last.get("devices", 1) * last.get("nodes", 1)
    on_gpu = last.get("accelerator") == "gpu"
    units = processes if on_gpu else processes * last.get("threads", 1)
    return ("GPU" if on_gpu else "core"), state.seconds * units / 3600


def _cost(done: Sequence[RunState]) -> str:
    used: dict[str, list[float]] = {}
    for state in done:
        if found := hours(state):
            used.setdefault(found[0], []).append(found[1])
    rows = [
        [f"{kind} hours", str(len(each)), number(sum(each)), number(sum(each) / len(each)), number(max(each))]
        for kind, each in used.items()
    ]
    return html.table(["", "runs", "in all", "mean of a run", "most"], rows)


def _failures(plan: Plan, states: Sequence[RunState], folder: Path) -> str:
    parts = []
    for state in states:
        if state.state is State.FAILED:
            log = log_path(plan, state.run)
            link = f" {_link(log, folder, 'whole log')}" if log.exists() else ""
            said = text("\n".join(state.error))
            parts.append(f"<p><b>run {state.run.index}</b> {text(state.run.label)}{link}</p><pre>{said}</pre>")
    return "".join(parts)


def _runs(plan: Plan, states: Sequence[RunState], folder: Path) -> str:
    axes, left = plan.sweep.axes, remaining(list(states))
    headings = ["run", "state", *(text(a if is_seed(a) else a.rpartition(".")[2]) for a in axes), *METRICS.values()]
    return html.table([*headings, "time", "folder"], (_run(state, axes, left, folder) for state in states))


def _run(state: RunState, axes: Sequence[str], left: dict[int, float], folder: Path) -> list[str]:
    point = state.run.point
    return [
        str(state.run.index),
        word(state),
        *(text(as_text(point[key])) if key in point else DASH for key in axes),
        *(number(state.metrics.get(key)) if state.metrics else "" for key in METRICS),
        time(state, left),
        _place(state, folder),
    ]


def _place(state: RunState, folder: Path) -> str:
    """The run's own report where it has one, else its folder."""
    if state.folder is None or not state.folder.is_dir():
        return ""
    report = state.folder / "report.html"
    return _link(report if report.is_file() else state.folder, folder, state.folder.name)


def _link(target: Path, folder: Path, words: str) -> str:
    return f'<a href="{quote(os.path.relpath(target, folder))}">{text(words)}</a>'

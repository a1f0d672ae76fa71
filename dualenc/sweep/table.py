"""The table of a sweep's runs, as plain aligned text: it pipes, and thousands of lines cost nothing."""

from collections import Counter
from typing import Any

from dualenc.report.results import DASH, format_number
from dualenc.sweep.plan import Plan
from dualenc.sweep.spec import as_text
from dualenc.sweep.state import METRICS, RunState, State, remaining

_WIDEST = 60


def table(plan: Plan, states: list[RunState]) -> str:
    """One line for each run, then what it all comes to, then the last lines of what failed."""
    left = remaining(states)
    axes = plan.sweep.axes
    rows = [["run", "state", *axes, *METRICS.values(), "time", "folder"]]
    rows += [_row(state, axes, left) for state in states]
    failed = [f"run {state.run.index} failed: {line}" for state in states for line in state.error]
    return "\n".join([*aligned(rows), "", totals(states, left), *failed])


def aligned(rows: list[list[str]]) -> list[str]:
    """Lines with the columns under each other; the first and the last to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths)]
        cells[1], cells[-1] = row[1].ljust(widths[1]), row[-1]
        lines.append("  ".join(cells).rstrip())
    return lines


def totals(states: list[RunState], left: dict[int, float]) -> str:
    """How many runs are in which state, and what is left."""
    counts = Counter(state.state for state in states)
    shown = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
    spent = sum(state.seconds or 0 for state in states)
    parts = [f"{len(states)} runs: {shown}"]
    if spent:
        parts.append(f"finished runs took {duration(spent)}")
    if left:
        parts.append(f"about {duration(sum(left.values()))} of one process left")
    elif counts[State.DONE] < len(states):
        parts.append("no estimate before a run has begun")
    return "; ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def _row(state: RunState, axes: list[str], left: dict[int, float]) -> list[str]:
    point = state.run.point
    values = [_cell(point[key]) if key in point else DASH for key in axes]
    numbers = [format_number(state.metrics.get(key)) if state.metrics else "" for key in METRICS]
    return [str(state.run.index), word(state), *values, *numbers, time(state, left), str(state.folder or "")]


def word(state: RunState) -> str:
    """The state, and how far an unfinished run has come."""
    return f"{state.state} {state.progress:.0%}" if state.progress and state.state is not State.DONE else state.state


def time(state: RunState, left: dict[int, float]) -> str:
    """What a finished run took, what is left of another as far as that can be told."""
    if state.run.index in left:
        return f"~{duration(left[state.run.index])}"
    return duration(state.seconds) if state.seconds else ""


def _cell(value: Any) -> str:
    text = as_text(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."

"""What a sweep leaves behind: sweep.json with every run, and its figure."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dualenc.files import write_json
from dualenc.sweep.plan import Plan
from dualenc.sweep.spec import Point, as_text
from dualenc.sweep.state import RunState, State, as_json

if TYPE_CHECKING:
    from dualenc.report.figures import Drawing

RESULTS = "sweep.json"
FIGURE = "figure"
_NUM_RESAMPLES = 2000
NORMAL = 1.96  # 97.5% quantiles: of the normal distribution, and of Student's of 1, 2, ... degrees of freedom
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)

PANELS = (
    ("object recognition", {"ood/object_recognition": ("-", "ood"), "ood/bag_level": (":", "bag level")}),
    ("same-status recognition", {"ood/object_recognition_same_status": ("-", "ood")}),
    ("binding gain", {"ood/binding_gain": ("-", "ood")}),
)
"""Title of a panel -> its metrics, each with line style and name. All are of held-out objects."""


def write_results(plan: Plan, states: list[RunState]) -> list[Path]:
    """Writes sweep.json and, where some runs are done and a number varies, figure.png and figure.pdf; their paths."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    sweep = plan.sweep
    listed = {"name": sweep.name, "file": str(sweep.path), "axes": sweep.axes, "runs": [as_json(s) for s in states]}
    write_json(plan.folder / RESULTS, listed)
    axis = x_axis(sweep.points)
    done = [state for state in states if state.state is State.DONE]
    if not done or not axis:
        return [plan.folder / RESULTS]
    transition(done, axis).save(plan.folder)
    return [plan.folder / name for name in (RESULTS, f"{FIGURE}.png", f"{FIGURE}.pdf")]


def is_seed(key: str) -> bool:
    """Whether runs that differ in this key alone are repetitions."""
    return key.rpartition(".")[2] == "seed"


def x_axis(points: list[Point]) -> str | None:
    """The key to draw results over: coverage, else the first one with several numbers that is no seed."""
    values: dict[str, set[float]] = {}
    for point in points:
        for key, value in point.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and not is_seed(key):
                values.setdefault(key, set()).add(value)
    keys = [key for key, numbers in values.items() if len(numbers) > 1]
    return next((key for key in keys if key.endswith("coverage")), keys[0] if keys else None)


def groups(states: list[RunState], axis: str) -> dict[str, list[RunState]]:
    """What differs besides the axis and seeds -> the runs that share it."""
    found: dict[str, list[RunState]] = {}
    for state in states:
        if axis in state.run.point:
            rest = {key: value for key, value in state.run.point.items() if key != axis and not is_seed(key)}
            name = " ".join(f"{key.rpartition('.')[2]}={as_text(value)}" for key, value in rest.items())
            found.setdefault(name, []).append(state)
    return found


def series(states: list[RunState], axis: str, metric: str) -> list[tuple[float, float]]:
    """`(axis value, metric)` of every run that has the metric, in order."""
    pairs = [(state.run.point[axis], state.metrics.get(metric)) for state in states]
    return sorted((float(x), y) for x, y in pairs if y is not None)


def repetitions(points: list[tuple[float, float]]) -> dict[float, list[float]]:
    """The numbers at each axis value, one for each seed."""
    held: dict[float, list[float]] = {}
    for x, y in points:
        held.setdefault(x, []).append(y)
    return held


def means(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The mean at each axis value."""
    return [(x, sum(values) / len(values)) for x, values in repetitions(points).items()]


def interval(values: Sequence[float], errors: Sequence[float] | None = None) -> tuple[float, float] | None:
    """95% bootstrap interval of the mean over seeds; None for a single seed.

    errors: standard error of each value, where it is only known so far. Resamples of few seeds scatter too little, by
    sqrt((n - 1) / n), and the normal's quantile is too small for them; their distance from the mean is made up for
    both, else an interval of three seeds would hold the true mean in three of four cases.
    """
    number = len(values)
    if number < 2:
        return None
    rng = np.random.default_rng(0)
    rows = rng.integers(number, size=(_NUM_RESAMPLES, number))
    drawn = np.array(values)[rows]
    if errors is not None:
        drawn = drawn + rng.normal(size=rows.shape) * np.array(errors)[rows]
    student = _STUDENT[number - 2] if number - 2 < len(_STUDENT) else NORMAL + 2.4 / (number - 1)
    mean = float(np.mean(values))
    away = np.quantile(drawn.mean(axis=1), [0.025, 0.975]) - mean
    low, high = mean + away * student / NORMAL * math.sqrt(number / (number - 1))
    return float(low), float(high)


def transition(done: list[RunState], axis: str) -> "Drawing":
    """Every seed a point, their mean a line with its 95% interval, every group a colour."""
    import matplotlib
    from matplotlib.figure import Figure

    from dualenc.report.figures import RUN_COLORS, STYLE, as_drawing

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.2 * len(PANELS), 3.6), layout="constrained")
        for axes, (title, metrics) in zip(figure.subplots(1, len(PANELS)), PANELS):
            for number, (group, states) in enumerate(groups(done, axis).items()):
                for metric, (line, name) in metrics.items():
                    points = series(states, axis, metric)
                    color = RUN_COLORS[number % len(RUN_COLORS)]
                    axes.plot(*_columns(means(points)), line, color=color, label=f"{group} {name}".strip())
                    if line == "-":
                        axes.plot(*_columns(points), "o", color=color, markersize=4, alpha=0.7)
                        if spread := intervals(points):
                            axes.vlines(list(spread), *zip(*spread.values()), color=color, linewidth=1)
            if title == "binding gain":
                axes.axhline(0, color="#777777", linewidth=1)
            axes.set_title(f"ood: {title}", loc="left", fontsize=10.5)
            axes.set_xlabel(axis)
            axes.set_ylim(top=1.04)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
        caption = (
            "every run a point, lines through the means; bars: 95% bootstrap interval of the mean over seeds, "
            "widened for few of them; a bag of concepts at its best has a binding gain of 0"
        )
        return as_drawing(FIGURE, caption, figure)


def intervals(points: list[tuple[float, float]]) -> dict[float, tuple[float, float]]:
    """The 95% interval of the mean at each axis value with several seeds."""
    found = {x: interval(values) for x, values in repetitions(points).items()}
    return {x: pair for x, pair in found.items() if pair}


def _columns(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]

"""The coverage at which binding begins, per group of a sweep and per seed, from as few runs as it takes.

    threshold: {low: 0.1, high: 0.9}        # in the sweep's file; keys are those of ThresholdConfig

Runs that differ in the axis alone are a curve; `dualenc.sweep.search` says which run of a curve is needed next. Runs
that are done, of the sweep or otherwise, are not run again. threshold.json in the sweep's folder holds all of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from dualenc import configs
from dualenc.config import Config
from dualenc.configs import field
from dualenc.errors import InputError
from dualenc.files import write_json
from dualenc.report.results import DASH
from dualenc.sweep.plan import Plan, PlannedRun, plan_points
from dualenc.sweep.results import NORMAL, interval, is_seed
from dualenc.sweep.search import Outcome, Range, Search
from dualenc.sweep.spec import Point, as_text
from dualenc.sweep.state import METRICS, RunState, State, look, look_at_all
from dualenc.sweep.table import aligned

RESULT = "threshold.json"


@dataclass
class ThresholdConfig:
    """The `threshold` block of a sweep."""

    key: str = field("data.coverage", "the axis that is searched")
    low: float = field(0.1, "lowest value of it")
    high: float = field(0.9, "highest value of it")
    step: float = field(0.025, "rho* is to be known to +- this; runs stand at low, low + step and so on", above=0)
    metric: str = field("ood/binding_gain", f"what crosses the level: one of {', '.join(METRICS)}")
    level: float = field(0.5, "the level", above=0, below=1)
    max_runs: int | None = field(
        None, "most new runs of a curve; null: half of the grid low, low + step, ...", minimum=3
    )


@dataclass
class _Block:
    threshold: ThresholdConfig = field(ThresholdConfig, "")


@dataclass
class Curve:
    """The runs that differ in the searched axis alone: one group, one seed."""

    group: Point
    seed: Point
    search: Search
    num_new: int = 0
    error: str | None = None
    interrupted: bool = False

    @property
    def outcome(self) -> str:
        """How its search stands; one that was interrupted stays open, with what its runs have shown so far."""
        return "failed" if self.error else str(self.search.next()[0])


class Threshold:
    """The search over a whole sweep: `begin` says what to run first, `told` what to run after a run has ended."""

    def __init__(self, plan: Plan) -> None:
        if plan.sweep.threshold is None:
            raise InputError(
                f"threshold: {plan.sweep.path} has no such block; add e.g. threshold: {{low: 0.1, high: 0.9}}"
            )
        self.plan, self.settings = plan, _settings(plan.sweep.threshold)
        self.within = _range(self.settings)
        self.curves = list(self._curves())
        self._check_ends()
        self._open: dict[int, Curve] = {}
        self._numbers = count()

    def _check_ends(self) -> None:
        """InputError where an end of the range is refused, which every search may have to run."""
        for name in ("low", "high"):
            end = {self.settings.key: getattr(self.settings, name)}
            points = [{**curve.group, **curve.seed, **end} for curve in self.curves]
            for run in plan_points(self.plan.sweep, points, self.plan.folder.parent):
                if run.error:
                    raise InputError(f"threshold.{name}: {run.error}")

    def begin(self) -> list[PlannedRun]:
        """The first run of every curve that needs one."""
        return [run for curve in self.curves if (run := self._next(curve))]

    def told(self, state: RunState, *, ran: bool) -> PlannedRun | None:
        """Takes in a run that has ended; the next one of its curve."""
        curve = self._open.pop(state.run.index)
        curve.num_new += ran
        self._take(curve, state)
        return self._next(curve)

    def _curves(self) -> Iterator[Curve]:
        """Every point of the sweep without the axis, with the finished runs that lie on its curve."""
        key, found = self.settings.key, dict[str, tuple[Point, dict[float, float]]]()
        for state in look_at_all(self.plan):
            rest = {name: value for name, value in state.run.point.items() if name != key}
            _, points = found.setdefault(repr(rest), (rest, {}))
            value = state.metrics.get(self.settings.metric)
            if key in state.run.point and value is not None:
                points[float(state.run.point[key])] = value
        for rest, points in found.values():
            yield Curve(*_parted(rest), Search(self.within, points))

    def _next(self, curve: Curve) -> PlannedRun | None:
        """The run that a curve needs next, after all that are done already."""
        while not (curve.error or curve.interrupted) and (place := curve.search.next()[1]) is not None:
            point = {**curve.group, **curve.seed, self.settings.key: place}
            [planned] = plan_points(self.plan.sweep, [point], self.plan.folder.parent)
            run = replace(planned, index=next(self._numbers))
            state = look(self.plan, run)
            if state.state is not State.DONE and run.error is None:
                self._open[run.index] = curve
                return run
            self._take(curve, state)
        return None

    def _take(self, curve: Curve, state: RunState) -> None:
        value = state.metrics.get(self.settings.metric)
        if value is not None:
            curve.search.tell(float(state.run.point[self.settings.key]), value)
        elif state.state is State.DONE:
            curve.error = f"{state.folder} has no {self.settings.metric}"
        elif state.error:
            curve.error = state.error[-1]
        else:
            curve.interrupted = True


_FEWEST_STEPS = 12


def _settings(block: Any) -> ThresholdConfig:
    settings = configs.load(_Block, None, [], defaults={"threshold": dict(block)}).threshold
    if settings.metric not in METRICS:
        raise InputError(f"threshold.metric: {settings.metric!r} is unknown; use one of {', '.join(METRICS)}")
    if settings.key not in configs.leaf_keys(Config):
        raise InputError(f"threshold.key: {settings.key!r} is no key of the config; use e.g. data.coverage")
    if settings.high - settings.low < (_FEWEST_STEPS - 1e-6) * settings.step:
        raise InputError(
            f"threshold.high: fewer than {_FEWEST_STEPS} steps above threshold.low, where half of a grid's runs find "
            "no crossing; widen the range, lower threshold.step, or run the grid"
        )
    return settings


def _range(settings: ThresholdConfig) -> Range:
    within = Range(settings.low, settings.high, settings.step, settings.level, max_points=0)
    return replace(within, max_points=settings.max_runs or len(within.places) // 2)


def _parted(point: Point) -> tuple[Point, Point]:
    """What a curve shares with its repetitions, and its seeds."""
    seeds = {key: value for key, value in point.items() if is_seed(key)}
    return {key: value for key, value in point.items() if key not in seeds}, seeds


# --- results ---------------------------------------------------------------------------------------------


def results(threshold: Threshold) -> dict[str, Any]:
    """All of it as plain values: for each group rho* (the mean over seeds where all of them cross) and every curve."""
    found: dict[str, list[Curve]] = {}
    for curve in threshold.curves:
        found.setdefault(repr(curve.group), []).append(curve)
    settings = threshold.settings
    groups = [_group(curves, threshold.within) for curves in found.values()]
    return {
        "key": settings.key,
        "metric": settings.metric,
        "level": settings.level,
        "step": settings.step,
        "groups": groups,
    }


def _group(curves: list[Curve], within: Range) -> dict[str, Any]:
    described = [_describe(curve) for curve in curves]
    known = [curve for curve in described if curve["outcome"] == Outcome.CROSSING]
    rho = [curve["rho"] for curve in known]
    errors = [(curve["interval"][1] - curve["interval"][0]) / (2 * NORMAL) for curve in known]
    complete = len(known) == len(curves)
    spread = interval(rho, errors) if complete else None
    return {
        "values": curves[0].group,
        "rho": sum(rho) / len(rho) if complete else None,
        "interval": spread and [max(spread[0], within.low), min(spread[1], within.high)],
        "num_known": len(known),
        "num_runs": sum(len(curve.search.points) for curve in curves),
        "num_grid_runs": len(within.places) * len(curves),
        "curves": described,
    }


def _describe(curve: Curve) -> dict[str, Any]:
    crosses = curve.outcome in (Outcome.CROSSING, Outcome.BUDGET, Outcome.OPEN) and curve.search.rises()
    fit = curve.search.fit() if crosses else None
    return {
        "seed": curve.seed,
        "outcome": curve.outcome,
        "crossings": curve.search.crossings(),
        "rho": fit and fit.rho,
        "interval": fit and [fit.low, fit.high],
        "num_new": curve.num_new,
        "points": sorted(curve.search.points.items()),
        "error": curve.error,
        "interrupted": curve.interrupted,
    }


def write_threshold(threshold: Threshold) -> str:
    """Writes threshold.json and returns the table."""
    found = results(threshold)
    threshold.plan.folder.mkdir(parents=True, exist_ok=True)
    write_json(threshold.plan.folder / RESULT, found)
    return "\n".join(_lines(found))


def _lines(found: dict[str, Any]) -> Iterator[str]:
    rows = [["runs", "outcome", "rho*", "interval", "new", "of"]]
    for group in found["groups"]:
        for curve in group["curves"]:
            cells = [str(len(curve["points"])), curve["outcome"], _number(curve["rho"]), _pair(curve["interval"])]
            rows.append([*cells, str(curve["num_new"]), _label({**group["values"], **curve["seed"]})])
    yield from aligned(rows)
    for group in found["groups"]:
        label, num = _label(group["values"]) or "all", len(group["curves"])
        runs = f"{group['num_runs']} runs, a grid of step {found['step']:g} has {group['num_grid_runs']}"
        if group["rho"] is None:
            yield f"{label}: no rho*, known for {group['num_known']} of {num} seeds; {runs}"
        else:
            spread = f" (95% over {num} seeds: {_pair(group['interval'])})" if group["interval"] else ", one seed"
            yield f"{label}: rho* = {_number(group['rho'])}{spread}; {runs}"
    for curve in (curve for group in found["groups"] for curve in group["curves"]):
        if curve["error"]:
            yield f"{_label(curve['seed'])} failed: {curve['error']}"
        if curve["interrupted"]:
            yield f"{_label(curve['seed'])} was interrupted; the same command goes on"
        if curve["crossings"] > 1:
            label = _label(curve["seed"])
            yield f"{label} crosses {found['level']:g} {curve['crossings']} times; its rho* is a best fit"


def _label(point: Point) -> str:
    return " ".join(f"{key}={as_text(value)}" for key, value in point.items())


def _number(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"


def _pair(pair: Sequence[float] | None) -> str:
    return DASH if pair is None else f"{pair[0]:.3f} to {pair[1]:.3f}"

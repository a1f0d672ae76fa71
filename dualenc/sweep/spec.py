"""A sweep is a YAML file: a base config, what all runs set over it, and axes whose product is the list of runs.

    base: ../transition.yaml                             # relative to this file
    overrides: {logging.wandb: disabled}                 # of every run; axes stand over it
    zip: {run.seed: [0, 1, 2], data.seed: [0, 1, 2]}     # go together: the i-th of each
    grid: {data.coverage: [0.2, 0.5, 0.9]}               # each with each
    list: [{loss.targets: truth}, {loss.targets: diagonal, optim.lr: 1e-3}]
    exclude: [{data.coverage: 0.2, run.seed: 2}]         # runs that match all keys of an entry; a list: any of it

The axes multiply in the order in which they stand in the file, and the last varies fastest: index -> run is a function
of the file alone, numbered after the exclusion.
"""

import difflib
import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from dualenc import configs
from dualenc.config import Config
from dualenc.errors import InputError

AXES = ("grid", "zip", "list")
KEYS = ("base", "overrides", *AXES, "exclude", "threshold")
MAX_RUNS = 100_000

Point = dict[str, Any]
"""Full key of the config -> value."""


@dataclass(frozen=True)
class Sweep:
    """A sweep file: `points[i]` is what run i sets over `base` and `overrides`; `threshold` is its block as written."""

    path: Path
    base: Path
    overrides: Point
    points: list[Point]
    notes: list[str]
    threshold: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def axes(self) -> list[str]:
        """The keys in which runs may differ, in the order of the file."""
        return list(dict.fromkeys(key for point in self.points for key in point))

    def arguments(self, point: Point) -> list[str]:
        """What `python -m dualenc.fit` is given for a point: the base config and `key=value`s."""
        return [str(self.base), *(f"{key}={as_text(value)}" for key, value in {**self.overrides, **point}.items())]


def read_sweep(path: Path | str) -> Sweep:
    """The sweep of a YAML file. InputError in one line for a key that does not exist, here or in the config's tree, for
    axes that do not fit together, or where nothing is left."""
    path = Path(path)
    given = configs.read_yaml(path)
    for key in given:
        if key not in KEYS:
            close = difflib.get_close_matches(str(key), KEYS, n=1)
            help = f"did you mean {close[0]}" if close else f"known keys are {', '.join(KEYS)}"
            raise InputError(f"{key}: unknown key of the sweep {path}; {help}")
    base = given.get("base")
    if not isinstance(base, str):
        raise InputError(f"base: in {path}: name the config file of the runs, relative to {path.parent}")
    overrides = _mapping("overrides", given.get("overrides", {}))
    factors = [_FACTORS[axis](value) for axis, value in given.items() if axis in _FACTORS]
    _check_keys(overrides, factors)
    points = _product(factors)
    notes = [
        f"note: overrides.{key} has no effect: an axis sets it in every run"
        for key in overrides
        if all(key in point for point in points)
    ]
    points, idle = _exclude(points, given.get("exclude", []))
    if not points:
        raise InputError(f"exclude: no run is left in {path}; exclude fewer")
    threshold = given.get("threshold")
    if threshold is not None and not isinstance(threshold, Mapping):
        raise InputError("threshold: expected keys and values, e.g. {low: 0.1, high: 0.9}")
    return Sweep(path, _relative(path.parent / base), overrides, points, notes + idle, threshold)


def as_text(value: Any) -> str:
    """A value as it stands on a command line after `key=`, so that it is read back as the same value."""
    if isinstance(value, int | float | str):
        return _scalar(type(value).__name__, value)
    return _yaml(value)


@functools.cache
def _scalar(kind: str, value: Any) -> str:
    """The same for a scalar, which many runs share; 1, 1.0 and true are equal, but no two of one kind."""
    return _yaml(value)


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _relative(path: Path) -> Path:
    """The path without `..`, from the working directory where it lies inside: as one would type it."""
    path = path.resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


# --- axes ------------------------------------------------------------------------------------------------


def _mapping(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{where}: expected full keys of the config and values, e.g. {{run.seed: ...}}; got {value!r}")
    return dict(value)


def _values(axis: str, mapping: Any) -> dict[str, list[Any]]:
    values = _mapping(axis, mapping)
    for key, held in values.items():
        if not isinstance(held, list) or not held:
            raise InputError(f"{axis}.{key}: expected a list of values, e.g. [0, 1, 2]; got {held!r}")
    return values


def _grid(mapping: Any) -> list[Point]:
    values = _values("grid", mapping)
    _check_number(math.prod(map(len, values.values())))
    return [dict(zip(values, row)) for row in product(*values.values())]


def _check_number(runs: int) -> None:
    if runs > MAX_RUNS:
        raise InputError(f"grid: the sweep has {runs:,} runs; at most {MAX_RUNS:,} are handled, split it")


def _zip(mapping: Any) -> list[Point]:
    values = _values("zip", mapping)
    lengths = {key: len(held) for key, held in values.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise InputError(f"zip: the lists differ in length: {shown}; give each as many values")
    return [dict(zip(values, row)) for row in zip(*values.values())]


def _list(entries: Any) -> list[Point]:
    if not isinstance(entries, list) or not entries:
        raise InputError(f"list: expected a list of mappings, e.g. [{{run.seed: 0}}, {{run.seed: 1}}]; got {entries!r}")
    return [_mapping(f"list.{number}", entry) for number, entry in enumerate(entries)]


_FACTORS = {"grid": _grid, "zip": _zip, "list": _list}


def _keys(points: list[Point]) -> set[str]:
    return {key for point in points for key in point}


def _check_keys(overrides: Point, factors: list[list[Point]]) -> None:
    """Every key is one of the config's tree, and stands in one axis at most."""
    seen: set[str] = set()
    for keys in map(_keys, factors):
        if twice := seen & keys:
            raise InputError(f"{min(twice)}: is given by two axes of the sweep; keep one")
        seen |= keys
    leaves = configs.leaf_keys(Config)
    for key in (*overrides, *sorted(seen)):
        inside = any(leaf.startswith(f"{key}.") or key.startswith(f"{leaf}.") for leaf in leaves)
        if key not in leaves and not inside:
            configs.load(Config, None, [f"{key}=0"])  # says what is wrong with it


def _product(factors: list[list[Point]]) -> list[Point]:
    _check_number(math.prod(map(len, factors)))
    return [{key: value for part in parts for key, value in part.items()} for parts in product(*factors)]


# --- exclusion -------------------------------------------------------------------------------------------


def _exclude(points: list[Point], entries: Any) -> tuple[list[Point], list[str]]:
    """The points that match no entry; a note for an entry that matches none."""
    if not isinstance(entries, list):
        raise InputError(f"exclude: expected a list of mappings, e.g. [{{run.seed: 2}}]; got {entries!r}")
    known, notes, out = _keys(points), [], set()
    for number, entry in enumerate(entries):
        where = f"exclude.{number}"
        rule = _mapping(where, entry)
        for key in rule:
            if key not in known:
                raise InputError(f"{where}.{key}: is no axis of the sweep; use {', '.join(sorted(known))}")
        found = set(_matches(points, rule))
        if not found:
            notes.append(f"note: {where} has no effect: no run has {rule}")
        out |= found
    return [point for index, point in enumerate(points) if index not in out], notes


def _matches(points: list[Point], rule: Point) -> Iterator[int]:
    for index, point in enumerate(points):
        if all(
            key in point and (point[key] in value if isinstance(value, list) else point[key] == value)
            for key, value in rule.items()
        ):
            yield index

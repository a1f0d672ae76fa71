"""From a sweep to its runs: the resolved config, its hash and its folder, for thousands of points in seconds."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from operator import attrgetter
from pathlib import Path
from typing import Any

from dualenc import config as configuration
from dualenc import configs
from dualenc.config import Config
from dualenc.errors import InputError
from dualenc.run import RunFolder
from dualenc.sweep.datasets import dataset_hashes
from dualenc.sweep.spec import Point, Sweep, as_text

FOLDER = "sweeps"  # in the folder of the runs


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep. `folder` is None, and `error` says why in one line, where its config or data are refused."""

    index: int
    point: Point
    arguments: list[str]
    max_samples: int = 0
    folder: RunFolder | None = None
    error: str | None = None

    @property
    def label(self) -> str:
        """What tells it from the others: its axis values as on a command line."""
        return " ".join(f"{key}={as_text(value)}" for key, value in self.point.items())


@dataclass(frozen=True)
class Plan:
    """A sweep with its runs in order, and the folder where everything that is about the sweep as a whole goes."""

    sweep: Sweep
    runs: list[PlannedRun]
    folder: Path
    notes: list[str]


def make_plan(sweep: Sweep) -> Plan:
    """The runs of a sweep. InputError where the base or what all runs set is wrong; a run whose own values are wrong
    is planned with its error, and the others stay."""
    folder = Path(configs.load(Config, sweep.base, sweep.arguments({})[1:]).run.dir) / FOLDER
    runs = plan_points(sweep, sweep.points, folder)
    if all(run.error for run in runs):
        raise InputError(f"{runs[0].error} (so it is for all runs of {sweep.path})")
    hashes = [run.folder.hash for run in runs if run.folder]
    notes = [*sweep.notes]
    if repeated := len(hashes) - len(set(hashes)):
        notes.append(f"note: {repeated} runs of {sweep.path} are the same as another one: some axis changes no result")
    return Plan(sweep, runs, folder / sweep.name, notes)


def plan_points(sweep: Sweep, points: Sequence[Point], folder: Path) -> list[PlannedRun]:
    """The runs of any points over the sweep's base, numbered from 0."""
    resolved = _Resolver(sweep, points)
    found = [resolved.config(point) for point in points]
    answers = iter(dataset_hashes([config for config in found if isinstance(config, Config)], folder / "datasets.json"))
    runs = []
    for index, (point, config) in enumerate(zip(points, found)):
        arguments = sweep.arguments(point)
        if isinstance(config, str):
            runs.append(PlannedRun(index, point, arguments, error=config))
            continue
        answer = next(answers)
        if "error" in answer:
            runs.append(PlannedRun(index, point, arguments, error=answer["error"]))
            continue
        configuration.round_up(config)
        run = RunFolder.of(config, answer["hash"])
        runs.append(PlannedRun(index, point, arguments, config.trainer.max_samples, run))
    return runs


class _Resolver:
    """Configs of many points, each as `dualenc.config.load` would give it.

    OmegaConf takes tens of milliseconds for a config. Here it reads the base once and every value of every key once;
    a point is a copy of the base with values put in. What does not work like that (mappings with free keys, presets of
    the loss, values that are refused) takes the long way.
    """

    def __init__(self, sweep: Sweep, points: Sequence[Point]) -> None:
        self.sweep = sweep
        self.base = configs.load(Config, sweep.base, sweep.arguments({})[1:])
        self.leaves = configs.leaf_keys(Config)
        self.values: dict[tuple[str, str], Any] = {}
        texts: dict[str, dict[str, None]] = {}
        for point in points:
            for key, value in point.items():
                if key in self.leaves:
                    texts.setdefault(key, {})[as_text(value)] = None
        for row in zip_longest(*texts.values()):
            self._read({key: text for key, text in zip(texts, row) if text is not None})

    def _read(self, row: dict[str, str]) -> None:
        """Reads one value of each of several keys, together where all are good."""
        try:
            read = configs.load(Config, None, [f"{key}={text}" for key, text in row.items()])
        except InputError:
            if len(row) > 1:
                for key, text in row.items():
                    self._read({key: text})
            return
        self.values |= {(key, text): attrgetter(key)(read) for key, text in row.items()}

    def config(self, point: Point) -> Config | str:
        """The resolved config of a point, or the line that says what is wrong with it."""
        try:
            return self._short(point) or configuration.load(str(self.sweep.base), self.sweep.arguments(point)[1:])
        except InputError as error:
            return str(error)

    def _short(self, point: Point) -> Config | None:
        config = copy.deepcopy(self.base)
        for key, value in point.items():
            if (found := (key, as_text(value))) not in self.values:
                return None
            parent, _, name = key.rpartition(".")
            setattr(attrgetter(parent)(config), name, copy.deepcopy(self.values[found]))
        if config.loss.preset is not None:
            return None
        configuration.resolve(config)
        return config

"""From a sweep to its runs: the resolved config, its hash and its folder, for thousands of points in seconds."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from dualenc import config as configuration
from dualenc import configs
from dualenc.config import Config
from dualenc.data.open import generator_arguments
from dualenc.errors import InputError
from dualenc.run import RunFolder
from dualenc.sweep.datasets import dataset_hashes
from dualenc.sweep.spec import Point, Sweep, as_text

FOLDER = "sweeps"  # in the folder of the runs


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep. `folder` is None, and `error` says why in one line, where its config or data are refused;
    `dataset` is what `python -m data_gen` is given for its data, where that is made."""

    index: int
    point: Point
    arguments: list[str]
    max_samples: int = 0
    folder: RunFolder | None = None
    error: str | None = None
    dataset: tuple[str, ...] | None = None

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
    resolver = _Resolver(sweep)
    found = [resolver.config(point) for point in points]
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
        dataset = tuple(generator_arguments(config.data)) if config.data.generate else None
        runs.append(PlannedRun(index, point, arguments, config.trainer.max_samples, run, dataset=dataset))
    return runs


class _Resolver:
    """Configs of many points, each as `dualenc.config.load` would give it.

    OmegaConf takes tens of milliseconds for a config. Here it reads the base once; a point is a copy of that with
    values put in. What does not work like that (values that have to be converted, mappings, presets of the loss, and
    all that is refused) takes the long way.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.base = configs.load(Config, sweep.base, sweep.arguments({})[1:])
        self.kinds = {key: kind for key, _, kind, _ in configs.leaves(Config)}

    def config(self, point: Point) -> Config | str:
        """The resolved config of a point, or the line that says what is wrong with it."""
        try:
            return self._short(point) or configuration.load(str(self.sweep.base), self.sweep.arguments(point)[1:])
        except InputError as error:
            return str(error)

    def _short(self, point: Point) -> Config | None:
        config = copy.deepcopy(self.base)
        for key, value in point.items():
            whole = type(value) is int and key in self.kinds and not configs.has_type(value, self.kinds[key])
            taken = float(value) if whole else value  # 1 for a number that may be 1.5
            if key not in self.kinds or not configs.has_type(taken, self.kinds[key]) or "${" in str(value):
                return None
            parent, _, name = key.rpartition(".")
            setattr(attrgetter(parent)(config), name, taken)
        if config.loss.preset is not None:
            return None
        configs.check_ranges(config)
        configuration.resolve(config)
        return config

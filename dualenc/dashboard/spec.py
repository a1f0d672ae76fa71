"""What a dashboard shows, as plain objects: the same for wandb and for the local page."""

from dataclasses import dataclass
from typing import Literal

from dualenc import configs
from dualenc.config import Config
from dualenc.sweep.plan import Plan
from dualenc.sweep.results import x_axis


@dataclass(frozen=True)
class Panel:
    """One chart. `curve`: the metric over training samples, a line a run; `axis`: its newest value against the sweep's
    axis, a point a run; `examples`: the worst-bound scenes of each run."""

    title: str
    kind: Literal["curve", "axis", "examples"]
    metric: str = ""


@dataclass(frozen=True)
class Section:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """Of a sweep. `axis` is the config key that results stand over, None where no number varies but seeds."""

    sweep: str
    project: str
    axis: str | None
    sections: tuple[Section, ...]


AGAINST_AXIS = {
    "Transition": {
        "ood/object_recognition": "object recognition, held-out objects",
        "ood/object_recognition_same_status": "the same against held-out candidates alone",
        "ood/bag_level": "bag level, held-out objects",
        "val/object_recognition": "object recognition, seen objects",
    },
    "Binding gain": {
        "ood/binding_gain": "binding gain, held-out objects",
        "val/binding_gain": "binding gain, seen objects",
    },
}
OVER_TRAINING = {
    "Training": {
        "ood/object_recognition": "object recognition, held-out objects",
        "val/object_recognition": "object recognition, seen objects",
        "train/loss": "training loss",
    },
    "Spectrum": {
        "spectrum/effective_rank": "effective rank of the cross-covariance",
        "spectrum/scene_effective_rank": "effective rank of the scene tower",
        "spectrum/query_effective_rank": "effective rank of the query tower",
        "spectrum/top_energy": "energy of the first 3 singular values",
    },
    "Coverage": {
        "coverage/objects_seen": "objects that training has met",
        "coverage/pairs_seen": "pairs of objects that training has met",
    },
    "Throughput": {
        "throughput/samples_per_second": "samples a second",
        "throughput/data_wait": "share of the time spent waiting for data",
        "throughput/peak_memory_gib": "peak memory, GiB",
    },
}
"""Section -> metric -> title of its panel."""


def dashboard_of(plan: Plan) -> Dashboard:
    """The dashboard of a sweep."""
    axis = x_axis(plan.sweep.points)
    against = AGAINST_AXIS if axis else {}
    sections = [_section(title, "axis", metrics) for title, metrics in against.items()]
    sections += [_section(title, "curve", metrics) for title, metrics in OVER_TRAINING.items()]
    scenes = Section("Worst-bound scenes", (Panel("worst-bound scenes", "examples"),))
    base = configs.load(Config, plan.sweep.base, plan.sweep.arguments({})[1:])
    return Dashboard(plan.sweep.name, base.logging.project, axis, (*sections, scenes))


def _section(title: str, kind: Literal["curve", "axis"], metrics: dict[str, str]) -> Section:
    return Section(title, tuple(Panel(words, kind, metric) for metric, words in metrics.items()))

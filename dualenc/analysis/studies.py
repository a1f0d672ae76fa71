"""The studies by name, with their options. No torch here: a wrong option is refused in a moment.

A study's function takes the scenes, one `EmbeddedScenes` for each object count, ascending (or the opened target itself,
where `takes` says so), and its options. It returns plain JSON values. Two keys are rendered for every study:

    notes: list of sentences; what was left out and why.
    tables: title -> list of rows, each a dict of column -> value; `x_interval` [low, high] is shown beside `x`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from dualenc.command import DataOptions
from dualenc.configs import field
from dualenc.errors import InputError
from dualenc.scenes.random import SPLITS

LIBRARIES = {"forest": ("sklearn", "scikit-learn"), "boosting": ("xgboost", "xgboost-cpu")}
"""Approximator by trees -> the module it needs, and what to install for it."""

EMBEDDED_SPLITS = tuple(split for split in SPLITS if split != "val_ood")


@dataclass
class TextScenes:
    """Which texts `scenes=text` makes: "a {attribute} {object} and a {attribute} {object}"."""

    attributes: int = field(20, "number of attributes", minimum=2, maximum=20)
    objects: int = field(20, "number of nouns", minimum=2, maximum=20)


@dataclass
class StudyOptions(DataOptions):
    """Options of every study."""

    scenes: Literal["data", "text"] = field("data", "scenes of the data, or texts of two objects (hf: targets)")
    text: TextScenes = field(TextScenes, "texts")
    splits: list[str] = field(list(EMBEDDED_SPLITS), f"splits of the data that are embedded, of {', '.join(SPLITS)}")
    num_scenes: int = field(8192, "most scenes of each split, or texts", minimum=1)
    batch_size: int = field(256, "scenes embedded at once", minimum=1)
    seed: int = field(0, "of sampled texts, random weights, splits of scenes, resamples", minimum=0)
    threads: int = field(1, "CPU threads of torch", minimum=1)
    out: str | None = field(None, "folder of the results; null: RUN/analysis, or analysis/NAME for an hf: target")

    @property
    def needed_objects(self) -> int:
        """Objects that scenes must be able to hold."""
        return 1

    def check(self) -> None:
        """InputError, before anything is embedded, for options of which no study can be made."""
        if self.scenes == "text" and self.needed_objects > 2:
            raise InputError(f"count: texts show two objects, not {self.needed_objects}; use scenes=data for more")

    def check_pretrained(self) -> None:
        """InputError, before anything is embedded, for options that leave an hf: target without a study."""


@dataclass
class DecompositionOptions(StudyOptions):
    """Options of `decomposition`."""

    num_queries: int = field(2000, "most reconstructed scenes that are looked up among all scenes", minimum=1)
    object_probe: bool = field(True, "also read objects by a linear probe, which takes longest")

    @property
    def needed_objects(self) -> int:
        """See `StudyOptions`."""
        return 2


@dataclass
class InterventionsOptions(StudyOptions):
    """Options of `interventions`."""

    normalized: bool = field(True, "whether embeddings are brought to length one")
    num_edits: int = field(2000, "most scenes that are edited", minimum=1)
    object_probe: bool = field(True, "also read objects by a linear probe, which takes longest")

    @property
    def needed_objects(self) -> int:
        """See `StudyOptions`."""
        return 2


@dataclass
class RecognitionOptions(StudyOptions):
    """Options of `recognition`."""


@dataclass
class CountOptions(StudyOptions):
    """Options of a study of scenes of one object count."""

    count: int = field(2, "objects in the scenes that are studied", minimum=1)

    @property
    def needed_objects(self) -> int:
        """See `StudyOptions`."""
        return self.count


@dataclass
class MultiplicativeOptions(CountOptions):
    """Options of `multiplicative`."""

    normalized: bool = field(True, "whether embeddings are brought to length one")
    coverage: float | None = field(
        None, "share of the objects that is fitted; null: the training objects", above=0, below=1
    )
    ranks: list[int] = field([2, 4, 8, 16, 32], "ranks r of the products", minimum=1)
    restarts: int = field(3, "fits of each product probe, of which validation scenes choose one", minimum=1)

    def check(self) -> None:
        """See `StudyOptions`."""
        super().check()
        if not self.ranks:
            raise InputError("ranks: there are none; give at least one, e.g. [8]")

    def check_pretrained(self) -> None:
        """See `StudyOptions`."""
        if self.coverage is None:
            raise InputError("coverage: an hf: target has no training objects; give e.g. coverage=0.8")


@dataclass
class CapacityOptions(CountOptions):
    """Options of `capacity`."""

    normalized: bool = field(True, "whether embeddings are brought to length one")
    object_probe: bool = field(True, "also read objects by a linear probe, which takes longest")
    coverages: list[float] = field([0.1, 0.3, 0.5, 0.7, 0.9], "shares of the objects that are fitted", above=0, below=1)
    draws: int = field(3, "draws of the objects that are fitted, at each coverage", minimum=1)
    fit_scenes: int = field(4096, "most scenes that an approximator is fitted to", minimum=2)
    widths: list[int] = field([64, 256, 1024], "widths of the MLPs", minimum=1)
    steps: int = field(4000, "full-batch steps of an MLP", minimum=1)
    lr: float = field(1e-2, "first learning rate of an MLP; falls to 0 by a cosine", above=0)
    forest: bool = field(True, "also a random forest (extra [analysis])")
    boosting: bool = field(False, "also XGBoost (extra [analysis])")
    trees: int = field(100, "trees of the forest, or rounds of boosting", minimum=1)
    workers: int | None = field(None, "processes on a CPU; null: one for each core", minimum=1)

    def check(self) -> None:
        """See `StudyOptions`: an approximator is asked for, and the libraries of those that are asked for are there."""
        super().check()
        if not self.coverages:
            raise InputError("coverages: there are none; give at least one, e.g. [0.5]")
        if not (self.widths or self.forest or self.boosting):
            raise InputError("widths: no approximator is left; give a width, or forest=true")
        for kind, (module, library) in LIBRARIES.items():
            if getattr(self, kind) and find_spec(module) is None:
                raise InputError(f"{kind}: needs {library}; pip install {library}, or say {kind}=false")


@dataclass
class LayersOptions(CountOptions):
    """Options of `probes`."""

    num_scenes: int = field(1024, "most scenes of each split, or texts", minimum=10)
    positions: Literal["all", "pooled"] = field("all", "each position too, or the mean over them and the end alone")
    object_probe: bool = field(True, "also read objects by a linear probe, which takes longest")
    workers: int | None = field(None, "processes; null: one for each core", minimum=1)


@dataclass(frozen=True)
class Study:
    """function: "module:name" in this package; takes: `scenes`, or `target` for what needs the tower itself; about:
    one line with what it needs; figures: "module:name" of a function of the result that draws, or None."""

    function: str
    options: type[StudyOptions]
    about: str
    takes: Literal["scenes", "target"] = "scenes"
    figures: str | None = None

    def load(self, name: Literal["function", "figures"] = "function") -> Callable[..., Any]:
        """The function itself; imports torch."""
        module, _, attribute = getattr(self, name).partition(":")
        return getattr(import_module(f"dualenc.analysis.{module}"), attribute)


STUDIES = {
    "decomposition": Study(
        "decomposition:decomposition",
        DecompositionOptions,
        "are scenes sums of object vectors, and those sums of concept vectors? Needs scenes of two objects or more",
        figures="drawings:decomposition",
    ),
    "interventions": Study(
        "interventions:interventions",
        InterventionsOptions,
        "edits objects and removes components, then looks and reads again. Needs scenes of two objects or more",
        figures="drawings:interventions",
    ),
    "recognition": Study(
        "recognition:zero_shot",
        RecognitionOptions,
        "recognition and binding of a pretrained model, asked in words. Needs an hf: target with a text tower and "
        "data.path",
        takes="target",
    ),
    "multiplicative": Study(
        "multiplicative:multiplicative",
        MultiplicativeOptions,
        "are scenes sums of concept vectors, or of their products too? Needs a run with held-out objects, or coverage",
        figures="curves:multiplicative",
    ),
    "capacity": Study(
        "capacity:capacity",
        CapacityOptions,
        "how well do small functions of the concept ids predict embeddings of scenes of new objects?",
        figures="curves:capacity",
    ),
    "probes": Study(
        "layers:layers",
        LayersOptions,
        "which concepts and objects can be read at which layer and position of the scene tower?",
        takes="target",
        figures="curves:layers",
    ),
}

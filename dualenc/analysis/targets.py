"""Where embeddings come from: the scene tower of a run, or a pretrained model."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dualenc.analysis.checkpoints import PRETRAINED, RANDOM_WEIGHTS
from dualenc.analysis.embedded import EmbeddedScenes, Slots
from dualenc.analysis.pretrained import Pretrained, load_pretrained, random_clip
from dualenc.analysis.progress import track
from dualenc.analysis.studies import StudyOptions
from dualenc.analysis.texts import draw_pairs, text_space, texts_of
from dualenc.build import describe_data
from dualenc.data import Dataset, ShardSource, Source, SymbolicSource
from dualenc.errors import InputError
from dualenc.evaluation import spans
from dualenc.loading import LoadedModel
from dualenc.reopen import is_own, reopen
from dualenc.scenes import ConceptSpace, Scenes

_STATUS_OF = {"train": "train", "val": "train", "val_ood": "heldout", "ood": "heldout", "mixed": "mixed"}


class Target(ABC):
    """A tower with scenes to show it."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What was analysed, for the results."""

    @abstractmethod
    def embed(self) -> tuple[EmbeddedScenes, ...]:
        """The embedded scenes, an `EmbeddedScenes` for each object count, ascending."""


@dataclass(eq=False)
class RunTarget(Target):
    """The scene tower of a run on scenes of its own data, or of `data.path`.

    source: the scenes; train: the objects that training showed.
    """

    loaded: LoadedModel
    source: Source
    train: np.ndarray
    options: StudyOptions

    def describe(self) -> dict[str, Any]:
        """See `Target`."""
        loaded = self.loaded
        about = {"run": loaded.folder.resolve().name, "weights": loaded.weights, "samples": loaded.samples}
        return {**about, "dataset": describe_data(self.source)}

    def embed(self) -> tuple[EmbeddedScenes, ...]:
        """See `Target`. The tower's output before it is brought to length one."""
        return embed_splits(self.source, self._tower, self.options, slots=slots_of(self.source), train=self.train)

    @torch.no_grad()
    def _tower(self, inputs: np.ndarray) -> Float[Tensor, "n d"]:
        return self.loaded.model.scene_tower(torch.as_tensor(inputs, device=self.loaded.device))


@dataclass(eq=False)
class PretrainedTarget(Target):
    """A pretrained model on the pictures of a dataset, or on texts.

    source: the dataset's scenes, None where the texts are studied.
    """

    name: str
    model: Pretrained
    source: ShardSource | None
    options: StudyOptions

    def describe(self) -> dict[str, Any]:
        """See `Target`."""
        data = (
            {"name": "text", "concepts": self._space.to_dict()} if self.source is None else describe_data(self.source)
        )
        return {"model": self.name, "kind": self.model.kind, "dataset": data}

    def embed(self) -> tuple[EmbeddedScenes, ...]:
        """See `Target`. Of texts also those of a single object, each object once."""
        if self.source is not None:
            return embed_splits(self.source, self.model.pictures, self.options, slots=slots_of(self.source), train=None)
        space = self._space
        every = np.arange(space.num_objects)[:, None]
        pairs = draw_pairs(space, self.options.num_scenes, seed=self.options.seed)
        return tuple(
            EmbeddedScenes(self._texts(texts_of(space, objects)), objects, space, "mention")
            for objects in (every, pairs)
        )

    @property
    def _space(self) -> ConceptSpace:
        return text_space(self.options.text.attributes, self.options.text.objects)

    def _texts(self, texts: list[str]) -> Float[Tensor, "n d"]:
        parts = track("texts", list(spans(len(texts), self.options.batch_size)))
        return torch.cat([self.model.texts(texts[slice(*span)]).cpu() for span in parts])


def open_target(target: str, options: StudyOptions) -> Target:
    """The target of a command line that `dualenc.analyze` has checked. InputError for data that does not fit."""
    from dualenc.hardware import device_for_use

    path = options.data.path
    if target.startswith(PRETRAINED):
        pictures = None if options.scenes == "text" or path is None else open_pictures(path)
        model = open_pretrained(target, seed=options.seed, pictures=pictures is not None)
        return PretrainedTarget(target.removeprefix(PRETRAINED), model, pictures, options)
    from dualenc import load

    loaded = load(target, options.weights)
    source = reopen(loaded, path)
    # what training showed, whatever the split of another dataset says
    train = (source if is_own(loaded, source) else reopen(loaded)).split.train
    return RunTarget(loaded.to(device_for_use(loaded.config)), source, train, options)


def open_pretrained(target: str, *, seed: int, pictures: bool = True) -> Pretrained:
    """The model of `hf:FOLDER` or `hf:random:NAME`, on the GPU where there is one; see `load_pretrained`."""
    if target.startswith(RANDOM_WEIGHTS):
        model = random_clip(target.removeprefix(RANDOM_WEIGHTS), seed=seed)
    else:
        model = load_pretrained(Path(target.removeprefix(PRETRAINED)), pictures=pictures)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def open_pictures(path: str) -> ShardSource:
    """A checked dataset, as a tower of pictures and a tower of texts read it."""
    from dualenc.data import QuerySettings

    dataset = Dataset(path)
    dataset.verify()
    settings = QuerySettings(seed=0, captions=1.0, objects=0.0, concepts=0.0, edits=(), edits_per_scene=0)
    return ShardSource(dataset, scene_tower="vision", query_tower="text", settings=settings)


def slots_of(source: Source) -> Slots:
    """What the order of the objects means to the scene tower of a source: token scenes are read in order, pictures of
    the fixed layout have a place for each object."""
    if not isinstance(source, ShardSource) or not source.pictures:
        return "mention"
    return "place" if source.dataset.meta["config"].get("layout") == "fixed" else "none"


def embed_splits(
    source: Source,
    tower: Callable[[np.ndarray], Tensor],
    options: StudyOptions,
    *,
    slots: Slots,
    train: np.ndarray | None,
) -> tuple[EmbeddedScenes, ...]:
    """The first scenes of each split through a tower, by their number of objects.

    InputError where a split is unknown or empty throughout, or shows objects of the other side: a leak.
    """
    unknown = [split for split in options.splits if split not in _STATUS_OF]
    if unknown or not options.splits or len(set(options.splits)) < len(options.splits):
        raise InputError(f"splits: give some of {', '.join(_STATUS_OF)}, each once, not {options.splits}")
    if source.max_objects < options.needed_objects:
        raise InputError(
            f"TARGET: its scenes have at most {source.max_objects} objects, this study needs {options.needed_objects}; "
            "use other data"
        )
    embeddings, objects = [], []
    # Other data may have a split of its own, whose sides are not those of training.
    alike = train is not None and np.array_equal(source.split.train, train)
    own = train if options.data.path is None or alike else None
    for split in options.splits:
        number = _number(source, split, options.num_scenes)
        for span in track(split, list(spans(number, options.batch_size))):
            batch = source.eval_batch(split, *span)
            embeddings.append(tower(batch.inputs).float().cpu())
            objects.append(batch.scenes.objects)
            if own is not None:
                check_side(split, batch.scenes, own)
    if not embeddings:
        raise InputError(f"splits: {', '.join(options.splits)} hold no scenes; choose others")
    z, ids = torch.cat(embeddings), np.concatenate(objects)
    counts = (ids >= 0).sum(axis=1)
    return tuple(
        EmbeddedScenes(z[torch.from_numpy(counts == m)], ids[counts == m, :m], source.space, slots, train)
        for m in np.unique(counts).tolist()
    )


def check_side(split: str, scenes: Scenes, train: np.ndarray) -> None:
    """Refuses scenes that show objects of the other side of the split; what they would measure is a leak."""
    heldout = (~np.isin(scenes.objects, train) & (scenes.objects >= 0)).sum(axis=1)
    status = np.where(heldout == 0, "train", np.where(heldout == scenes.counts, "heldout", "mixed"))
    wrong = int((status != _STATUS_OF[split]).sum())
    if wrong:
        raise InputError(
            f"data: {wrong} of {len(scenes)} scenes of {split} show objects of the other side of the split; make the "
            "dataset again"
        )


def _number(source: Source, split: str, most: int) -> int:
    """How many scenes of a split are embedded: token scenes are drawn as needed, unless they are listed."""
    held = source.num_samples(split)
    if isinstance(source, SymbolicSource) and held:
        listed = source.sampler.num_exhaustive(split)
        return most if listed is None else min(most, listed)
    return min(most, held)

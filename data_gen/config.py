"""The tree of a data config, its checks and its hash."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from data_gen import FORMAT_VERSION, GENERATOR_VERSION
from data_gen.checks import CAPTION_OF_OPPOSITE, check, resolved_concepts
from data_gen.render.clevr import DEVICE
from dualenc import configs
from dualenc.configs import field
from dualenc.scenes import CAPTION_KINDS, PARAPHRASES, SPLITS, TEMPLATES, Language

_TEMPLATE_NAMES = ", ".join(map(repr, TEMPLATES))
_KINDS = ", ".join(CAPTION_KINDS)
_OPPOSITES = ", ".join(f"{kind} (of {caption} captions)" for kind, caption in CAPTION_OF_OPPOSITE.items())


@dataclass
class NumSamplesConfig:
    """Scenes of each split; 0 leaves a split out."""

    train: int = field(40000, "scenes of train objects, to learn from", minimum=1)
    val: int = field(2000, "fresh scenes of train objects", minimum=0)
    val_ood: int = field(1000, "scenes of the few held-out objects that a model is chosen by", minimum=0)
    ood: int = field(2000, "scenes of the other held-out objects, to report on", minimum=0)
    mixed: int = field(1000, "scenes of train and held-out objects together", minimum=0)


@dataclass
class CaptionsConfig:
    """How scenes are put into words."""

    templates: list[str] = field(["{}"], f"templates, one drawn for each caption, among {_TEMPLATE_NAMES}")
    random_order: bool = field(True, "mention the objects in random order, not in the scene's")
    kinds: dict[str, float] = field(
        {"list": 1.0}, f"kind of caption -> share, among {_KINDS}; list where a scene has none of its kind", above=0
    )
    num: int = field(
        1, "captions of a scene; the first is KEY.txt, all further ones are in KEY.json", minimum=1, maximum=64
    )
    negation: list[str] = field(
        ["absent", "not"], "what negation captions deny: an absent object (absent), a value of a present one (not)"
    )
    positives: int = field(0, "other texts that mean the same as KEY.txt, in KEY.json", minimum=0, maximum=64)
    paraphrases: list[str] = field(list(PARAPHRASES), f"how those differ from it, among {', '.join(PARAPHRASES)}")


@dataclass
class EditsConfig:
    """Hard negatives for each scene, where legal ones exist."""

    swap: int = field(1, "captions in which two objects have exchanged a value", minimum=0, maximum=64)
    replace: int = field(1, "captions in which one value of one object is another", minimum=0, maximum=64)
    add: int = field(1, "captions with one object more", minimum=0, maximum=64)
    spatial: int = field(0, "captions with a relation turned round or exchanged", minimum=0, maximum=64)
    negation: int = field(0, "captions that deny what is there, or say what is denied", minimum=0, maximum=64)
    depth2: int = field(0, "captions changed twice, by the operators asked for above", minimum=0, maximum=64)


@dataclass
class ClevrConfig:
    """What only the 3-D style has: its camera, its lights, its samples."""

    camera_jitter: float = field(1.0, "how far the camera moves; 1 as in CLEVR, 0 not at all", minimum=0, maximum=1)
    light_jitter: float = field(1.0, "how far the three lights move; 1 as in CLEVR, 0 not at all", minimum=0, maximum=1)
    samples: int = field(3, "side of the grid of samples in a pixel at an edge; 1: no smoothing", minimum=1, maximum=8)
    min_visible: float = field(
        0.002,
        "least share of the picture's pixels that shows each object; else the places are drawn again",
        minimum=0,
        maximum=0.1,
    )


@dataclass
class PictureConfig:
    """What the pictures look like."""

    size: int = field(32, "side in pixels", minimum=16, maximum=4096)
    format: Literal["jpg", "png"] = field("jpg", "jpg (4:4:4) or png (lossless)")
    quality: int = field(95, "JPEG quality", minimum=1, maximum=100)
    background: tuple[float, float] = field((0.82, 0.95), "range of the background's grey", minimum=0, maximum=1)
    object_size: float | None = field(
        None, "diameter of the largest object as a share of the side; null: by the object count", above=0, maximum=0.9
    )
    size_jitter: float = field(0.12, "objects shrink by up to this share", minimum=0, maximum=0.9)
    rotation: float = field(
        15.0, "objects turn by up to this many degrees, or their shape's limit", minimum=0, maximum=180
    )
    color_jitter: float = field(0.06, "brightness varies by up to this share", minimum=0, maximum=0.5)
    masks: bool = field(
        False, "KEY.mask.png with every sample: the number of the object that a pixel shows, 0 for none"
    )
    clevr: ClevrConfig = field(ClevrConfig, "the 3-D style's camera, lights and samples; without effect on flat")


@dataclass
class DataConfig:
    """One dataset."""

    name: str = field("flat", "name of the dataset and first half of its folder's name")
    out: str | None = field(None, "folder of the dataset; null: ROOT/NAME-HASH", identity=False)
    root: str = field("data", "parent of the dataset's folder", identity=False)
    num_workers: int = field(0, "processes; 0: one for each core", identity=False, minimum=0, maximum=1024)
    num_tasks: int = field(1, "tasks that share the shards, see data.task", identity=False, minimum=1, maximum=10**5)
    task: int | None = field(
        None,
        "make only the shards k with k mod data.num_tasks = task; null: make what is missing and finish the dataset",
        identity=False,
        minimum=0,
    )
    seed: int = field(0, "seed of the object split and the scenes", minimum=0, maximum=2**63 - 1)
    style: Literal["flat", "clevr"] = field("flat", "renderer: drawn shapes, or solids in a room")
    concepts: dict[str, int | list[str]] = field(
        {"color": 8, "shape": 8},
        "concepts among color, shape, size, pattern, orientation (clevr: material too) -> their values, or how many of "
        "the table's first",
    )
    split: Literal["uniform", "checkerboard", "block"] = field("uniform", "how coverage is spent on objects")
    coverage: float = field(0.8, "share of all objects that training may show", above=0, maximum=1)
    val_fraction: float = field(0.05, "share of all objects that is held out for val_ood", minimum=0, maximum=1)
    objects: dict[int, float] = field({2: 1.0}, "number of objects -> share of the scenes", above=0)
    sampling: Literal["random", "exhaustive"] = field(
        "random", "random scenes, or all ordered tuples of objects in turn"
    )
    collision_rate: float = field(0.0, "share of train scenes whose swap partner is drawn too", minimum=0, maximum=1)
    duplicates: bool = field(False, "whether one scene may hold an object twice")
    layout: Literal["free", "fixed", "relational"] = field(
        "free", "places: anywhere, one for each slot, or so that two objects stand in a relation that captions state"
    )
    slot_jitter: float = field(0.0, "layout fixed: places vary by up to this share of the side", minimum=0, maximum=0.5)
    relations: list[str] | None = field(None, "relations that are stated; null: all that the style can show")
    relation_margin: float = field(
        0.05, "objects nearer than this along an axis stand in no relation on it", minimum=0, maximum=0.5
    )
    num_samples: NumSamplesConfig = field(NumSamplesConfig, "scenes of each split")
    captions: CaptionsConfig = field(CaptionsConfig, "captions")
    edits: EditsConfig = field(EditsConfig, "hard negatives")
    opposites: dict[str, float] = field(
        {},
        f"opposite pictures and captions: kind among {_OPPOSITES} -> share of the scenes with such a caption that get "
        "one",
        above=0,
        maximum=1,
    )
    picture: PictureConfig = field(PictureConfig, "pictures")
    samples_per_shard: int = field(1000, "scenes of one tar file; even", minimum=2, maximum=10**6)


@dataclass
class Config:
    """The root of a data config."""

    data: DataConfig = field(DataConfig, "the dataset")


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> DataConfig:
    """The checked data config of a YAML file and `key=value`s; InputError in one line for whatever is wrong.

    Concepts given by a count come back as lists of values.
    """
    data = configs.load(Config, path, overrides).data
    data = replace(data, concepts=resolved_concepts(data))
    check(data)
    return data


def num_samples(data: DataConfig) -> dict[str, int]:
    """Split -> number of scenes, without the splits that are left out."""
    numbers = {split: getattr(data.num_samples, split) for split in SPLITS}
    return {split: number for split, number in numbers.items() if number}


def language_of(data: DataConfig) -> Language:
    """What the captions and edits of a dataset can say; nothing more, so that the vocabulary holds no idle words."""
    kinds, captions = data.captions.kinds, data.captions
    return Language(
        relations=data.style if "relation" in kinds else None,
        counting="count" in kinds,
        negation="negation" in kinds,
        synonyms=captions.positives > 0 and "synonym" in captions.paraphrases,
    )


def device(data: DataConfig) -> str:
    """Where pictures are made, which is part of what they are."""
    return "cpu" if data.style == "flat" else DEVICE


def library_versions(data: DataConfig) -> dict[str, str]:
    """Versions of what decides a picture's bytes."""
    packages = ["numpy", "pillow", "simplejpeg", *(["warp-lang"] if data.style == "clevr" else [])]
    return {package: version(package) for package in packages}


def config_hash(data: DataConfig) -> str:
    """The hash of everything that decides the dataset's bytes: config, format, generator, device, libraries."""
    return configs.short_hash(
        {
            "config": configs.identity_dict(data),
            "format_version": FORMAT_VERSION,
            "generator_version": GENERATOR_VERSION,
            "device": device(data),
            "versions": library_versions(data),
        }
    )


def dataset_folder(data: DataConfig) -> Path:
    """Where the dataset goes: `data.out`, or NAME-HASH under `data.root`."""
    return Path(data.out) if data.out else Path(data.root) / f"{data.name}-{config_hash(data)}"

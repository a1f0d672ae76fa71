"""The tree of a data config, its checks and its hash."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Literal

from data_gen import FORMAT_VERSION, GENERATOR_VERSION
from data_gen.render.tables import VALUES, default_object_size, size_scales
from dualenc import configs
from dualenc.configs import field
from dualenc.errors import InputError
from dualenc.scenes import SPLITS, TEMPLATES, check_scene_size, keys_under

_TEMPLATE_NAMES = ", ".join(map(repr, TEMPLATES))
_LEAST_PIXELS = 6.0
_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,100}")


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


@dataclass
class EditsConfig:
    """Hard negatives for each scene, where legal ones exist."""

    swap: int = field(1, "captions in which two objects have exchanged a value", minimum=0, maximum=64)
    replace: int = field(1, "captions in which one value of one object is another", minimum=0, maximum=64)
    add: int = field(1, "captions with one object more", minimum=0, maximum=64)


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
    style: Literal["flat"] = field("flat", "renderer")
    concepts: dict[str, int | list[str]] = field(
        {"color": 8, "shape": 8}, "concepts among color, shape, size -> their values, or how many of the table's first"
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
    num_samples: NumSamplesConfig = field(NumSamplesConfig, "scenes of each split")
    captions: CaptionsConfig = field(CaptionsConfig, "captions")
    edits: EditsConfig = field(EditsConfig, "hard negatives")
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
    data = replace(data, concepts=_resolved_concepts(data))
    _check_names(data)
    _check_task(data)
    _check_picture(data)
    return data


def values_of(data: DataConfig) -> dict[str, list[str]]:
    """The resolved concepts: name -> list of values."""
    return {name: list(values) for name, values in data.concepts.items() if not isinstance(values, int)}


def num_samples(data: DataConfig) -> dict[str, int]:
    """Split -> number of scenes, without the splits that are left out."""
    numbers = {split: getattr(data.num_samples, split) for split in SPLITS}
    return {split: number for split, number in numbers.items() if number}


def library_versions() -> dict[str, str]:
    """Versions of what decides a picture's bytes."""
    return {package: version(package) for package in ("numpy", "pillow", "simplejpeg")}


def config_hash(data: DataConfig) -> str:
    """The hash of everything that decides the dataset's bytes: config, format, generator, device, libraries."""
    return configs.short_hash(
        {
            "config": configs.identity_dict(data),
            "format_version": FORMAT_VERSION,
            "generator_version": GENERATOR_VERSION,
            "device": "cpu",
            "versions": library_versions(),
        }
    )


def dataset_folder(data: DataConfig) -> Path:
    """Where the dataset goes: `data.out`, or NAME-HASH under `data.root`."""
    return Path(data.out) if data.out else Path(data.root) / f"{data.name}-{config_hash(data)}"


def _resolved_concepts(data: DataConfig) -> dict[str, int | list[str]]:
    if not data.concepts:
        raise InputError(f"data.concepts: is empty; give at least one of {', '.join(VALUES[data.style])}")
    resolved: dict[str, int | list[str]] = {}
    for name, wanted in data.concepts.items():
        key = f"data.concepts.{name}"
        if name not in VALUES[data.style]:
            raise InputError(f"{key}: the {data.style} style has no such concept; use {', '.join(VALUES[data.style])}")
        known = VALUES[data.style][name]
        if isinstance(wanted, int):
            if not 1 <= wanted <= len(known):
                raise InputError(
                    f"{key}: {wanted} is out of range; the {data.style} style has 1 to {len(known)} values"
                )
            wanted = known[:wanted]
        for value in wanted:
            if value not in known:
                close = difflib.get_close_matches(value, known, n=1)
                fix = f"did you mean {close[0]}" if close else f"use {', '.join(known)}"
                raise InputError(f"{key}: the {data.style} style cannot draw {value!r}; {fix}")
        if len(set(wanted)) != len(wanted) or not wanted:
            raise InputError(f"{key}: {wanted} must be a list of different values; remove the repeated ones")
        resolved[name] = list(wanted)
    return resolved


def _check_names(data: DataConfig) -> None:
    if not _NAME.fullmatch(data.name):
        raise InputError(
            f"data.name: {data.name!r} is no folder name; use 1 to 100 of the characters A-Z a-z 0-9 . - _, the first "
            "one not a dot"
        )
    if not data.captions.templates:
        raise InputError("data.captions.templates: is empty; give at least one template, e.g. ['{}']")
    for template in data.captions.templates:
        if template not in TEMPLATES:
            raise InputError(
                f"data.captions.templates: {template!r} is no template of the grammar; use {_TEMPLATE_NAMES}"
            )
    if not data.objects:
        raise InputError("data.objects: is empty; give number of objects -> share, e.g. {2: 1.0}")
    for count in data.objects:
        if count < 1:
            raise InputError(f"data.objects: {count} objects in a scene are too few; use at least 1")
        with keys_under("data", {}):
            check_scene_size(count)
    if max(data.objects) < 2 and data.num_samples.mixed:
        raise InputError("data.num_samples.mixed: scenes of one object cannot mix train and ood objects; set it to 0")
    if data.samples_per_shard % 2:
        raise InputError(
            f"data.samples_per_shard: {data.samples_per_shard} would part swap partners; give an even number"
        )


def _check_task(data: DataConfig) -> None:
    if data.task is not None and data.task >= data.num_tasks:
        raise InputError(
            f"data.task: {data.task} is out of range; the tasks of data.num_tasks={data.num_tasks} are 0 to "
            f"{data.num_tasks - 1}"
        )


def _check_picture(data: DataConfig) -> None:
    picture = data.picture
    if picture.background[0] > picture.background[1]:
        raise InputError(f"data.picture.background: {list(picture.background)} is no range; give [low, high]")
    scales = sorted(size_scales(values_of(data).get("size", ["large"])))
    for smaller, larger in pairwise(scales):
        if larger * (1 - picture.size_jitter) <= smaller:
            raise InputError(
                f"data.picture.size_jitter: {picture.size_jitter} makes two sizes look the same; "
                f"give less than {1 - smaller / larger:.2g}"
            )
    diameter = picture.object_size or default_object_size(max(data.objects))
    least = diameter * scales[0] * (1 - picture.size_jitter) * picture.size
    if least < _LEAST_PIXELS:
        raise InputError(
            f"data.picture.size: {picture.size} makes the smallest objects {least:.1f} pixels wide, too few to tell "
            f"shapes apart; give at least {int(picture.size * _LEAST_PIXELS / least) + 1}, or fewer or larger objects"
        )

"""What is refused of a data config, and what is said to have no effect: every message names the key and the fix."""

import difflib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING

from data_gen.render.tables import VALUES, check_orientations, default_object_size, size_scales
from dualenc.errors import InputError
from dualenc.scenes import (
    CAPTION_KINDS,
    CAPTION_OPERATORS,
    NEGATIONS,
    PARAPHRASES,
    TEMPLATES,
    check_scene_size,
    keys_under,
    relation_numbers,
)

if TYPE_CHECKING:
    from data_gen.config import DataConfig

CAPTION_OF_OPPOSITE = {"binding": "list", "spatial": "relation", "negation": "negation"}

_TEMPLATE_NAMES = ", ".join(map(repr, TEMPLATES))
_LEAST_PIXELS = 6.0
_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,100}")


def check(data: "DataConfig") -> None:
    """InputError for whatever is wrong with a config whose concepts are resolved; notes on what has no effect."""
    _check_names(data)
    _check_objects(data)
    _check_task(data)
    _check_captions(data)
    _check_edits(data)
    _check_opposites(data)
    _check_layout(data)
    _check_picture(data)
    default = type(data)()
    for key, why in _idle(data):
        if attrgetter(key)(data) != attrgetter(key)(default):
            print(f"note: data.{key} has no effect {why}", file=sys.stderr)


def resolved_concepts(data: "DataConfig") -> dict[str, int | list[str]]:
    """The concepts with their lists of values, where counts stood too."""
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


def _check_names(data: "DataConfig") -> None:
    if not _NAME.fullmatch(data.name):
        raise InputError(
            f"data.name: {data.name!r} is no folder name; use 1 to 100 of the characters A-Z a-z 0-9 . - _, the first "
            "one not a dot"
        )


def _check_captions(data: "DataConfig") -> None:
    captions = data.captions
    if not captions.templates:
        raise InputError("data.captions.templates: is empty; give at least one template, e.g. ['{}']")
    for template in captions.templates:
        if template not in TEMPLATES:
            raise InputError(
                f"data.captions.templates: {template!r} is no template of the grammar; use {_TEMPLATE_NAMES}"
            )
    _check_words("data.captions.kinds", captions.kinds, CAPTION_KINDS)
    if not captions.kinds:
        raise InputError("data.captions.kinds: is empty; give kind -> share, e.g. {list: 1.0}")
    _check_words("data.captions.negation", captions.negation, NEGATIONS)
    if "negation" in captions.kinds and not captions.negation:
        raise InputError(f"data.captions.negation: is empty; give at least one of {', '.join(NEGATIONS)}")
    _check_words("data.captions.paraphrases", captions.paraphrases, PARAPHRASES)
    if captions.positives and not captions.paraphrases:
        raise InputError(f"data.captions.paraphrases: is empty; give at least one of {', '.join(PARAPHRASES)}")


def _check_words(key: str, words: Iterable[str], known: Sequence[str]) -> None:
    for word in words:
        if word not in known:
            close = difflib.get_close_matches(word, known, n=1)
            fix = f"did you mean {close[0]}" if close else f"use {', '.join(known)}"
            raise InputError(f"{key}: {word!r} is unknown; {fix}")


def _check_edits(data: "DataConfig") -> None:
    edits = data.edits
    if edits.spatial and "relation" not in data.captions.kinds:
        raise InputError("data.edits.spatial: no caption states a relation; add relation to data.captions.kinds")
    if edits.negation and "negation" not in data.captions.kinds:
        raise InputError("data.edits.negation: no caption denies anything; add negation to data.captions.kinds")
    if edits.depth2 and not any(getattr(edits, name) for name in CAPTION_OPERATORS):
        raise InputError("data.edits.depth2: no operator is asked for; set data.edits.swap=1, for example")


def _check_opposites(data: "DataConfig") -> None:
    _check_words("data.opposites", data.opposites, tuple(CAPTION_OF_OPPOSITE))
    for kind in data.opposites:
        caption = CAPTION_OF_OPPOSITE[kind]
        if caption not in data.captions.kinds:
            raise InputError(
                f"data.opposites.{kind}: is made of {caption} captions; add {caption} to data.captions.kinds"
            )
        if kind == "negation" and "absent" not in data.captions.negation:
            raise InputError(
                "data.opposites.negation: exchanges what is present and what is absent; add absent to "
                "data.captions.negation"
            )
        if kind != "negation" and max(data.objects) < 2:
            raise InputError(f"data.opposites.{kind}: needs scenes of two objects; add 2 to data.objects")


def _check_layout(data: "DataConfig") -> None:
    with keys_under("data", {}):
        relation_numbers(data.style, None if data.relations is None else tuple(data.relations))
    if data.layout == "relational" and max(data.objects) < 2:
        raise InputError("data.layout: relational needs scenes of two objects; add 2 to data.objects")


def _check_objects(data: "DataConfig") -> None:
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


def _check_task(data: "DataConfig") -> None:
    if data.task is not None and data.task >= data.num_tasks:
        raise InputError(
            f"data.task: {data.task} is out of range; the tasks of data.num_tasks={data.num_tasks} are 0 to "
            f"{data.num_tasks - 1}"
        )


def _check_picture(data: "DataConfig") -> None:
    picture = data.picture
    with keys_under("data", {}):
        check_orientations(data.style, values_of(data))
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


def _idle(data: "DataConfig") -> Iterator[tuple[str, str]]:
    """The keys that change no sample of this dataset, whatever their values, and why."""
    captions, picture = data.captions, data.picture
    stated = "relation" in captions.kinds or data.layout == "relational"
    unstated = "without relation in data.captions.kinds or data.layout=relational"
    if data.layout != "fixed":
        yield "slot_jitter", "without data.layout=fixed"
    if data.sampling == "exhaustive":
        yield "duplicates", "with data.sampling=exhaustive"
    if not stated:
        yield "relations", unstated
    if not stated and data.style == "flat":  # in the other style KEY.json lists the relations all the same
        yield "relation_margin", unstated
    if "negation" not in captions.kinds:
        yield "captions.negation", "without negation in data.captions.kinds"
    if not captions.positives:
        yield "captions.paraphrases", "without data.captions.positives"
    elif not any(_reworded(operator, data) for operator in captions.paraphrases):
        yield "captions.paraphrases", "on any kind in data.captions.kinds; add order, for example"
    if data.style == "flat":
        yield from ((f"picture.clevr.{item.name}", "with data.style=flat") for item in fields(picture.clevr))
    else:
        yield "picture.background", f"with data.style={data.style}"
    if picture.format == "png":
        yield "picture.quality", "with data.picture.format=png"


def _reworded(operator: str, data: "DataConfig") -> bool:
    """Whether a caption of some kind asked for can have a paraphrase by this operator."""
    kinds = data.captions.kinds
    if operator == "converse":
        return "relation" in kinds
    return operator != "connective" or ("negation" in kinds and "absent" in data.captions.negation)


def values_of(data: "DataConfig") -> dict[str, list[str]]:
    """The resolved concepts: name -> list of values."""
    return {name: list(values) for name, values in data.concepts.items() if not isinstance(values, int)}

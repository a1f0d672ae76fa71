"""One sample against what a sample promises: its members by themselves, everything but the truth of its texts.

Every check is a generator of what is wrong; a member that cannot be read at all raises, and the caller names it. Used
by `data_gen.check_shard`.
"""

import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import simplejpeg
from PIL import Image

from dualenc.errors import InputError
from dualenc.scenes import OOD, TEMPLATES, TRAIN, VAL_OOD, ConceptSpace, Grammar, Language, ObjectSplit, words

ALLOWED = {"train": {TRAIN}, "val": {TRAIN}, "val_ood": {VAL_OOD}, "ood": {OOD}, "mixed": {TRAIN, OOD}}


@dataclass(frozen=True)
class Rules:
    """What dataset.json says of every sample."""

    space: ConceptSpace
    split: ObjectSplit
    grammar: Grammar
    vocabulary: frozenset[str]
    config: Mapping[str, Any]
    image_size: int
    image_format: str
    strides: list[int]

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> "Rules":
        """From the content of dataset.json; raises whatever a damaged one makes Python raise."""
        space = ConceptSpace.from_dict(description["concepts"])
        ids = {name: np.asarray(description["objects"][name], dtype=np.int64) for name in ("train", "val_ood", "ood")}
        return cls(
            space=space,
            split=ObjectSplit(space, **ids, kind=description["split_kind"]),
            grammar=Grammar(space, language_told(description)),
            vocabulary=frozenset(description["vocabulary"]),
            config=description["config"],
            image_size=int(description["picture"]["size"]),
            image_format=description["picture"]["format"],
            strides=space.strides.tolist(),
        )

    def id_of(self, values: Sequence[int]) -> int:
        """The object with these values of each concept, as `ConceptSpace.encode`; -1 where there is none."""
        sizes = self.space.sizes
        if len(values) != len(sizes) or not all(0 <= v < size for v, size in zip(values, sizes)):
            return -1
        return sum(v * stride for v, stride in zip(values, self.strides))


def language_told(description: Mapping[str, Any]) -> Language:
    """The language of a dataset; datasets of an earlier version do not name it and list objects only."""
    return Language.from_dict(description["language"]) if "language" in description else Language()


def check_picture(data: bytes, ending: str, rules: Rules) -> Iterator[str]:
    """Problems of the picture of a sample; it is decoded as a whole."""
    if ending != rules.image_format:
        yield f"is a {ending}, dataset.json says {rules.image_format}"
    shape = decode(data, ending).shape
    if shape != (rules.image_size, rules.image_size, 3):
        yield f"decodes to {'x'.join(map(str, shape))}, dataset.json says {rules.image_size} pixels a side"


def decode(data: bytes, ending: str) -> np.ndarray:
    """uint8 [h, w, 3] of a JPEG or PNG; ValueError, OSError or SyntaxError where the bytes are damaged."""
    if ending == "jpg":
        return simplejpeg.decode_jpeg(data)
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        image.load()
        return np.asarray(image)


def check_mask(data: bytes, objects: Sequence[Mapping[str, Any]], side: int) -> Iterator[str]:
    """Problems of KEY.mask.png: one byte a pixel, the pixels and boxes of the objects as KEY.json has them."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        image.load()
        ids = np.asarray(image)
    if ids.shape != (side, side) or ids.dtype != np.uint8:
        yield f"decodes to {'x'.join(map(str, ids.shape))} {ids.dtype}, not one byte for each of {side} x {side} pixels"
        return
    if ids.max() > len(objects):
        yield f"shows object {ids.max()} of {len(objects)}"
    for number, entry in enumerate(objects, start=1):
        rows, columns = np.nonzero(ids == number)
        found = (
            [int(f(axis)) for f, axis in zip((np.min, np.min, np.max, np.max), 2 * (columns, rows))]
            if len(rows)
            else []
        )
        box = [*found[:2], *(edge + 1 for edge in found[2:])]
        if len(rows) != entry["visible_pixels"] or box != entry["box"]:
            yield f"object {number - 1} has {len(rows)} pixels in {box}, KEY.json says otherwise"


def read_record(data: bytes) -> dict[str, Any]:
    """A JSON object. ValueError where the bytes are something else."""
    record = json.loads(data.decode(), parse_constant=_no_constant)
    if not isinstance(record, dict):
        raise ValueError("is no JSON object")
    return record


def check_objects(objects: Sequence[Mapping[str, Any]], rules: Rules) -> Iterator[str]:
    """Problems of a list of drawn objects: id, values and names agree, boxes and pixels lie in the picture."""
    for number, entry in enumerate(objects):
        what = f"object {number}"
        values = entry["values"]
        if not isinstance(entry["id"], int) or rules.id_of(values) != entry["id"]:
            yield f"{what}: its id {entry['id']} is not that of its values {values}"
        named = {name: listed[v] for name, listed, v in zip(rules.space.names, rules.space.values, values)}
        if entry["concepts"] != named:
            yield f"{what}: its concepts {entry['concepts']} are not its values {named}"
        if len(entry["position"]) != 2 or not all(0 <= x <= 1 for x in entry["position"]):
            yield f"{what}: its position {entry['position']} is outside the picture"
        yield from (f"{what}: {problem}" for problem in _check_extent(entry, rules.image_size))


def _check_extent(entry: Mapping[str, Any], side: int) -> Iterator[str]:
    x0, y0, x1, y1 = box = entry["box"]
    if not all(isinstance(edge, int) for edge in box) or not (0 <= x0 < x1 <= side and 0 <= y0 < y1 <= side):
        yield f"its box {box} is no box inside the picture"
        return
    pixels = entry["visible_pixels"]
    if not isinstance(pixels, int) or not 0 < pixels <= (x1 - x0) * (y1 - y0):
        yield f"its {pixels} visible pixels do not fit its box {box}"
    if not 0 < entry["size"] <= side * math.sqrt(2):
        yield f"its size {entry['size']} does not fit the picture"


def check_shown(ids: Sequence[int], split: str, rules: Rules) -> Iterator[str]:
    """Problems of which objects a scene of `split` shows: law 4, how many, how often."""
    status = {int(rules.split.statuses[i]) for i in ids}
    if not status <= ALLOWED[split]:
        yield f"shows an object that {split} may not show"
    elif split == "mixed" and status != ALLOWED[split]:
        yield "shows no object of a kind that mixed must show"
    if str(len(ids)) not in rules.config["objects"]:
        yield f"shows {len(ids)} objects, the config has {', '.join(rules.config['objects'])}"
    repeats = rules.config["duplicates"] or rules.config["sampling"] == "exhaustive"
    if len(set(ids)) < len(ids) and not repeats:
        yield "shows an object twice"


def check_opposite(
    objects: Sequence[Mapping[str, Any]], opposite: Mapping[str, Any], split: str, rules: Rules
) -> Iterator[str]:
    """Problems of an opposite scene: law 4, and that it differs from the scene as its kind says."""
    others = opposite["objects"]
    held_out = [entry["id"] for entry in others if rules.split.statuses[entry["id"]] != TRAIN]
    if split == "train" and held_out:
        yield f"shows the held-out object {held_out[0]}"
    if len(others) != len(objects):
        yield f"has {len(others)} objects, the scene has {len(objects)}"
        return
    new = [i for i, (a, b) in enumerate(zip(objects, others)) if a["id"] != b["id"]]
    moved = [i for i, (a, b) in enumerate(zip(objects, others)) if a["position"] != b["position"]]
    number = {"binding": (2, 0), "spatial": (0, 2), "negation": (1, 0)}.get(opposite["kind"])
    if number != (len(new), len(moved)):
        yield f"is no {opposite['kind']} opposite: {len(new)} other objects, {len(moved)} at other places"
    elif opposite["kind"] == "spatial" and [objects[i]["position"] for i in moved] != [
        others[i]["position"] for i in moved[::-1]
    ]:
        yield "two objects have not exchanged their places"
    elif opposite["kind"] == "binding" and not is_exchange(objects, others):
        yield "two objects have not exchanged one value"


def is_exchange(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two objects of one scene have exchanged the value of one concept in the other."""
    mine, other = (Counter(tuple(entry["values"]) for entry in side) for side in (ours, theirs))
    before, after = sorted((mine - other).elements()), sorted((other - mine).elements())
    if len(before) != 2 or len(after) != 2:
        return False
    a, b = before
    return any(
        [*a[:k], b[k], *a[k + 1 :]] == list(x) and [*b[:k], a[k], *b[k + 1 :]] == list(y)
        for x, y in (after, after[::-1])
        for k in range(len(a))
    )


@dataclass(frozen=True)
class Said:
    """What a text says: its form as rows [1 + C], and the ids of the objects that it names in full, absent ones too."""

    form: list[list[int]]
    named: frozenset[int]


def parse(text: str, form: Any, rules: Rules) -> Said:
    """Reads a text. InputError where its words are not in the vocabulary, no sentence, or not what the stored form
    says."""
    unknown = [word for word in words(text) if word not in rules.vocabulary]
    if unknown:
        raise InputError(f"the word {unknown[0]!r} is not in the vocabulary of dataset.json")
    parsed = rules.grammar.parse(text).tolist()
    if parsed != form:
        raise InputError(f"the stored form is not what {text!r} says")
    full = [values for _, *values in parsed if min(values) >= 0]
    return Said(parsed, frozenset(rules.id_of(values) for values in full))


def check_named(said: Said, split: str, rules: Rules) -> Iterator[str]:
    """Law 4 for texts: what `train` names in full is a train object, and what it describes fits one."""
    if split != "train":
        return
    held_out = [i for i in sorted(said.named) if rules.split.statuses[i] != TRAIN]
    if held_out:
        yield f"names the held-out object {held_out[0]}"
    elif not all(rules.split.trains(values) for _, *values in said.form):
        yield "describes what only held-out objects are"


def check_caption(caption: Mapping[str, Any], text: str, said: Said, rules: Rules) -> Iterator[str]:
    """Problems of the description of a caption in KEY.json."""
    if caption["logical"] != rules.grammar.to_logical(np.array(said.form)):
        yield f"its logical form {caption['logical']} is not what its form says"
    template = caption["template"]
    front = str(template).partition("{}")[0]
    if template not in TEMPLATES or not text.startswith((front, front.replace("there is", "there are"))):
        yield f"the caption does not follow its template {template!r}"


def check_spans(spans: Sequence[Sequence[int]], text: str, caption: str) -> Iterator[str]:
    """Problems of the word spans [start, end) that mark what an edit changed; none where it only left words out."""
    edges = [edge for span in spans for edge in span]
    in_order = all(len(span) == 2 and span[0] < span[1] for span in spans) and edges == sorted(edges)
    shorter = len(words(text)) < len(words(caption))
    if not in_order or (edges and (edges[0] < 0 or edges[-1] > len(words(text)))) or not (spans or shorter):
        yield f"its spans {spans} mark no words of its text"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")

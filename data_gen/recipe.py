"""What a config means: the concept space, the split, and everything that turns scene numbers into samples.

A `Recipe` is built from the config alone, the same in every process, and `samples(split, start, stop)` is a pure
function of it.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from data_gen import GENERATOR_VERSION, config
from data_gen.checks import CAPTION_OF_OPPOSITE, values_of
from data_gen.config import DataConfig
from data_gen.members import MEMBERS
from data_gen.render.drawn import Drawn
from data_gen.render.styles import make_renderer
from data_gen.tally import Tally
from data_gen.wording import Opposites, Said, Wording
from dualenc.errors import InputError
from dualenc.scenes import ConceptSpace, Grammar, ObjectSplit, Scenes, SceneSampler, keys_under, relation_table

_PREFLIGHT_SCENES = 64
_ATTEMPTS = 200  # placings of one scene, before it is called too crowded
_KEYS = {"split kind": "data.split"}  # what the formal layer calls otherwise than the config


@dataclass(frozen=True)
class Sample:
    """The members of one sample, as bytes; those that may be None are left out where they do not exist."""

    key: str
    image_format: str
    image: bytes
    text: bytes
    record: bytes
    negatives: bytes | None
    opposite_image: bytes | None = None
    opposite_text: bytes | None = None
    mask: bytes | None = None

    def members(self) -> Iterator[tuple[str, str, bytes | None]]:
        """Name in `data_gen.members.MEMBERS`, ending of the file and content, in the order of the tar."""
        contents = (
            (self.image_format, self.image),
            ("txt", self.text),
            ("json", self.record),
            ("neg.txt", self.negatives),
            (f"opposite.{self.image_format}", self.opposite_image),
            ("opposite.txt", self.opposite_text),
            ("mask.png", self.mask),
        )
        yield from ((name, *content) for name, content in zip(MEMBERS, contents))


@dataclass(frozen=True)
class _Picture:
    """An encoded picture, what it shows of every object, and how often its scene was placed before."""

    image: bytes
    drawn: list[Drawn]
    attempt: int


@dataclass(frozen=True)
class _Opposite:
    """The opposite of one scene: its encoded picture, its caption, and what KEY.json says of it."""

    image: bytes
    text: str
    record: dict[str, Any]


@dataclass
class _Drawing:
    """Scenes with what is said of them, their opposites (None where none are asked for), and pictures by row."""

    scenes: Scenes
    said: Said
    opposites: Opposites | None
    pictures: dict[int, _Picture] = field(default_factory=dict)
    opposite_pictures: dict[int, _Picture] = field(default_factory=dict)


def object_split(data: DataConfig) -> ObjectSplit:
    """Which objects are held out. InputError, naming the key, where there would be too few on a side."""
    with keys_under("data", _KEYS):
        return ObjectSplit.make(
            data.split,
            ConceptSpace.named(values_of(data)),
            coverage=data.coverage,
            seed=data.seed,
            val_fraction=data.val_fraction,
            max_objects=max(data.objects),
        )


class Recipe:
    """Everything that a data config decides. Raises InputError, naming the key, where the parts do not fit."""

    def __init__(self, data: DataConfig) -> None:
        self.data = data
        self.split = object_split(data)
        self.space = self.split.space
        with keys_under("data", _KEYS):
            self.renderer = make_renderer(
                data.style, self.space, data.picture, max_objects=max(data.objects), seed=data.seed
            )
            self.sampler = SceneSampler(
                self.split,
                seed=data.seed,
                counts=data.objects,
                sampling=data.sampling,
                collision_rate=data.collision_rate,
                duplicates=data.duplicates,
                layout=data.layout,
                min_distance=self.renderer.min_distance,
                margin=self.renderer.margin,
                relation_margin=data.relation_margin,
                style=data.style,
                relations=data.relations,
                slot_jitter=data.slot_jitter,
            )
            self.wording = Wording(data, self.split)

    @property
    def grammar(self) -> Grammar:
        """The language of all texts."""
        return self.wording.grammar

    def check(self) -> None:
        """Draws the first and last scenes of every split, so that what cannot be drawn is known before writing."""
        for split, number in config.num_samples(self.data).items():
            with keys_under("data", _KEYS):
                self.sampler.draw(split, 0, min(number, _PREFLIGHT_SCENES))
                self.sampler.draw(split, number - 1, number)

    def scenes(self, split: str, start: int, stop: int) -> Scenes:
        """Scenes start..stop-1 of a split."""
        return self.sampler.draw(split, start, stop)

    def partners(self, split: str, start: int, stop: int) -> list[int | None]:
        """For scenes start..stop-1 the number of the scene that is the swap partner, if that is drawn too."""
        if split != "train" or not self.data.collision_rate:
            return [None] * (stop - start)
        number = self.data.num_samples.train
        paired = self.sampler.partners(start, stop).tolist()
        return [i ^ 1 if has and i ^ 1 < number else None for i, has in zip(range(start, stop), paired)]

    def samples(self, split: str, start: int, stop: int, tally: Tally) -> Iterator[Sample]:
        """Samples start..stop-1 of a split in order; what they hold is counted in `tally`."""
        drawn = self._draw(split, start, stop)
        scenes = drawn.scenes
        partners = self.partners(split, start, stop)
        relations = relation_table(scenes, self.data.style) if self._tells_relations else [[]] * len(scenes)
        tally.count(scenes, partners)
        for i, worded in enumerate(self.wording.write(scenes, drawn.said, split, start, tally)):
            picture, opposite = drawn.pictures[i], self._opposite(drawn, i)
            tally.moved += picture.attempt > 0
            record = {
                "index": start + i,
                "split": split,
                "objects": self._objects(scenes, i, picture.drawn),
                "relations": relations[i],
                "caption": worded.caption,
                **({"captions": worded.captions} if self.data.captions.num > 1 else {}),
                **({"positives": worded.positives} if self.data.captions.positives else {}),
                **({"opposite": opposite.record if opposite else None} if self.data.opposites else {}),
                "partner": partners[i],
                **({"attempt": picture.attempt} if self.data.style == "clevr" else {}),
                "provenance": {"seed": self.data.seed, "generator": GENERATOR_VERSION},
            }
            if opposite:
                tally.opposites[opposite.record["kind"]] += 1
            yield Sample(
                key=f"{split}-{start + i:08d}",
                image_format=self.data.picture.format,
                image=picture.image,
                text=worded.text.encode(),
                record=json_line(record).encode(),
                negatives="".join(map(json_line, worded.negatives)).encode() or None,
                opposite_image=opposite.image if opposite else None,
                opposite_text=opposite.text.encode() if opposite else None,
                mask=self._mask(picture.drawn) if self.data.picture.masks else None,
            )

    @property
    def _tells_relations(self) -> bool:
        """Whether KEY.json lists the relations between the objects."""
        return self.data.style == "clevr" or self.data.layout == "relational" or bool(self.grammar.language.relations)

    def _draw(self, split: str, start: int, stop: int) -> "_Drawing":
        """Scenes start..stop-1, what is said of them, their opposites and all pictures. A scene is placed again where
        its picture, or its opposite's, cuts or hides an object, so that its places are a function of its number and of
        how often that was."""
        scenes = self.scenes(split, start, stop)
        stated = self.sampler.stated(split, scenes.objects, np.arange(start, stop))
        drawing = _Drawing(scenes, Said([]), None)
        rows = np.arange(len(scenes))
        for attempt in range(_ATTEMPTS):
            said = self.wording.say(scenes, split, start, stated)
            opposites = self.wording.oppose(scenes, said, split, start) if self.data.opposites else None
            drawing.scenes, drawing.said, drawing.opposites = scenes, said, opposites
            self._draw_pictures(drawing, rows, split, start, attempt)
            rows = np.array([i for i in rows.tolist() if i not in drawing.pictures], dtype=np.int64)
            if not len(rows):
                return drawing
            positions, attempts = scenes.positions.copy(), np.full(len(rows), attempt + 1)
            positions[rows] = self.sampler.places(split, scenes.objects[rows], start + rows, attempts)
            scenes = replace(scenes, positions=positions)
        raise InputError(
            f"data.objects: in {_ATTEMPTS} placings of scene {start + int(rows[0])} of {split} no picture shows all of "
            f"its {int(scenes.counts[rows[0]])} objects whole; use fewer or smaller objects, or a smaller "
            "data.picture.clevr.min_visible"
        )

    def _draw_pictures(self, drawing: "_Drawing", rows: np.ndarray, split: str, start: int, attempt: int) -> None:
        """Adds the pictures of scenes `rows`, and their opposites', where both show every object."""
        opposite = {}
        if drawing.opposites is not None:
            there = rows[drawing.opposites.exists[rows]]
            opposite = dict(self._pictures(drawing.opposites.scenes, there, split, start, attempt))
            rows = np.array([i for i in rows if i in opposite or not drawing.opposites.exists[i]], dtype=np.int64)
        for i, picture in self._pictures(drawing.scenes, rows, split, start, attempt):
            drawing.pictures[i] = picture
            if i in opposite:
                drawing.opposite_pictures[i] = opposite[i]

    def _pictures(
        self, scenes: Scenes, rows: np.ndarray, split: str, start: int, attempt: int
    ) -> Iterator[tuple[int, "_Picture"]]:
        """The encoded pictures of scenes `rows` that show every object."""
        if len(rows):
            for i, (pixels, drawn) in zip(rows.tolist(), self.renderer.draw(scenes[rows], split, start + rows)):
                if self.renderer.shows(drawn):
                    yield i, _Picture(self._encode(pixels), drawn, attempt)

    def _opposite(self, drawing: "_Drawing", i: int) -> "_Opposite | None":
        opposites = drawing.opposites
        if opposites is None or (kind := opposites.kinds[i]) is None:
            return None
        sentence, picture = opposites.sentences[i], drawing.opposite_pictures[i]
        assert sentence is not None
        text, caption = self.wording.describe(CAPTION_OF_OPPOSITE[kind], sentence)
        objects = self._objects(opposites.scenes, i, picture.drawn)
        return _Opposite(picture.image, text, {"kind": kind, "objects": objects, "caption": caption})

    def _objects(self, scenes: Scenes, i: int, drawn: list[Drawn]) -> list[dict[str, Any]]:
        """The objects of scene i as KEY.json lists them."""
        rows = (scenes.objects[i].tolist(), scenes.values[i].tolist(), scenes.positions[i].tolist(), drawn)
        return [self._object(*row) for row in zip(*rows)]

    def _mask(self, drawn: list[Drawn]) -> bytes:
        """A PNG of one byte a pixel: the number of the object that it shows, from 1, and 0 where there is none."""
        ids = np.zeros((self.data.picture.size, self.data.picture.size), dtype=np.uint8)
        for number, one in enumerate(drawn, start=1):
            x0, y0, x1, y1 = one.box
            ids[y0:y1, x0:x1][one.mask] = number
        return _png(ids)

    def _object(self, object_id: int, values: list[int], position: list[float], drawn: Drawn) -> dict[str, Any]:
        return {
            "id": object_id,
            "concepts": {name: names[v] for name, names, v in zip(self.space.names, self.space.values, values)},
            "values": values,
            "position": [round(position[0], 5), round(position[1], 5)],
            "size": round(drawn.size, 2),
            "visible_pixels": drawn.visible_pixels,
            "box": drawn.box,
        }

    def _encode(self, pixels: np.ndarray) -> bytes:
        picture = self.data.picture
        if picture.format == "jpg":
            return simplejpeg.encode_jpeg(pixels, quality=picture.quality, colorsubsampling="444")
        return _png(pixels)


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def json_line(value: Any) -> str:
    """Compact JSON with a line end; NaN is refused."""
    return _JSON.encode(value) + "\n"


_JSON = json.JSONEncoder(separators=(",", ":"), allow_nan=False)

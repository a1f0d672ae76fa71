"""What a config means: the concept space, the split, and everything that turns scene numbers into samples.

A `Recipe` is built from the config alone, the same in every process, and `samples(split, start, stop)` is a pure
function of it.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from data_gen import GENERATOR_VERSION, config
from data_gen.config import DataConfig
from data_gen.members import MEMBERS
from data_gen.render.flat import Drawn, FlatRenderer
from data_gen.tally import Tally
from data_gen.wording import Wording
from dualenc.scenes import ConceptSpace, ObjectSplit, Scenes, SceneSampler, keys_under

_PREFLIGHT_SCENES = 64
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


class Recipe:
    """Everything that a data config decides. Raises InputError, naming the key, where the parts do not fit."""

    def __init__(self, data: DataConfig) -> None:
        self.data = data
        with keys_under("data", _KEYS):
            self.space = ConceptSpace.named(config.values_of(data))
            self.split = ObjectSplit.make(
                data.split,
                self.space,
                coverage=data.coverage,
                seed=data.seed,
                val_fraction=data.val_fraction,
                max_objects=max(data.objects),
            )
            self.renderer = FlatRenderer(self.space, data.picture, max_objects=max(data.objects), seed=data.seed)
            self.sampler = SceneSampler(
                self.split,
                seed=data.seed,
                counts=data.objects,
                sampling=data.sampling,
                collision_rate=data.collision_rate,
                duplicates=data.duplicates,
                min_distance=self.renderer.min_distance,
                margin=self.renderer.margin,
            )
            self.wording = Wording(data, self.split)

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
        scenes = self.scenes(split, start, stop)
        partners = self.partners(split, start, stop)
        wordings = self.wording.write(scenes, split, start, tally.edits, tally.edited)
        tally.count(scenes, partners)
        pictures = self.renderer.draw(scenes, split, start)
        values, positions = scenes.values.tolist(), scenes.positions.tolist()
        ids = scenes.objects.tolist()
        for i, ((pixels, drawn), worded) in enumerate(zip(pictures, wordings)):
            record = {
                "index": start + i,
                "split": split,
                "objects": [self._object(*row) for row in zip(ids[i], values[i], positions[i], drawn)],
                "relations": [],
                "caption": worded.caption,
                "partner": partners[i],
                "provenance": {"seed": self.data.seed, "generator": GENERATOR_VERSION},
            }
            negatives = "".join(map(json_line, worded.negatives)).encode() or None
            key = f"{split}-{start + i:08d}"
            yield Sample(
                key=key,
                image_format=self.data.picture.format,
                image=self._encode(pixels),
                text=worded.text.encode(),
                record=json_line(record).encode(),
                negatives=negatives,
            )

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
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()


def json_line(value: Any) -> str:
    """Compact JSON with a line end; NaN is refused."""
    return _JSON.encode(value) + "\n"


_JSON = json.JSONEncoder(separators=(",", ":"), allow_nan=False)

"""How well the values of a concept can be told apart: a nearest-class-mean classifier on crops of single objects.

A crop is the square around one object, a little wider than its diameter, brought to CROP pixels. The classifier knows
the mean crop of each value from some crops and is asked about others. Two conditions: `fixed`, where pose, size and
place are the same but for a fraction of a pixel, and brightness, lights and background vary; and `free`, where places,
turns (each shape's full range), sizes and cameras vary too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from data_gen.config import ClevrConfig, PictureConfig
from data_gen.render.drawn import Drawn
from data_gen.render.styles import make_renderer
from data_gen.render.tables import VALUES
from dualenc.scenes import ConceptSpace, Scenes, uniform

CROP = 24
CONDITIONS = ("fixed", "free")

_OBJECT_SIZE = 0.44
_WIDER = 1.1  # side of the square that is cropped, in diameters
_PICTURE_SIZE = {"flat": 64, "clevr": 96}
_PLAIN = {"flat": {"color": "gray", "shape": "square"}, "clevr": {"color": "gray", "shape": "cube"}}


@dataclass(frozen=True)
class Separation:
    """Accuracies of telling two values apart: float64 [V, V], symmetric, 1 on the diagonal."""

    values: list[str]
    accuracy: np.ndarray

    def worst(self, num: int) -> list[tuple[str, str, float]]:
        """The `num` pairs with the lowest accuracies, lowest first."""
        first, second = np.triu_indices(len(self.values), k=1)
        order = np.argsort(self.accuracy[first, second], kind="stable")[:num]
        return [
            (self.values[first[k]], self.values[second[k]], float(self.accuracy[first[k], second[k]])) for k in order
        ]


def separation(style: str, concept: str, condition: str, *, num: int = 40, seed: int = 0) -> Separation:
    """Pairwise accuracies for all values of a concept, from `num` crops of each to learn and as many to ask about."""
    values = VALUES[style][concept]
    known, asked = (crops(style, concept, values, condition, split, num, seed) for split in ("train", "val"))
    means = known.reshape(len(values), num, -1).mean(axis=1, dtype=np.float64)
    asked = asked.reshape(len(values), num, -1)
    distances = -2 * asked @ means.T + (means**2).sum(axis=1)  # [V, num, V], each without the crop's own square
    own = np.diagonal(distances, axis1=0, axis2=2).T[..., None]
    right = (own < distances).mean(axis=1)
    accuracy = (right + right.T) / 2
    np.fill_diagonal(accuracy, 1.0)
    return Separation(values, accuracy)


def crops(
    style: str, concept: str, values: Sequence[str], condition: str, split: str, num: int, seed: int
) -> np.ndarray:
    """float32 [V, num, CROP, CROP, 3] in 0..1: crops of plain single objects that have the values of one concept."""
    space = ConceptSpace.named({name: [word] for name, word in _PLAIN[style].items()} | {concept: values})
    free, total = condition == "free", len(values) * num
    picture = PictureConfig(
        size=_PICTURE_SIZE[style],
        object_size=_OBJECT_SIZE,
        rotation=180.0 if free else 0.0,
        size_jitter=0.12 if free else 0.0,
        clevr=ClevrConfig(camera_jitter=float(free)),
    )
    renderer = make_renderer(style, space, picture, max_objects=1, seed=seed)
    room = 0.5 - renderer.margin if free else 0.5 / picture.size
    places = 0.5 + room * (2 * uniform(seed, split, "places", 0, total, 2) - 1)
    objects = np.repeat(np.arange(len(values)), num)  # the values of one concept are all objects of the space
    scenes = Scenes(space, objects[:, None], places[:, None].astype(np.float32))
    cropped = [crop(pixels, drawn[0]) for pixels, drawn in renderer.draw(scenes, split, 0)]
    return np.stack(cropped).reshape(len(values), num, CROP, CROP, 3)


def crop(pixels: np.ndarray, drawn: Drawn, side: int = CROP, *, wider: float = _WIDER) -> np.ndarray:
    """float32 [side, side, 3] in 0..1: the square around an object of a picture uint8 [s, s, 3], border repeated.

    The square's side is `wider` times the object's diameter.
    """
    x0, y0, x1, y1 = drawn.box
    half = wider * drawn.size / 2
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    pad = int(half) + 2
    padded = Image.fromarray(np.pad(pixels, ((pad, pad), (pad, pad), (0, 0)), mode="edge"))
    box = (x + pad - half, y + pad - half, x + pad + half, y + pad + half)
    return np.asarray(padded.resize((side, side), Image.Resampling.BOX, box=box), dtype=np.float32) / 255

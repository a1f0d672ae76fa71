"""The flat style: CLEVR-2D pictures, drawn with Pillow at four times the size and reduced.

Picture i is a pure function of (config, split, i): the scene says which objects stand where, and size, turn, colour
and background jitter come from the counter-based generator. Objects never overlap and are never cut, because the
scene sampler keeps centres `min_distance` apart and `margin` from the border. So each object gets a mask of its own,
whose pixels with at least half coverage are the object's part of the id mask, and pictures are backgrounds with objects
laid on. The masks of many scenes are drawn on one canvas, one square below the other, and reduced together.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image, ImageDraw

from data_gen.config import PictureConfig
from data_gen.render.colors import COLORS, second_tone, to_linear, to_srgb
from data_gen.render.drawn import Drawn, scene_numbers
from data_gen.render.patterns import TILE, blurred
from data_gen.render.shapes import SHAPES
from data_gen.render.tables import check_orientations, default_object_size, quarter_turns, size_scales
from dualenc.scenes import ConceptSpace, Scenes, uniform_at

_OVERSAMPLE = 4
_GAP_PIXELS = 1.5
_PER_OBJECT = 3  # uniform numbers for each object: size, turn, brightness
_CANVAS_PIXELS = 1 << 22
_TILES_ACROSS = 2  # tiles of a pattern across the diameter of the circle around an object
_BLURS = tuple(range(1, 32, 2))  # widths in pixels of a tile
_DEFAULTS = {  # of a concept that the space does not have
    "color": "gray",
    "shape": "circle",
    "size": "large",
    "pattern": "plain",
}


@dataclass(frozen=True)
class _Objects:
    """All N objects of some scenes in one row: numbers in pixels, angles in radians."""

    shape: np.ndarray  # int [N], index into the space's shapes
    color: np.ndarray  # uint16 [N, 3]
    second: np.ndarray  # uint16 [N, 3], the other tone of the pattern
    pattern: np.ndarray  # int [N], index into the space's patterns
    radius: np.ndarray  # float [N]
    turn: np.ndarray  # float [N]
    corner: np.ndarray  # int [N, 2], left and top of the object's mask in its picture
    center: np.ndarray  # float [N, 2], in the object's mask


class FlatRenderer:
    """Draws scenes of a concept space whose concepts are among color, shape, size, pattern and orientation."""

    def __init__(self, space: ConceptSpace, picture: PictureConfig, *, max_objects: int, seed: int) -> None:
        self.space, self.picture, self.seed = space, picture, seed
        self.diameter = picture.object_size or default_object_size(max_objects)
        self._mask_size = math.ceil(self.diameter * picture.size) + 2
        check_orientations("flat", space.to_dict())
        self._quarters = quarter_turns("flat", space.to_dict(), _DEFAULTS["shape"])
        shapes = [SHAPES[name] for name in self._names("shape")]
        self._polygons = [shape.polygons() for shape in shapes]
        self._max_turns = np.minimum([shape.max_turn for shape in shapes], picture.rotation)
        self._tiles = np.stack([blurred(name, _BLURS) for name in self._names("pattern")])

    @property
    def margin(self) -> float:
        """Least distance of a centre to the border, as a share of the side."""
        return self.diameter / 2 + 1 / self.picture.size

    @property
    def min_distance(self) -> float:
        """Least distance of two centres, as a share of the side."""
        return self.diameter + _GAP_PIXELS / self.picture.size

    def shows(self, drawn: list[Drawn]) -> bool:
        """Whether a picture shows every object whole: always, since objects neither overlap nor reach the border."""
        return True

    def draw(self, scenes: Scenes, split: str, start: int | np.ndarray) -> Iterator[tuple[np.ndarray, list[Drawn]]]:
        """For scenes of `split`, number start.. or numbers `start` [n]: uint8 [size, size, 3] pixels, and what is seen
        of every object."""
        n, m = scenes.objects.shape
        jitter = uniform_at(self.seed, split, "picture", scene_numbers(start, n), 1 + _PER_OBJECT * m)
        step = max(1, _CANVAS_PIXELS // (m * (self._mask_size * _OVERSAMPLE) ** 2))
        for first in range(0, n, step):
            some = slice(first, first + step)
            yield from self._draw_some(scenes[some], jitter[some, 0], jitter[some, 1:].reshape(-1, m, _PER_OBJECT))

    def _draw_some(
        self, scenes: Scenes, light: np.ndarray, jitter: np.ndarray
    ) -> Iterator[tuple[np.ndarray, list[Drawn]]]:
        low, high = self.picture.background
        greys = np.rint(255 * (low + (high - low) * light)).astype(np.uint16)
        objects = self._objects(scenes, jitter)
        masks = self._masks(objects)
        own: np.ndarray = masks >= 128
        visible = own.sum(axis=(1, 2)).tolist()
        within = _boxes(own)
        parts = [mask[y0:y1, x0:x1] for mask, (x0, y0, x1, y1) in zip(own, within.tolist())]
        boxes = (within + np.tile(objects.corner, 2)).tolist()
        seen = [Drawn(*row) for row in zip((2 * objects.radius).tolist(), visible, boxes, parts)]
        rows = iter(seen)
        for pixels, count in zip(self._laid(greys, scenes.counts, objects, masks), scenes.counts.tolist()):
            yield pixels.copy(), list(islice(rows, count))

    def _laid(self, greys: np.ndarray, counts: np.ndarray, objects: _Objects, masks: np.ndarray) -> np.ndarray:
        """uint8 [n, size, size, 3]: grey pictures with their objects laid on, first slot first."""
        side, window = self.picture.size, self._mask_size
        pixels = np.empty((len(counts), side + window, side + window, 3), dtype=np.uint8)
        pixels[:] = greys[:, None, None, None]
        windows = _windows(pixels, window)
        firsts = np.cumsum(counts) - counts
        paints = self._paints(objects)
        for slot in range(counts.max(initial=0)):
            scene = np.flatnonzero(counts > slot)
            row = firsts[scene] + slot
            left, top = objects.corner[row].T
            below = windows[scene, top, left].reshape(-1, window, window, 3)
            mixed = _mixed(below, paints[row], masks[row])
            windows[scene, top, left] = mixed.reshape(-1, window, 3 * window)
        return pixels[:, :side, :side]

    def _objects(self, scenes: Scenes, jitter: np.ndarray) -> _Objects:
        present = scenes.objects >= 0
        values, jitter = scenes.values[present], jitter[present]
        shape = self._column("shape", values)
        color = np.array([COLORS[name] for name in self._names("color")])[self._column("color", values)]
        scale = np.array(size_scales(self._names("size")))[self._column("size", values)]
        quarters = self._quarters[shape, self._column("orientation", values)]
        side = self.picture.size
        radius = self.diameter / 2 * side * scale * (1 - self.picture.size_jitter * jitter[:, 0])
        light = 1 + self.picture.color_jitter * (2 * jitter[:, 2] - 1)
        place = scenes.positions[present].astype(np.float64) * side
        color = np.minimum(np.rint(color * light[:, None]), 255)
        turn = np.radians(self._max_turns[shape] * (2 * jitter[:, 1] - 1))
        corner = np.floor(place - radius[:, None]).astype(np.int64)
        return _Objects(
            shape=shape,
            color=color.astype(np.uint16),
            second=np.rint(255 * to_srgb(second_tone(to_linear(color / 255)))).astype(np.uint16),
            pattern=self._column("pattern", values),
            radius=radius,
            turn=turn + np.pi / 2 * quarters,
            corner=corner,
            center=place - corner,
        )

    def _names(self, concept: str) -> list[str]:
        """The values of a concept, or the default where the space does not have it."""
        if concept in self.space.names:
            return list(self.space.values[self.space.names.index(concept)])
        return [_DEFAULTS[concept]]

    def _column(self, concept: str, values: np.ndarray) -> np.ndarray:
        """int64 [N]: the value of one concept of objects with values [N, C]; 0 where the space does not have it."""
        if concept not in self.space.names:
            return np.zeros(len(values), dtype=np.int64)
        return values[:, self.space.names.index(concept)]

    def _paints(self, objects: _Objects) -> np.ndarray:
        """uint16 [N, 1, 1, 3], or with patterns [N, mask size, mask size, 3]: the colours under the masks."""
        if "pattern" not in self.space.names:
            return objects.color[:, None, None]
        texels = TILE * _TILES_ACROSS / 2 / objects.radius
        middles = ((np.arange(self._mask_size) + 0.5) - objects.center[..., None]) * texels[:, None, None]
        x, y = middles[:, 0, None, :].astype(np.float32), middles[:, 1, :, None].astype(np.float32)
        cos, sin = (part.astype(np.float32)[:, None, None] for part in (np.cos(objects.turn), np.sin(objects.turn)))
        column, row = (
            (place.astype(np.int32) & (TILE - 1)) for place in map(np.floor, (x * cos + y * sin, y * cos - x * sin))
        )
        blur = np.abs(np.subtract.outer(texels, _BLURS)).argmin(axis=1)
        tile = (objects.pattern * len(_BLURS) + blur).astype(np.int32)[:, None, None]
        share = self._tiles.ravel()[(tile * TILE + row) * TILE + column][..., None]
        own, other = (tone[:, None, None].astype(np.float32) for tone in (objects.color, objects.second))
        paints: np.ndarray = (other + share * (own - other) + np.float32(0.5)).astype(np.uint16)
        return paints

    def _masks(self, objects: _Objects) -> np.ndarray:
        """uint8 [N, mask size, mask size]: how much of each pixel an object covers."""
        number, step = len(objects.shape), self._mask_size * _OVERSAMPLE
        image = Image.new("L", (step, step * number))
        canvas = ImageDraw.Draw(image)
        scale = objects.radius * _OVERSAMPLE
        cos, sin = np.cos(objects.turn) * scale, np.sin(objects.turn) * scale
        turns = np.stack([np.stack([cos, sin], axis=-1), np.stack([-sin, cos], axis=-1)], axis=-2)
        centers = objects.center * _OVERSAMPLE - 0.5  # Pillow's coordinates name the middle of a pixel
        centers[:, 1] += np.arange(number) * step
        for shape in np.unique(objects.shape):
            same = np.flatnonzero(objects.shape == shape)
            for order, polygon in enumerate(self._polygons[shape]):
                corners = polygon @ turns[same] + centers[same, None]
                for points in corners.reshape(len(same), -1).tolist():
                    canvas.polygon(points, fill=0 if order else 255)
        return np.asarray(image.reduce(_OVERSAMPLE)).reshape(number, self._mask_size, self._mask_size)


def _boxes(masks: np.ndarray) -> np.ndarray:
    """int64 [N, 4]: the smallest boxes x0, y0, x1, y1, half open, around the True pixels of masks [N, h, w]."""
    columns, rows = np.logical_or.reduce(masks, axis=1), np.logical_or.reduce(masks, axis=2)
    ends = [side.shape[1] - side[:, ::-1].argmax(axis=1) for side in (columns, rows)]
    return np.stack([columns.argmax(axis=1), rows.argmax(axis=1), *ends], axis=1)


def _windows(pixels: np.ndarray, size: int) -> np.ndarray:
    """A writable view of pixels [n, h, w, 3]: entry [i, top, left] is the window of picture i there, [size, 3 size]."""
    n, height, width, _ = pixels.shape
    scene, row, column, channel = pixels.strides
    return np.lib.stride_tricks.as_strided(
        pixels,
        (n, height - size + 1, width - size + 1, size, 3 * size),
        (scene, row, column, row, channel),
    )


def _mixed(below: np.ndarray, paint: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, 3]: paint, uint16, laid on pixels, uint8, as much of it as the mask [n, h, w] of 0..255 says."""
    alpha = mask[..., None].astype(np.uint16)
    mixed: np.ndarray = below * (255 - alpha) + paint * alpha + np.uint16(128)
    mixed += mixed >> 8
    return (mixed >> 8).astype(np.uint8)  # division by 255, rounded, within 16 bits

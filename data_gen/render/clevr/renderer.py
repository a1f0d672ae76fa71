"""The renderer of the 3-D style: CLEVR's pictures, by the batch.

Picture i is a pure function of (config, split, i): the scene says which objects stand where; camera, lights, and the
size, turn and brightness of the object in each slot come from the counter-based generator. So drawing other objects in
the same slots changes nothing but those objects, their shadows, contact shadows, reflections, and what is seen through
them. Pictures do not depend on the batch that they are drawn in.

The unit square of the positions is a square on the ground, with a side of `SIDE` units and two edges parallel to the
picture's lower edge: the first coordinate grows to the right, the second toward the viewer. The camera looks at it from
in front and above, so that left of, right of, in front of and behind are functions of the positions.
"""

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import warp as wp

from data_gen.config import PictureConfig
from data_gen.render.clevr import DEVICE, device, kernels
from data_gen.render.clevr.look import NUM_DRAWS, SIDE, Look, look_of
from data_gen.render.clevr.solids import SOLID_DTYPE, profile_table, solid_numbers
from data_gen.render.clevr.world import TILE_SIZE, Camera, Light, Surface, Thing, World
from data_gen.render.colors import COLORS, second_tone, to_linear, to_srgb
from data_gen.render.drawn import Drawn, scene_numbers
from data_gen.render.materials import MATERIALS
from data_gen.render.patterns import PATTERNS
from data_gen.render.shapes import SOLIDS
from data_gen.render.tables import check_orientations, default_object_size, quarter_turns, size_scales
from dualenc.scenes import MAX_OBJECTS_OF_SCENE, ConceptSpace, Scenes, uniform_at

_PER_OBJECT = 3  # uniform numbers for each object: size, turn, brightness
_GAP = 0.012  # least distance of two objects' outer circles, as a share of the square's side
_BATCH_PIXELS = 1 << 19
GROUND = 0.36  # share of the light that the ground sends back
AMBIENT = 0.28  # light from all around
BACKDROP = 0.62  # linear light of the far ground
_NUM_CODES = 8192  # the first of which are 0.4 of a byte apart
DEFAULTS = {
    "color": "gray",
    "shape": "cube",
    "size": "large",
    "material": "rubber",
    "pattern": "plain",
}


@dataclass(frozen=True)
class Pictures:
    """What a batch of scenes looks like, in arrays that the next batch uses again.

    pixels: uint8 [n, s, s, 3]; ids: int8 [n, s, s], the slot of the object that is seen in the middle of a pixel,
    -1 for the ground; influence: int32 [n, s, s], bit j where the pixel depends on the object in slot j;
    None where nobody asked.
    """

    pixels: np.ndarray
    ids: np.ndarray
    influence: np.ndarray | None


class ClevrRenderer:
    """Draws scenes of a concept space whose concepts are among color, shape, size, material, pattern, orientation."""

    def __init__(self, space: ConceptSpace, picture: PictureConfig, *, max_objects: int, seed: int) -> None:
        check_orientations("clevr", space.to_dict())
        self.space, self.picture, self.seed = space, picture, seed
        self.diameter = picture.object_size or default_object_size(max_objects)
        self._least_visible = max(1, round(picture.clevr.min_visible * picture.size**2))

    @property
    def margin(self) -> float:
        """Least distance of a centre to the border of the unit square."""
        return self.diameter / 2

    @property
    def min_distance(self) -> float:
        """Least distance of two centres in the unit square."""
        return self.diameter + _GAP

    def shows(self, drawn: list[Drawn]) -> bool:
        """Whether a picture, by what `draw` says of its objects, cuts none of them at the frame, and shows the share
        `clevr.min_visible` of its pixels of each."""
        side = self.picture.size
        return all(
            one.visible_pixels >= self._least_visible and min(one.box) > 0 and max(one.box) < side for one in drawn
        )

    def draw(self, scenes: Scenes, split: str, start: int | np.ndarray) -> Iterator[tuple[np.ndarray, list[Drawn]]]:
        """For scenes of `split`, number start.. or numbers `start` [n]: uint8 [size, size, 3] pixels, and what is seen
        of every object."""
        numbers = scene_numbers(start, len(scenes))
        for first in range(0, len(scenes), self._batch):
            some = slice(first, first + self._batch)
            setting = self.setting(scenes[some], split, numbers[some])
            pictures = self._cast(setting)
            for pixels, ids, sizes, count in zip(
                pictures.pixels, pictures.ids, setting.sizes.tolist(), setting.counts.tolist()
            ):
                yield pixels.copy(), _drawn(ids, sizes[:count])

    def render(self, scenes: Scenes, split: str, start: int, *, samples: int = 0, everywhere: bool = False) -> Pictures:
        """Pictures of scenes number start.. with all that the kernels know of them, for checks and measurements.

        samples: side of the grid of samples, 0 for the config's; everywhere: the grid in each pixel, not at edges only.
        """
        parts = []
        for first in range(0, len(scenes), self._batch):
            some = scenes[first : first + self._batch]
            numbers = np.arange(start + first, start + first + len(some))
            part = self._cast(self.setting(some, split, numbers), samples, everywhere, keep_influence=True)
            parts.append([part.pixels.copy(), part.ids.copy(), part.influence])
        return Pictures(*map(np.concatenate, zip(*parts)))

    @cached_property
    def _batch(self) -> int:
        return max(1, _BATCH_PIXELS // self.picture.size**2)

    @cached_property
    def _tables(self) -> "_Tables":
        return _Tables(self.space)

    @cached_property
    def _buffers(self) -> "_Buffers":
        device.prepare()
        return _Buffers(self._batch, self.picture.size)

    def setting(self, scenes: Scenes, split: str, numbers: np.ndarray) -> "Setting":
        """Everything about scenes that the kernels are told."""
        n, m = scenes.objects.shape
        jitter = uniform_at(self.seed, split, "look", numbers, NUM_DRAWS)
        slots = uniform_at(self.seed, split, "slots", numbers, _PER_OBJECT * MAX_OBJECTS_OF_SCENE)
        slots = slots.reshape(n, MAX_OBJECTS_OF_SCENE, _PER_OBJECT)[:, :m]
        tables, values = self._tables, np.maximum(scenes.values, 0)
        shape = tables.column("shape", values)
        solid: Any = tables.solids[shape]
        diameter = self.diameter * SIDE * tables.scales[tables.column("size", values)]
        diameter = diameter * (1 - self.picture.size_jitter * slots[..., 0])
        radius = diameter / 2 * solid["unit"]
        turn = np.minimum(solid["max_turn"], self.picture.rotation) * (2 * slots[..., 1] - 1)
        yaw = np.radians(turn + 90.0 * tables.turns[shape, tables.column("orientation", values)])
        bright = 1 + self.picture.color_jitter * (2 * slots[..., 2] - 1)
        places = np.nan_to_num(scenes.positions.astype(np.float64)) - 0.5
        things: Any = np.zeros((n, m), dtype=_dtype(Thing))
        things["center"] = np.stack([places[..., 0] * SIDE, solid["lift"] * radius, places[..., 1] * SIDE], axis=-1)
        things["radius"], things["bound"] = radius, solid["bound"] * radius
        things["cos"], things["sin"] = np.cos(yaw), np.sin(yaw)
        for name in ("kind", "profile", "half", "rounding", "top", "convex"):
            things[name] = solid[name]
        color = to_linear(np.minimum(tables.colors[tables.column("color", values)] * bright[..., None], 1.0))
        things["color"], things["second"] = color, second_tone(color)
        things["pattern"] = tables.patterns[tables.column("pattern", values)]
        things["material"] = tables.materials[tables.column("material", values)]
        things["opacity"] = 1 - 0.65 * tables.transmissions[things["material"]]
        look = look_of(jitter, self.picture.clevr, self.diameter * SIDE)
        away = np.linalg.norm(things["center"] - look.eye[:, None], axis=-1)
        pixels = diameter / away / np.linalg.norm(look.right, axis=-1)[:, None] * self.picture.size / 2
        return Setting(things, scenes.counts.astype(np.int32), look, pixels)

    def _cast(
        self, setting: "Setting", samples: int = 0, everywhere: bool = False, keep_influence: bool = False
    ) -> Pictures:
        """Pictures of one batch, in the buffers that the next batch overwrites."""
        buffers, size, n = self._buffers, self.picture.size, len(setting.counts)
        world, counts = buffers.world(setting)
        grid, samples = -(-size // TILE_SIZE), samples or self.picture.clevr.samples
        launch(kernels.light_ground, (n, grid + 1, grid + 1), [world, size], [buffers.lights])
        launch(kernels.find_tiles, (n, grid, grid), [world, counts, size], [buffers.tiles])
        scene = [world, counts, buffers.tiles, buffers.lights, buffers.codes, size]
        first = [buffers.ids, buffers.colors, buffers.normals, buffers.touched]
        launch(kernels.cast, (n, grid, grid), scene, [*first, buffers.pixels])
        influence = buffers.touched.numpy()[:n].copy() if keep_influence else None
        if samples > 1:
            second = [buffers.touched, buffers.pixels]
            launch(kernels.refine, (n, grid, grid), [*scene, samples, int(everywhere), *first[:-1]], second)
        if influence is not None:
            influence = _spread(influence) | buffers.touched.numpy()[:n]
        return Pictures(buffers.pixels.numpy()[:n], buffers.ids.numpy()[:n], influence)


def launch(kernel: wp.Kernel, dim: tuple[int, ...], inputs: list[Any], outputs: list[Any]) -> None:
    """Launches a kernel on the device."""
    wp.launch(kernel, dim=dim, inputs=inputs, outputs=outputs, device=DEVICE)


@dataclass(frozen=True)
class Setting:
    """A batch: its objects [n, m] as the kernels' structures, their numbers [n], looks, and diameters in pixels."""

    things: np.ndarray
    counts: np.ndarray
    look: Look
    sizes: np.ndarray


class _Tables:
    """Rows of the tables for the values of a space, concept by concept."""

    def __init__(self, space: ConceptSpace) -> None:
        self.space = space
        self.colors = np.array([COLORS[name] for name in self._names("color")], dtype=np.float64) / 255
        self.scales = np.array(size_scales(self._names("size")))
        self.turns = quarter_turns("clevr", space.to_dict(), DEFAULTS["shape"])
        self.patterns = np.array([list(PATTERNS).index(name) for name in self._names("pattern")])
        self.materials = np.array([list(MATERIALS).index(name) for name in self._names("material")])
        self.transmissions = np.array([material.transmission for material in MATERIALS.values()])
        solids = [solid_numbers(SOLIDS[name]) for name in self._names("shape")]
        self.solids = np.array([astuple(solid) for solid in solids], dtype=SOLID_DTYPE)

    def column(self, concept: str, values: np.ndarray) -> np.ndarray:
        """The values of one concept, [n, m]; zeros where the space does not have it."""
        if concept not in self.space.names:
            return np.zeros(values.shape[:-1], dtype=np.int64)
        return values[..., self.space.names.index(concept)]

    def _names(self, concept: str) -> list[str]:
        """The values of a concept, or the default where the space does not have it."""
        if concept in self.space.names:
            return list(self.space.values[self.space.names.index(concept)])
        return [DEFAULTS[concept]]


class _Buffers:
    """The device's arrays for batches of up to `batch` scenes, and the tables that never change."""

    def __init__(self, batch: int, size: int) -> None:
        shape, grid = (batch, size, size), -(-size // TILE_SIZE)
        with wp.ScopedDevice(DEVICE):
            self.tiles = wp.empty((batch, grid, grid, 5), dtype=int)
            self.ids = wp.empty(shape, dtype=wp.int8)
            self.colors = wp.empty(shape, dtype=wp.vec3)
            self.normals = wp.empty(shape, dtype=wp.vec3)
            self.touched = wp.empty(shape, dtype=int)
            self.pixels = wp.empty((*shape, 3), dtype=wp.uint8)
            self.lights = wp.empty((batch, grid + 1, grid + 1), dtype=float)
            self.codes: wp.array = wp.array(_codes(), dtype=wp.uint8)
            self._surfaces = _structures(Surface, [astuple(material) for material in MATERIALS.values()])
            self._profiles: wp.array = wp.array(profile_table(), dtype=float)
            tiles = np.stack([np.pad(tile, ((0, 1), (0, 1)), mode="wrap") for tile in PATTERNS.values()])
            self._patterns: wp.array = wp.array(tiles, dtype=float)

    def world(self, setting: Setting) -> tuple[World, wp.array]:
        """What the kernels are told of a batch, and its numbers of objects."""
        look = setting.look
        n, num_lights = look.strengths.shape
        lights: Any = np.zeros((n, num_lights), dtype=_dtype(Light))
        lights["place"], lights["spread"] = look.places, look.spreads
        lights["strength"] = look.strengths * (look.places**2).sum(axis=-1)
        cameras: Any = np.zeros(n, dtype=_dtype(Camera))
        for name in ("eye", "forward", "right", "up"):
            cameras[name] = getattr(look, name)
        world = World()
        world.cameras = wp.array(cameras, dtype=Camera, device=DEVICE)
        world.lights = wp.array(lights, dtype=Light, device=DEVICE)
        spheres = np.concatenate([setting.things["center"], setting.things["bound"][..., None]], axis=-1)
        world.spheres = wp.array(spheres, dtype=wp.vec4, device=DEVICE)
        world.things = wp.array(setting.things, dtype=Thing, device=DEVICE)
        world.surfaces, world.profiles, world.patterns = self._surfaces, self._profiles, self._patterns
        world.num_lights, world.ambient, world.ground, world.backdrop = num_lights, AMBIENT, GROUND, BACKDROP
        return world, wp.array(setting.counts, dtype=int, device=DEVICE)


def _dtype(kind: Any) -> np.dtype:
    """numpy's form of one of the kernels' structures."""
    dtype: np.dtype = kind.numpy_dtype()
    return dtype


def _structures(kind: Any, rows: list[tuple[float, ...]]) -> wp.array:
    """Rows of plain numbers as the kernels' structures."""
    return wp.array(np.array(rows, dtype=_dtype(kind)), dtype=kind)


def _codes() -> np.ndarray:
    """uint8 [_NUM_CODES]: the sRGB byte of linear light i / (_NUM_CODES - 1)."""
    return np.rint(255 * to_srgb(np.linspace(0, 1, _NUM_CODES))).astype(np.uint8)


def _spread(bits: np.ndarray) -> np.ndarray:
    """Bits of each pixel and its four neighbours, whose samples decide whether and how it is drawn again: [n, s, s]."""
    spread = bits.copy()
    spread[:, 1:] |= bits[:, :-1]
    spread[:, :-1] |= bits[:, 1:]
    spread[:, :, 1:] |= bits[:, :, :-1]
    spread[:, :, :-1] |= bits[:, :, 1:]
    return spread


def _drawn(ids: np.ndarray, sizes: list[float]) -> list[Drawn]:
    """What an id buffer [s, s] says of objects of these sizes, in slots 0, 1, ..."""
    (left, top), part = _cropped(ids >= 0)
    ids = ids[top : top + part.shape[0], left : left + part.shape[1]]
    drawn = []
    for slot, size in enumerate(sizes):
        (x, y), mask = _cropped(ids == slot)
        x0, y0 = (left + x, top + y) if mask.size else (0, 0)
        box = [x0, y0, x0 + mask.shape[1], y0 + mask.shape[0]]
        drawn.append(Drawn(size, int(np.count_nonzero(mask)), box, mask.copy()))
    return drawn


def _cropped(mask: np.ndarray) -> tuple[tuple[int, int], np.ndarray]:
    """Left and top of the smallest box around the True pixels of a mask, and the mask inside; [0, 0] if none is."""
    columns, rows = np.flatnonzero(mask.any(axis=0)).tolist(), np.flatnonzero(mask.any(axis=1)).tolist()
    if not rows:
        return (0, 0), mask[:0, :0]
    return (columns[0], rows[0]), mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

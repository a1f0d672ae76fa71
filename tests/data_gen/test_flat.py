"""Flat pictures: objects apart and whole, masks that agree with the pixels, values that can be told apart at 32 px."""

import hashlib
from itertools import combinations

import numpy as np
import pytest

from data_gen.config import PictureConfig
from data_gen.render.colors import COLORS, second_tone, to_linear, to_srgb
from data_gen.render.flat import FlatRenderer
from data_gen.render.shapes import SHAPES
from data_gen.render.tables import VALUES, size_scales
from dualenc.scenes import ConceptSpace, ObjectSplit, Scenes, SceneSampler, uniform

FIRST = ["circle", "square", "triangle", "star", "cross", "heart", "ring", "crescent", "diamond", "arrow"]
FIRST += ["hourglass", "bar"]
FIRST_COLORS = ["gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow", "orange", "pink", "lime", "black"]
ALL = ConceptSpace.named({name: VALUES["flat"][name] for name in ("color", "shape", "size")})


def renderer_and_sampler(picture: PictureConfig, num_objects: int) -> tuple[FlatRenderer, SceneSampler]:
    renderer = FlatRenderer(ALL, picture, max_objects=num_objects, seed=3)
    split = ObjectSplit.uniform(ALL, coverage=0.8, seed=0)
    sampler = SceneSampler(
        split, seed=3, counts={num_objects: 1.0}, min_distance=renderer.min_distance, margin=renderer.margin
    )
    return renderer, sampler


@pytest.mark.parametrize(("num_objects", "side"), [(2, 32), (6, 96), (10, 128)])
def test_objects_are_whole_apart_and_where_their_boxes_say(num_objects: int, side: int) -> None:
    picture = PictureConfig(size=side, background=(1.0, 1.0), color_jitter=0.0, rotation=180.0)
    renderer, sampler = renderer_and_sampler(picture, num_objects)
    scenes = sampler.draw("train", 0, 60)
    for i, (pixels, drawn) in enumerate(renderer.draw(scenes, "train", 0)):
        covered = np.zeros((side, side), dtype=bool)
        for what, values in zip(drawn, scenes.values[i]):
            x0, y0, x1, y1 = what.box
            assert 0 <= x0 < x1 <= side
            assert 0 <= y0 < y1 <= side
            assert max(x1 - x0, y1 - y0) <= np.ceil(what.size) + 1
            color = np.array(COLORS[ALL.values[0][values[0]]])
            assert what.mask.shape == (y1 - y0, x1 - x0)
            assert what.mask.sum() == what.visible_pixels > 0
            own = pixels[y0:y1, x0:x1][what.mask].astype(int)
            assert (np.abs(own - color) <= 0.5 * (255 - color) + 1).all()
            assert not covered[y0:y1, x0:x1][what.mask].any(), "two objects share a pixel"
            covered[y0:y1, x0:x1] |= what.mask
        rim = np.concatenate([pixels[[0, -1]].ravel(), pixels[:, [0, -1]].ravel()])
        assert rim.min() >= 224, "Pillow's polygons are up to an eighth of a pixel wider than their corners say"
        assert covered.sum() == sum(what.visible_pixels for what in drawn)
        assert (pixels[~covered] >= 127 - 1).all()


@pytest.mark.parametrize(
    ("concepts", "picture", "expected"),
    [
        (
            {"color": FIRST_COLORS, "shape": FIRST, "size": ["small", "large", "medium"]},
            PictureConfig(size=64),
            "742d9c5529438aa3a3ef7003c7b1d9842f5890269fc06f85c3440c442f788c3a",
        ),
        (
            {"color": FIRST_COLORS[:8], "shape": FIRST[:8]},
            PictureConfig(size=32),
            "1011e3cd6c3da6c019ed615859363db92c11dc187b1e7417655a9231fe1e1309",
        ),
        (
            {"shape": FIRST},
            PictureConfig(size=48, rotation=180.0, background=(1.0, 1.0), color_jitter=0.0),
            "098ea35e4edf32adf744d905a6481cd090783b973c972d9784b101c957e7552e",
        ),
        (
            {"color": FIRST_COLORS[::-1], "size": ["medium", "small"]},
            PictureConfig(size=33, size_jitter=0.2, object_size=0.3),
            "3b30f09512a9fca43ad23151a0cc9f430acc914f09c28d86de08adc82ae7a530",
        ),
    ],
    ids=["all", "quickstart", "turned", "defaults"],
)
def test_pictures_are_those_of_version_0_1(
    concepts: dict[str, list[str]], picture: PictureConfig, expected: str
) -> None:
    """300 pictures of the first values, with the hashes of version 0.1; another Pillow may fail."""
    space, num, seed = ConceptSpace.named(concepts), 300, 5
    draws = uniform(seed, "val", "golden", 0, num, 13)
    objects = (draws[:, :4] * space.num_objects).astype(np.int64)
    objects[np.arange(4) >= 1 + (draws[:, 12:] * 4).astype(int)] = -1
    quarters = np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
    places = (quarters + (draws[:, 4:12].reshape(num, 4, 2) - 0.5) * 0.04).astype(np.float32)
    renderer = FlatRenderer(space, picture, max_objects=4, seed=seed)
    digest = hashlib.sha256()
    for pixels, drawn in renderer.draw(Scenes(space, objects, places), "val", 0):
        digest.update(pixels.tobytes())
        digest.update(repr([(what.size, what.visible_pixels, what.box) for what in drawn]).encode())
    assert digest.hexdigest() == expected


def test_a_picture_depends_on_its_scene_number_only() -> None:
    renderer, sampler = renderer_and_sampler(PictureConfig(size=32), 3)
    whole = list(renderer.draw(sampler.draw("ood", 0, 40), "ood", 0))
    part = list(renderer.draw(sampler.draw("ood", 30, 40), "ood", 30))
    for (pixels, drawn), (again, drawn_again) in zip(whole[30:], part):
        np.testing.assert_array_equal(pixels, again)
        assert drawn == drawn_again
    other = list(renderer.draw(sampler.draw("ood", 0, 40), "val", 0))
    assert all((a[0] != b[0]).any() for a, b in zip(whole, other)), "jitter differs between splits"


def alone(shape: int, size: float, number: int) -> np.ndarray:
    """Pictures [number, 32, 32] of one shape in the middle of a 32 px picture, black on white, turned and jittered."""
    space = ConceptSpace.named({"shape": FIRST})
    picture = PictureConfig(size=32, background=(1.0, 1.0), object_size=size, color_jitter=0.0)
    renderer = FlatRenderer(space, picture, max_objects=2, seed=shape)
    scenes = Scenes(space, np.full((number, 1), shape), np.full((number, 1, 2), 0.5, dtype=np.float32))
    return np.stack([pixels[..., 0] for pixels, _ in renderer.draw(scenes, "train", 0)]).astype(float)


def test_the_first_shapes_can_be_told_apart_at_32_pixels() -> None:
    """The nearest of the shapes' mean pictures is the right one nearly always, at the size of two-object scenes."""
    train, test = (
        [alone(shape, 0.396, 80)[part] for shape in range(len(FIRST))] for part in (slice(0, 40), slice(40, 80))
    )
    means = np.stack([pictures.mean(axis=0) for pictures in train])
    for shape, pictures in enumerate(test):
        distances = ((pictures[:, None] - means[None]) ** 2).sum(axis=(2, 3))
        share = (distances.argmin(axis=1) == shape).mean()
        assert share >= 0.9, f"{FIRST[shape]}: {share}"


def test_shapes_stay_inside_the_unit_circle_with_similar_areas() -> None:
    for name, shape in SHAPES.items():
        polygons = shape.polygons()
        assert all(np.linalg.norm(polygon, axis=1).max() <= 1 + 1e-9 for polygon in polygons), name
        assert np.linalg.norm(polygons[0], axis=1).max() > 0.85, name


def oklab(rgb: np.ndarray) -> np.ndarray:
    """OKLab coordinates [..., 3] of sRGB colours [..., 3] in 0..255."""
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(to_linear(rgb / 255) @ np.array(to_lms).T) @ np.array(to_lab).T


def brightness_range(color: np.ndarray) -> np.ndarray:
    """OKLab [9, 3] of a colour at a brightness of 0.9 to 1.1, lightness counting 0.8 times."""
    return oklab(np.minimum(np.linspace(0.9, 1.1, 9)[:, None] * color, 255)) * [0.8, 1, 1]


def test_colors_are_far_apart_and_far_from_the_background_however_bright() -> None:
    assert len(COLORS) == 50
    assert list(COLORS)[:8] == ["gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow"]
    ground = oklab(255 * np.linspace(0.82, 0.95, 9)[:, None] * np.ones(3)) * [0.8, 1, 1]
    ranges = {"the ground": ground, **{name: brightness_range(np.array(color)) for name, color in COLORS.items()}}
    for first, second in combinations(ranges, 2):
        apart = np.linalg.norm(ranges[first][:, None] - ranges[second], axis=-1).min()
        assert apart > 0.07, (first, second)


def pictures_of(concepts: dict[str, list[str]], objects: list[int], picture: PictureConfig) -> list[np.ndarray]:
    """One picture [s, s, 3] of each object, alone in the middle."""
    space = ConceptSpace.named(concepts)
    renderer = FlatRenderer(space, picture, max_objects=1, seed=1)
    scenes = Scenes(space, np.array(objects)[:, None], np.full((len(objects), 1, 2), 0.5, dtype=np.float32))
    return [pixels for pixels, _ in renderer.draw(scenes, "val", 0)]


def test_plain_objects_are_drawn_as_without_patterns() -> None:
    picture = PictureConfig(size=48)
    shapes = {"color": FIRST_COLORS, "shape": FIRST}
    objects = list(range(144))
    plain = pictures_of(shapes, objects, picture)
    with_pattern = pictures_of(shapes | {"pattern": ["plain", "dotted"]}, [2 * k for k in objects], picture)
    np.testing.assert_array_equal(plain, with_pattern)


@pytest.mark.parametrize("pattern", ["striped", "checked", "dotted", "wavy"])
def test_patterns_mix_the_two_tones_inside_the_object_and_turn_with_it(pattern: str) -> None:
    picture = PictureConfig(size=96, color_jitter=0.0, rotation=0.0, size_jitter=0.0, background=(1.0, 1.0))
    concepts = {"color": ["blue", "straw"], "shape": ["arrow"], "pattern": ["plain", pattern]}
    plain, drawn = pictures_of(concepts, [0, 1], picture)
    blue = np.array(COLORS["blue"])
    tones = np.array([blue, 255 * to_srgb(second_tone(to_linear(blue / 255)))])
    inside = (plain == COLORS["blue"]).all(axis=-1)
    assert inside.sum() > 300
    np.testing.assert_array_equal(drawn[(plain == 255).all(axis=-1)], 255)
    assert (drawn[inside] >= tones.min(axis=0) - 1).all()
    assert (drawn[inside] <= tones.max(axis=0) + 1).all()
    near = (np.abs(drawn[inside][:, None] - tones).max(axis=-1) <= 2).mean(axis=0)
    assert (near > 0.15).all(), "both tones are seen"
    concepts |= {"orientation": ["upward", "rightward"]}
    upward, rightward = pictures_of(concepts, [2, 3], picture)
    assert (upward == drawn).all()
    assert np.abs(np.rot90(upward, -1).astype(int) - rightward).mean() < 4


def test_orientations_are_quarter_turns_from_the_heading() -> None:
    picture = PictureConfig(size=96, color_jitter=0.0, rotation=0.0, size_jitter=0.0, background=(1.0, 1.0))
    words = VALUES["flat"]["orientation"]
    assert words == ["upward", "rightward", "downward", "leftward"]
    for shape, times_from_drawn in (("arrow", [0, 1, 2, 3]), ("fish", [1, 2, 3, 0])):
        (drawn,) = pictures_of({"shape": [shape]}, [0], picture)
        turned = pictures_of({"shape": [shape], "orientation": words}, [0, 1, 2, 3], picture)
        for pixels, times in zip(turned, times_from_drawn):
            away = [np.abs(np.rot90(drawn, -turn).astype(int) - pixels).mean() for turn in range(4)]
            assert int(np.argmin(away)) == times
            assert away[times] < 2 < sorted(away)[1]


def test_five_sizes_are_drawn_as_the_table_says() -> None:
    picture = PictureConfig(size=96, size_jitter=0.0, rotation=0.0)
    space = ConceptSpace.named({"size": VALUES["flat"]["size"]})
    renderer = FlatRenderer(space, picture, max_objects=1, seed=1)
    scenes = Scenes(space, np.arange(5)[:, None], np.full((5, 1, 2), 0.5, dtype=np.float32))
    sizes = [drawn[0].size for _, drawn in renderer.draw(scenes, "val", 0)]
    np.testing.assert_allclose(sizes, 96 * renderer.diameter * np.array(size_scales(VALUES["flat"]["size"])))
    assert max(sizes) == pytest.approx(96 * renderer.diameter)

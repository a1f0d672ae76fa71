"""Flat pictures: objects apart and whole, masks that agree with the pixels, values that can be told apart at 32 px."""

from itertools import combinations

import numpy as np
import pytest

from data_gen.config import PictureConfig
from data_gen.render.colors import COLORS, oklab
from data_gen.render.flat import FlatRenderer
from data_gen.render.shapes import SHAPES
from data_gen.render.tables import VALUES
from dualenc.scenes import ConceptSpace, ObjectSplit, Scenes, SceneSampler

FIRST = list(SHAPES)[:12]
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


def test_words_name_one_value_each() -> None:
    for concepts in VALUES.values():
        names = [value for values in concepts.values() for value in values]
        assert len(set(names)) == len(names)

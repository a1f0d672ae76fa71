"""The tables of both styles: outlines, signed distances, tiles, names, sizes, orientations."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from data_gen.config import ClevrConfig, PictureConfig
from data_gen.render.patterns import PATTERNS, TILE, blurred
from data_gen.render.profiles import PROFILES, SDF_REACH, profile_sdf
from data_gen.render.shapes import SHAPES, SOLIDS
from data_gen.render.styles import make_renderer
from data_gen.render.tables import VALUES, check_orientations, quarter_turns, size_scales
from dualenc.errors import InputError
from dualenc.scenes import ConceptSpace, Grammar, Language, Scenes

PROFILE_NAMES = list(PROFILES)


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def crossings(first: np.ndarray, second: np.ndarray) -> int:
    """How many edges of one closed polygon properly cross edges of another."""
    a, b = first[:, None], np.roll(first, -1, axis=0)[:, None]
    c, d = second[None], np.roll(second, -1, axis=0)[None]
    sides = cross(b - a, c - a) * cross(b - a, d - a), cross(d - c, a - c) * cross(d - c, b - c)
    return int(((sides[0] < -1e-12) & (sides[1] < -1e-12)).sum())


def test_there_are_fifty_values_of_shape_and_color() -> None:
    for concepts in VALUES.values():
        assert len(concepts["shape"]) == len(concepts["color"]) == 50
        assert len(concepts["size"]) == 5
        assert len(concepts["pattern"]) == 8
        assert len(concepts["orientation"]) == 4
    assert len(VALUES["clevr"]["material"]) == 4
    assert VALUES["clevr"]["shape"][:3] == ["sphere", "cube", "cylinder"]


@pytest.mark.parametrize("style", VALUES)
def test_every_name_is_a_word_of_its_own_in_the_whole_language(style: str) -> None:
    concepts = VALUES[style]
    names = [value for values in concepts.values() for value in values]
    assert len(set(names)) == len(names)
    everything = Language(relations=style, counting=True, negation=True, synonyms=True)
    grammar = Grammar(ConceptSpace.named(concepts), everything)  # refuses words of its own, and plurals that clash
    assert set(names) <= set(grammar.vocabulary)


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_outlines_are_simple_polygons_in_the_unit_circle(name: str) -> None:
    outline, *holes = PROFILES[name].polygons()
    for polygon in (outline, *holes):
        assert polygon.ndim == 2
        assert polygon.shape[1] == 2
        assert np.isfinite(polygon).all()
        assert np.linalg.norm(polygon, axis=1).max() <= 1 + 1e-9
        area = cross(polygon, np.roll(polygon, -1, axis=0)).sum() / 2
        assert abs(area) > 0.01, "a polygon that is closed and no line"
        assert crossings(polygon, polygon) == 0
    assert all(crossings(outline, hole) == 0 for hole in holes)
    assert all(crossings(one, other) == 0 for one, other in combinations(holes, 2))


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_signed_distances_have_slope_one_and_the_right_sign(name: str) -> None:
    size = 96
    distance = profile_sdf(name, size).astype(np.float64)
    step = 2 * SDF_REACH / (size - 1)
    for axis in (0, 1):
        assert np.abs(np.diff(distance, axis=axis)).max() <= step * (1 + 1e-5)
    gradient = np.hypot(*np.gradient(distance, step))
    assert np.median(gradient) == pytest.approx(1, abs=0.02)
    outline, *holes = PROFILES[name].polygons()
    assert (distance[[0, -1]] > 0).all()
    ticks = np.linspace(-SDF_REACH, SDF_REACH, size)
    points = np.stack(np.meshgrid(ticks, ticks), axis=-1)
    inside = winding(points, outline)
    for hole in holes:
        inside &= ~winding(points, hole)
    clear = np.abs(distance) > 1e-6
    np.testing.assert_array_equal(distance[clear] < 0, inside[clear])


def winding(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """bool: the points around which the polygon goes, from the sum of the angles under which its edges are seen."""
    total = np.zeros(points.shape[:-1])
    for a, b in zip(polygon, np.roll(polygon, -1, axis=0)):
        to_a, to_b = a - points, b - points
        total += np.arctan2(cross(to_a, to_b), (to_a * to_b).sum(axis=-1))
    return np.abs(total) > np.pi


def test_signed_distances_are_exact_for_a_square() -> None:
    size, half = 128, np.sqrt(0.5)
    ticks = np.linspace(-SDF_REACH, SDF_REACH, size)
    x, y = np.abs(np.meshgrid(ticks, ticks))
    beyond = np.hypot(np.maximum(x - half, 0), np.maximum(y - half, 0))
    expected = beyond + np.minimum(np.maximum(x, y) - half, 0)
    np.testing.assert_allclose(profile_sdf("square", size), expected, atol=1e-6)


def test_solids_of_revolution_lie_right_of_the_axis_or_mirror_themselves() -> None:
    for name, solid in SOLIDS.items():
        if solid.kind == "revolve":
            distance = profile_sdf(solid.profile, 65)
            right = bool((PROFILES[solid.profile].polygons()[0][:, 0] > 0).all())
            assert right or np.abs(distance - distance[:, ::-1]).max() < 0.02, name


def test_tiles_repeat_without_a_seam_and_differ() -> None:
    assert next(iter(PATTERNS)) == "plain"
    assert (PATTERNS["plain"] == 1).all()
    for name, tile in PATTERNS.items():
        assert tile.shape == (TILE, TILE)
        assert tile.dtype == np.float32
        assert 0 <= tile.min() <= tile.max() <= 1
        assert name == "plain" or 0.3 < tile.mean() < 0.8
        for steps in (np.abs(np.roll(tile, -1, axis=axis) - tile).sum(axis=1 - axis) for axis in (0, 1)):
            assert steps[-1] <= steps[:-1].max(), f"{name}: the seam is a sharper edge than any other"
    for first, second in combinations(PATTERNS, 2):
        shifts = [np.roll(PATTERNS[second], 4 * np.array(shift), axis=(0, 1)) for shift in np.ndindex(8, 8)]
        assert min(np.abs(PATTERNS[first] - tile).mean() for tile in shifts) > 0.05, (first, second)


def test_blurred_tiles_are_averages_over_squares() -> None:
    tile = PATTERNS["dotted"]
    three = blurred("dotted", (1, 3))[1]
    around = [np.roll(tile, (dy, dx), axis=(0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    np.testing.assert_allclose(three, np.mean(around, axis=0), atol=1e-6)
    np.testing.assert_allclose(blurred("dotted", (1, 3))[0], tile, atol=1e-6)


def test_sizes_are_apart_and_the_largest_fills_the_room() -> None:
    assert size_scales(["small", "large", "medium"]) == [0.6, 1.0, 0.78]
    assert size_scales(["small"]) == [0.6]
    scales = sorted(size_scales(VALUES["flat"]["size"]))
    assert scales[-1] == 1
    jitter = PictureConfig().size_jitter
    assert all(larger * (1 - jitter) > smaller for smaller, larger in pairwise(scales))


@pytest.mark.parametrize(("style", "allowed", "refused"), [("flat", "arrow", "square"), ("clevr", "chair", "sphere")])
def test_orientations_of_shapes_that_look_the_same_are_refused(style: str, allowed: str, refused: str) -> None:
    concepts = {"shape": [allowed, refused], "orientation": VALUES[style]["orientation"]}
    with pytest.raises(InputError, match=f"concepts.orientation: {refused} may look") as error:
        make_renderer(style, ConceptSpace.named(concepts), PictureConfig(), max_objects=1, seed=0)
    assert f"use {'heart' if style == 'flat' else 'arrow'}" in str(error.value)
    with pytest.raises(InputError, match=r"needs concepts\.shape"):
        check_orientations(style, {"orientation": ["leftward"]})
    check_orientations(style, {"shape": [allowed], "orientation": ["leftward"]})
    check_orientations(style, {"shape": [refused]})


def test_an_oriented_shape_as_drawn_has_its_heading() -> None:
    for style, table in (("flat", SHAPES), ("clevr", SOLIDS)):
        for name, shape in table.items():
            if shape.orients:
                turns = quarter_turns(style, {"shape": [name], "orientation": [shape.heading]}, "")
                assert (turns == 0).all(), name
    turns = quarter_turns("flat", {"shape": ["fish", "arrow"], "orientation": ["upward", "rightward"]}, "circle")
    assert (turns % 4).tolist() == [[1, 2], [0, 1]]
    assert quarter_turns("flat", {"color": ["red"]}, "circle").tolist() == [[0]]


@pytest.mark.parametrize("style", VALUES)
def test_an_oriented_arrow_points_where_its_name_says(style: str) -> None:
    """It is widest across at its head, which lies in the half that it points to; forward is down on the screen."""
    words = VALUES[style]["orientation"]
    space = ConceptSpace.named({"shape": ["arrow"], "orientation": words})
    picture = PictureConfig(size=96, rotation=0.0, clevr=ClevrConfig(camera_jitter=0.0))
    renderer = make_renderer(style, space, picture, max_objects=1, seed=0)
    scenes = Scenes(space, np.arange(4)[:, None], np.full((4, 1, 2), 0.5, dtype=np.float32))
    ends = {"leftward": (0, -1), "rightward": (0, 1), "upward": (1, -1), "downward": (1, 1)}
    ends |= {"backward": (1, -1), "forward": (1, 1)}
    for word, (_, (drawn,)) in zip(words, renderer.draw(scenes, "val", 0)):
        axis, sign = ends[word]
        across = drawn.mask.sum(axis=axis)
        widest = np.flatnonzero(across == across.max()).mean() / (len(across) - 1)
        assert sign * (widest - 0.5) > 0.02, word

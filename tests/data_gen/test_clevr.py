"""3-D pictures: the same in any batch and process, objects whole, ids that agree, changes only where objects act."""

import hashlib
import multiprocessing
from itertools import combinations

import numpy as np
import pytest

from data_gen.config import ClevrConfig, PictureConfig, load_config
from data_gen.render.clevr.renderer import ClevrRenderer
from data_gen.render.tables import VALUES
from dualenc.errors import InputError
from dualenc.scenes import ConceptSpace, Scenes, uniform

CLEVR = {
    "color": VALUES["clevr"]["color"][:8],
    "shape": ["sphere", "cube", "cylinder"],
    "size": ["small", "large"],
    "material": VALUES["clevr"]["material"],
}


def renderer_of(
    concepts: dict[str, list[str]], size: int = 64, max_objects: int = 5, **picture: object
) -> ClevrRenderer:
    look = PictureConfig(size=size, rotation=180.0, **picture)
    return ClevrRenderer(ConceptSpace.named(concepts), look, max_objects=max_objects, seed=3)


def scenes_of(renderer: ClevrRenderer, number: int, num_objects: int = 5, border: float | None = None) -> Scenes:
    """Scenes of 1 to `num_objects` objects on a jittered grid of 3 x 3 places."""
    draws = uniform(5, "val", "test", 0, number, 9 + 3 * num_objects)
    order = np.argsort(draws[:, :9], axis=1)[:, :num_objects]
    low = renderer.margin if border is None else border
    grid = np.stack([order % 3, order // 3], axis=-1) / 2 * (1 - 2 * low) + low
    jitter = draws[:, 9 : 9 + 2 * num_objects].reshape(number, num_objects, 2) - 0.5
    positions = np.clip(grid + 0.06 * jitter, low, 1 - low).astype(np.float32)
    objects = (draws[:, -num_objects:] * renderer.space.num_objects).astype(np.int64)
    absent = np.arange(num_objects) > np.arange(number)[:, None] % num_objects
    objects[absent], positions[absent] = -1, np.nan
    return Scenes(renderer.space, objects, positions)


def pixels_of(renderer: ClevrRenderer, scenes: Scenes, start: int = 0) -> np.ndarray:
    return np.stack([pixels for pixels, _ in renderer.draw(scenes, "train", start)])


def shown(renderer: ClevrRenderer, scenes: Scenes) -> np.ndarray:
    """bool [n]: whether the pictures show every object."""
    return np.array([renderer.shows(drawn) for _, drawn in renderer.draw(scenes, "train", 0)])


def test_a_picture_depends_on_its_number_and_scene_alone() -> None:
    renderer = renderer_of(CLEVR)
    scenes = scenes_of(renderer, 10)
    whole = pixels_of(renderer, scenes)
    np.testing.assert_array_equal(pixels_of(renderer, scenes[6:], 6), whole[6:])
    small = renderer_of(CLEVR)
    small.__dict__["_batch"] = 3
    np.testing.assert_array_equal(pixels_of(small, scenes), whole)
    mixed = np.array([7, 2, 9])
    np.testing.assert_array_equal(
        np.stack([pixels for pixels, _ in renderer.draw(scenes[mixed], "train", mixed)]), whole[mixed]
    )
    other = np.stack([pixels for pixels, _ in renderer.draw(scenes, "val", 0)])
    assert (other != whole).any(axis=(1, 2, 3)).all(), "cameras and lights differ between splits"


def test_each_number_has_a_camera_and_lights_of_its_own() -> None:
    renderer = renderer_of({"shape": ["sphere"]}, size_jitter=0.0, color_jitter=0.0)
    places = np.full((5, 1, 2), 0.5, dtype=np.float32)
    pictures = pixels_of(renderer, Scenes(renderer.space, np.zeros((5, 1), dtype=np.int64), places))
    assert len(np.unique(pictures.reshape(5, -1), axis=0)) == 5
    still = renderer_of(
        {"shape": ["sphere"]}, size_jitter=0.0, color_jitter=0.0, clevr=ClevrConfig(camera_jitter=0.0, light_jitter=0.0)
    )
    pictures = pixels_of(still, Scenes(still.space, np.zeros((5, 1), dtype=np.int64), places))
    assert (pictures == pictures[0]).all()


def test_wider_arrays_change_nothing() -> None:
    """The numbers of a slot do not depend on how many slots the scenes' arrays have."""
    renderer = renderer_of(CLEVR)
    scenes = scenes_of(renderer, 4)
    wide = Scenes(
        scenes.space,
        np.pad(scenes.objects, ((0, 0), (0, 3)), constant_values=-1),
        np.pad(scenes.positions, ((0, 0), (0, 3), (0, 0)), constant_values=np.nan),
    )
    np.testing.assert_array_equal(pixels_of(renderer, wide), pixels_of(renderer, scenes))


def digest(number: int) -> str:
    renderer = renderer_of(CLEVR)
    return hashlib.sha256(pixels_of(renderer, scenes_of(renderer, number)).tobytes()).hexdigest()


def test_other_processes_draw_the_same_bytes() -> None:
    here = digest(5)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(digest, [5]) == here


def test_drawn_agrees_with_the_id_buffer() -> None:
    renderer = renderer_of(CLEVR)
    scenes = scenes_of(renderer, 12)
    ids = renderer.render(scenes, "train", 0).ids
    for i, (_, drawn) in enumerate(renderer.draw(scenes, "train", 0)):
        assert len(drawn) == scenes.counts[i]
        rebuilt = np.full_like(ids[i], -1)
        for slot, what in enumerate(drawn):
            x0, y0, x1, y1 = what.box
            assert what.visible_pixels == what.mask.sum()
            assert what.mask.any(axis=0)[[0, -1]].all()
            assert what.mask.any(axis=1)[[0, -1]].all()
            assert max(x1 - x0, y1 - y0) <= 1.3 * what.size + 2
            rebuilt[y0:y1, x0:x1][what.mask] = slot
        np.testing.assert_array_equal(rebuilt, ids[i])


@pytest.mark.parametrize(("border", "least"), [(0.02, 0.0005), (None, 0.01)])
def test_pictures_with_cut_and_hidden_objects_are_known(border: float | None, least: float) -> None:
    """Places at the border cut objects; with none there, it is hidden and small ones that are refused."""
    renderer = renderer_of(CLEVR, object_size=0.25, clevr=ClevrConfig(min_visible=least))
    scenes = scenes_of(renderer, 60, border=border)
    accepted = shown(renderer, scenes)
    assert 0.1 < accepted.mean() < 0.95
    cut, hidden = np.zeros(60, dtype=bool), np.zeros(60, dtype=bool)
    for i, (ids, count) in enumerate(zip(renderer.render(scenes, "train", 0).ids, scenes.counts)):
        cut[i] = max(ids[0].max(), ids[-1].max(), ids[:, 0].max(), ids[:, -1].max()) >= 0
        hidden[i] = min((ids == slot).sum() for slot in range(count)) < round(least * 64**2)
    np.testing.assert_array_equal(accepted, ~cut & ~hidden)
    assert (cut & ~hidden).any() if border else (hidden & ~cut).any()


def test_scenes_inside_the_margin_are_nearly_always_whole() -> None:
    renderer = renderer_of(CLEVR)
    scenes = scenes_of(renderer, 60)
    assert shown(renderer, scenes).mean() > 0.85


@pytest.mark.parametrize("concept", ["color", "shape", "material"])
def test_a_minimal_pair_differs_only_where_the_two_objects_act(concept: str) -> None:
    """Exchanging one value of two objects leaves every other pixel's bytes as they are."""
    renderer = renderer_of(CLEVR, size=96)
    scenes = scenes_of(renderer, 30)
    scenes = scenes[scenes.counts >= 3]
    column = renderer.space.names.index(concept)
    values = np.maximum(scenes.values, 0)
    values[:, [0, 1], column] = values[:, [1, 0], column]
    swapped = Scenes(scenes.space, np.where(scenes.objects < 0, -1, scenes.space.encode(values)), scenes.positions)
    first, second = renderer.render(scenes, "train", 0), renderer.render(swapped, "train", 0)
    assert first.influence is not None
    assert second.influence is not None
    acted = ((first.influence | second.influence) & 0b11) != 0
    changed = (first.pixels != second.pixels).any(axis=-1)
    assert not (changed & ~acted).any()
    assert acted.mean() < 0.45, "the two objects, their shadows and reflections are not half of the picture"
    differ = scenes.values[:, 0, column] != scenes.values[:, 1, column]
    assert changed[differ].any(axis=(1, 2)).all()
    assert not changed[~differ].any()
    if concept == "color":  # nothing else may hide the rest of the change: shadows stay, so only objects' own pixels
        own = (first.ids >= 0) & (first.ids < 2)
        assert (changed & own).sum() > 0.5 * changed.sum()


@pytest.mark.parametrize("size", [50, 64, 128, 224])
def test_any_size_shows_the_same_scene(size: int) -> None:
    small, large = renderer_of(CLEVR, size), renderer_of(CLEVR, 2 * size)
    scenes = scenes_of(small, 2)
    a = pixels_of(small, scenes).astype(float)
    b = pixels_of(large, scenes).astype(float)
    assert a.shape == (2, size, size, 3)
    halved = b.reshape(2, size, 2, size, 2, 3).mean(axis=(2, 4))
    assert np.abs(a - halved).mean() < 1.0
    assert a.std() > 10


def test_edges_come_close_to_sixteen_samples_everywhere() -> None:
    renderer = renderer_of(CLEVR, 96)
    scenes = scenes_of(renderer, 6)
    reference = renderer.render(scenes, "train", 0, samples=4, everywhere=True).pixels.astype(float)
    ours = np.abs(renderer.render(scenes, "train", 0).pixels - reference).mean()
    one = np.abs(renderer.render(scenes, "train", 0, samples=1).pixels - reference).mean()
    assert ours < 0.3
    assert ours < 0.5 * one


def test_places_are_right_and_near_where_positions_say() -> None:
    renderer = renderer_of({"shape": ["sphere"]})
    places = np.array([[[0.3, 0.3]], [[0.7, 0.3]], [[0.3, 0.7]]], dtype=np.float32)
    scenes = Scenes(renderer.space, np.zeros((3, 1), dtype=np.int64), places)
    for number in range(20):
        same = np.full(3, number)
        (left,), (right,), (front,) = (drawn for _, drawn in renderer.draw(scenes, "train", same))
        assert left.box[0] < right.box[0]
        assert left.box[3] < front.box[3]
        assert left.size < front.size


@pytest.mark.parametrize(("concept", "least"), [("material", 6.0), ("pattern", 5.0), ("size", 8.0), ("color", 3.0)])
def test_values_differ_on_the_object(concept: str, least: float) -> None:
    """Mean absolute difference, in bytes, inside the object's box, for the nearest two values."""
    renderer = renderer_of({concept: VALUES["clevr"][concept], "shape": ["sphere", "cube"]}, object_size=0.4)
    number = len(VALUES["clevr"][concept])
    for shape in range(2):
        objects = renderer.space.encode(np.array([[[value, shape]] for value in range(number)]))
        scenes = Scenes(renderer.space, objects, np.full((number, 1, 2), 0.5, dtype=np.float32))
        drawn = list(renderer.draw(scenes, "train", np.zeros(number, dtype=np.int64)))
        boxes = np.array([what[0].box for _, what in drawn])
        (x0, y0), (x1, y1) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        crops = [pixels[y0:y1, x0:x1].astype(float) for pixels, _ in drawn]
        worst = min(np.abs(a - b).mean() for a, b in combinations(crops, 2))
        assert worst > least, f"{concept}: {worst:.1f}"


def test_no_solid_is_cut_by_its_bounding_sphere() -> None:
    """With half as large a sphere again around each solid, the same pixels show it."""
    shapes = VALUES["clevr"]["shape"]
    renderer = renderer_of({"shape": shapes}, object_size=0.4)
    objects = np.arange(len(shapes))[:, None].repeat(2, axis=0)
    scenes = Scenes(renderer.space, objects, np.full((len(objects), 1, 2), 0.5, dtype=np.float32))
    ids = renderer.render(scenes, "train", 0).ids
    plain = renderer.setting

    def wider(*arguments: object) -> object:
        setting = plain(*arguments)  # type: ignore[arg-type]
        setting.things["bound"] *= 1.5
        return setting

    renderer.setting = wider  # type: ignore[method-assign, assignment]
    again = renderer.render(scenes, "train", 0).ids
    assert (ids >= 0).any(axis=(1, 2)).all()
    moved, visible = (ids != again).sum(axis=(1, 2)), (ids >= 0).sum(axis=(1, 2))
    assert (moved <= 0.05 * visible).all()  # marching from elsewhere decides a few grazing rays otherwise


def test_bad_settings_are_refused() -> None:
    for override in ("clevr.samples=0", "clevr.camera_jitter=2", "clevr.min_visible=0.5"):
        with pytest.raises(InputError, match=r"data\.picture\.clevr"):
            load_config("configs/data/clevr.yaml", [f"data.picture.{override}"])

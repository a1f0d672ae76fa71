"""Bag levels against enumeration of every m-subset, and the figures worked out by hand."""

import itertools
import math
import time

import numpy as np
import pytest

import dualenc.metrics.bag as bag
from dualenc.metrics import bag_ceiling, bag_ceiling_split, bag_level, bag_levels, binding_gain
from dualenc.scenes import ConceptSpace


def scene(*objects: tuple[int, ...]) -> np.ndarray:
    return np.array([objects], dtype=np.int16)


def brute(values: np.ndarray, allowed: set[tuple[int, ...]] | None = None) -> tuple[float, float]:
    """(level, ceiling) of one scene by listing candidates and all their m-subsets."""
    objects = {tuple(int(v) for v in o) for o in values if o[0] >= 0}
    present = [{o[c] for o in objects} for c in range(values.shape[1])]
    candidates = [o for o in itertools.product(*present) if allowed is None or o in allowed]
    subsets = list(itertools.combinations(candidates, len(objects)))
    covering = [s for s in subsets if [{o[c] for o in s} for c in range(len(present))] == present]
    return 1 / len(subsets), 1 / len(covering)


@pytest.mark.parametrize(
    ("values", "level", "ceiling"),
    [
        (scene((0, 0)), 1, 1),
        (scene((0, 0), (1, 1)), 1 / 6, 1 / 2),  # nothing shared
        (scene((0, 0), (0, 1)), 1, 1),  # one of two values shared: the bag tells all
        (scene((3, 5), (3, 5)), 1, 1),  # identical objects are one distinct object
        (scene((0, 0), (1, 1), (-1, -1)), 1 / 6, 1 / 2),  # padding
        (scene((0, 0, 0), (1, 1, 1)), 1 / 28, 1 / 4),
        (scene((0, 0, 0), (0, 1, 1)), 1 / 6, 1 / 2),
        (scene((0, 0), (1, 1), (2, 2)), 1 / 84, 1 / 6),  # 3! matchings
        (scene((0, 0), (1, 1), (0, 1)), 1 / 4, 1 / 4),  # K = 4: any three of four cover both values twice
        (scene((0, 0), (1, 1), (0, 2)), 1 / 20, 1 / 6),
    ],
)
def test_by_hand(values: np.ndarray, level: float, ceiling: float):
    assert bag_level(values).tolist() == [level]
    assert bag_ceiling(values).tolist() == [ceiling]
    assert brute(values[0]) == (level, ceiling)


def random_scenes(seed: int, sizes: tuple[int, ...], m: int, n: int) -> np.ndarray:
    """Scenes of 1..m objects, identical ones included, in random slots."""
    rng = np.random.default_rng(seed)
    values = np.stack([rng.integers(0, size, (n, m)) for size in sizes], axis=2).astype(np.int16)
    gone = rng.random((n, m)) < 0.25
    gone[:, 0] = False
    values[gone] = -1
    return values[:, rng.permutation(m)]


@pytest.mark.parametrize(("sizes", "m"), [((5, 4), 4), ((2, 7), 5), ((3, 3, 4), 3), ((2, 2, 2, 3), 3), ((6,), 3)])
def test_levels_match_enumeration(sizes: tuple[int, ...], m: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bag, "_CHUNK", 64)  # several chunks per shape
    values = random_scenes(0, sizes, m, 60)
    space = list(itertools.product(*(range(s) for s in sizes)))
    status = np.random.default_rng(1).choice([0, 0, 1, 2], len(space)).astype(np.int8)
    by_object = dict(zip(space, status, strict=True))
    expected = []
    for scene_values in values:
        heldout = {by_object[tuple(o)] != 0 for o in scene_values.tolist() if o[0] >= 0}
        allowed = {o for o in space if (by_object[o] != 0) in heldout}
        expected.append((*brute(scene_values), brute(scene_values, allowed)[1]))
    levels = bag_levels(values, status=status, sizes=sizes)
    assert levels.ceiling_split is not None
    got = np.stack([levels.level, levels.ceiling, levels.ceiling_split], axis=1)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    if len(sizes) > 1:
        assert (got[:, 2] > got[:, 1]).any()  # the split narrows some scenes
        assert (got[:, 2] == got[:, 1]).any()


def test_split_ceiling_with_every_object_allowed_is_the_ceiling():
    values = random_scenes(3, (9, 9, 9), 7, 40)
    status = np.zeros(9**3, dtype=np.int8)
    split = bag_ceiling_split(values, status=status, sizes=(9, 9, 9))
    assert split is not None
    assert split.tolist() == bag_ceiling(values).tolist()  # exact, down to 1e-10


def test_split_ceiling_by_hand():
    """Scene {(0,0), (1,1)}: the only rival is {(0,1), (1,0)}, possible if both share the scene's status."""
    values = np.concatenate([scene((0, 0), (1, 1)), scene((0, 1), (1, 0)), scene((0, 0), (1, 0))])
    assert bag_ceiling_split(values, status=np.array([0, 0, 0, 0], np.int8), sizes=(2, 2)).tolist() == [0.5, 0.5, 1]
    assert bag_ceiling_split(values, status=np.array([0, 1, 0, 0], np.int8), sizes=(2, 2)).tolist() == [1, 0.5, 1]
    assert bag_ceiling_split(values, status=np.array([1, 0, 0, 2], np.int8), sizes=(2, 2)).tolist() == [1, 1, 1]


@pytest.mark.parametrize("first", [0, 1])
def test_padding_is_of_no_status(first: int):
    """Scene {(0,1), (1,0)} and an empty slot; its rival {(0,0), (1,1)} has the other status, whatever id 0 has."""
    values = scene((0, 1), (-1, -1), (1, 0))
    status = np.array([first, 1 - first, 1 - first, first], dtype=np.int8)
    assert bag_ceiling_split(values, status=status, sizes=(2, 2)).tolist() == [1.0]


def test_two_concepts_of_20_values_at_low_coverage_have_a_high_split_ceiling():
    rng = np.random.default_rng(0)
    status = np.ones(400, dtype=np.int8)
    train = rng.choice(400, 40, replace=False)
    status[train] = 0
    objects = np.stack([rng.choice(train, 2, replace=False) for _ in range(2000)])
    values = np.stack([objects // 20, objects % 20], axis=2)
    split = bag_ceiling_split(values, status=status, sizes=(20, 20))
    assert split is not None
    no_shared = (values[:, 0] != values[:, 1]).all(axis=1)
    assert split.mean() > 0.9 > 0.6 > bag_ceiling(values).mean()
    assert set(split[no_shared]) == {0.5, 1.0}


def test_costly_scenes_give_none_not_a_guess():
    values = np.stack([np.arange(6)] * 3, axis=1)[None]
    status = np.zeros(6**3, dtype=np.int8)
    assert bag_ceiling_split(values, status=status, sizes=(6, 6, 6), max_subsets=2**12) is not None
    assert bag_ceiling_split(values, status=status, sizes=(6, 6, 6), max_subsets=2**12 - 1) is None
    assert bag_ceiling(values).tolist() == [1 / math.factorial(6) ** 2]


def test_ids_are_those_of_the_concept_space():
    space = ConceptSpace.named({"a": ["x", "y"], "b": ["p", "q", "r"], "c": ["u", "v", "w", "z"]})
    ids = np.arange(space.num_objects)
    assert bag.row_major_ids(space.decode(ids)[None], space.sizes).tolist() == [ids.tolist()]


def test_a_split_takes_milliseconds():
    values = random_scenes(0, (16, 8), 2, 2000)
    start = time.perf_counter()
    bag_levels(values, status=np.zeros(128, dtype=np.int8), sizes=(16, 8))
    assert time.perf_counter() - start < 0.5


def test_gain_is_a_ratio_of_means_over_open_scenes():
    recognised = np.array([True, True, False, True])
    ceiling = np.array([0.5, 0.5, 0.2, 1.0])
    gain = binding_gain(recognised, ceiling)
    assert gain["binding_gain_count"] == 3
    assert gain["binding_gain"] == pytest.approx((2 / 3 - 0.4) / (1 - 0.4))
    assert binding_gain(~recognised, np.full(4, 0.5))["binding_gain"] == pytest.approx(-0.5)
    assert binding_gain(recognised, np.ones(4)) == {"binding_gain": None, "binding_gain_count": 0.0}

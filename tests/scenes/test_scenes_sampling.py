"""Scenes: a pure function of (seed, split, number), with the distribution that was asked for."""

import re
import zlib
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest

from dualenc.errors import InputError
from dualenc.scenes import OOD, SPLITS, TRAIN, VAL_OOD, ConceptSpace, ObjectSplit, Scenes, SceneSampler, uniform
from dualenc.scenes.choices import distinct, pick
from dualenc.scenes.random import philox

SPACE = ConceptSpace.symbolic(num_concepts=2, num_values=8)
SPLIT = ObjectSplit.uniform(SPACE, coverage=0.7, seed=0, val_fraction=0.1, max_objects=4)
ALLOWED = {"train": {TRAIN}, "val": {TRAIN}, "val_ood": {VAL_OOD}, "ood": {OOD}, "mixed": {TRAIN, OOD}}


def sampler(split: ObjectSplit = SPLIT, **options: Any) -> SceneSampler:
    return SceneSampler(split, **{"seed": 1, "counts": {1: 0.2, 2: 0.5, 4: 0.3}, **options})


def tiny(space: ConceptSpace, train: list[int], val_ood: list[int], ood: list[int]) -> ObjectSplit:
    return ObjectSplit(space, *(np.array(ids, dtype=np.int64) for ids in (train, val_ood, ood)))


def assert_uniform(counts: np.ndarray) -> None:
    """Pearson's chi-square, normal approximation, five standard deviations."""
    expected, freedom = counts.sum() / len(counts), len(counts) - 1
    assert expected >= 5
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - freedom) < 5 * np.sqrt(2 * freedom), chi_square


def test_random_numbers_are_a_function_of_their_row() -> None:
    whole = uniform(3, "train", "x", 0, 50, 7)
    assert whole.shape == (50, 7)
    assert np.array_equal(whole[13:29], uniform(3, "train", "x", 13, 29, 7))
    others = [uniform(4, "train", "x", 0, 50, 7), uniform(3, "val", "x", 0, 50, 7), uniform(3, "train", "y", 0, 50, 7)]
    assert len({whole.tobytes(), *(draw.tobytes() for draw in others)}) == 4
    assert len(np.unique(whole)) == 350
    many = uniform(0, "train", "x", 0, 20_000, 5)
    assert many.min() >= 0
    assert many.max() < 1
    assert_uniform(np.bincount((many * 20).astype(int).ravel(), minlength=20))
    assert np.abs(np.corrcoef(np.concatenate([many[:-1], many[1:]], axis=1).T) - np.eye(10)).max() < 0.04


@pytest.mark.parametrize("name", SPLITS)
def test_any_range_gives_the_same_scenes(name: str) -> None:
    whole = sampler(collision_rate=0.5, min_distance=0.25, margin=0.1).draw(name, 0, 60)
    for start, stop in ((0, 1), (7, 20), (8, 9), (59, 60), (5, 5)):
        part = sampler(collision_rate=0.5, min_distance=0.25, margin=0.1).draw(name, start, stop)
        assert np.array_equal(part.objects, whole.objects[start:stop])
        assert np.array_equal(part.positions, whole.positions[start:stop], equal_nan=True)


def test_splits_and_seeds_are_different_scenes() -> None:
    drawn = [sampler().draw("train", 0, 40), sampler().draw("val", 0, 40), sampler(seed=2).draw("train", 0, 40)]
    assert len({scenes.objects.tobytes() for scenes in drawn}) == 3
    assert len({scenes.positions.tobytes() for scenes in drawn}) == 3


@pytest.mark.parametrize("name", SPLITS)
def test_scenes_hold_allowed_distinct_objects_first_to_last(name: str) -> None:
    scenes = sampler().draw(name, 0, 2000)
    present = scenes.objects >= 0
    assert set(SPLIT.status(scenes.objects[present]).tolist()) == ALLOWED[name]
    assert np.array_equal(present, np.arange(4) < scenes.counts[:, None])
    for listed in scenes.objects:
        shown = listed[listed >= 0].tolist()
        assert len(set(shown)) == len(shown)
    if name == "mixed":
        status = np.where(present, SPLIT.status(np.maximum(scenes.objects, 0)), -1)
        assert np.all((status == TRAIN).any(axis=1) & (status == OOD).any(axis=1))
        number = (status == OOD).sum(axis=1)[scenes.counts == 4]
        assert_uniform(np.bincount(number, minlength=4)[1:])
        assert_uniform((status[scenes.counts == 2] == OOD).sum(axis=0)[:2])


@pytest.mark.parametrize("collision_rate", [0.0, 0.5])
def test_counts_are_honoured(collision_rate: float) -> None:
    for name in ("train", "val"):
        counts = sampler(collision_rate=collision_rate).draw(name, 0, 20_000).counts
        for count, share in ((1, 0.2), (2, 0.5), (4, 0.3)):
            # Partners share a count, so there are only half as many draws.
            assert abs((counts == count).mean() - share) < 5 * np.sqrt(share * (1 - share) / 10_000)
    assert set(sampler().draw("mixed", 0, 500).counts.tolist()) == {2, 4}


def test_ordered_tuples_are_uniform() -> None:
    space = ConceptSpace.symbolic(num_concepts=2, num_values=3)
    split = tiny(space, [0, 1, 3, 4, 8], [2, 5], [6, 7])
    objects = SceneSampler(split, seed=0, counts={2: 1.0}).draw("train", 0, 8000).objects
    tuples, number = np.unique(objects, axis=0, return_counts=True)
    assert len(tuples) == 20
    assert_uniform(number)
    objects = SceneSampler(split, seed=0, counts={2: 1.0}, duplicates=True).draw("train", 0, 10_000).objects
    tuples, number = np.unique(objects, axis=0, return_counts=True)
    assert len(tuples) == 25
    assert_uniform(number)


def test_distinct_draws_are_distinct_and_uniform_where_bounds_differ() -> None:
    draws = uniform(0, "train", "distinct", 0, 12_000, 3)
    bound = np.where(np.arange(12_000) % 2, 3, 5)
    picks = distinct(draws, bound)
    assert np.all(picks < bound[:, None])
    for limit, tuples in ((3, 6), (5, 60)):
        found, number = np.unique(picks[bound == limit], axis=0, return_counts=True)
        assert len(found) == tuples
        assert_uniform(number)


def test_a_generator_is_that_of_its_key() -> None:
    for seed, counter in ((0, 5), (2**63 + 1, [0, 0, 0, 7])):
        key = np.array([seed, zlib.crc32(b"train/objects")], dtype=np.uint64)
        expected = np.random.Philox(key=key, counter=counter).random_raw(9)
        for _ in range(2):  # the second one from the key that the first has left
            assert np.array_equal(philox(seed, "train", "objects", counter).random_raw(9), expected)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_picks_are_the_drawn_ones_among_the_legal(share: float) -> None:
    legal = np.random.default_rng(0).random((200, 7)) < share
    draws = uniform(0, "train", "pick", 0, 200, 2)
    for layout in (legal, np.asfortranarray(legal)):
        position, exists = pick(layout, draws)
        number = legal.sum(axis=1)
        assert np.array_equal(exists, np.arange(2) < number[:, None])
        for row, nth, at, there in zip(legal, distinct(draws, number), position, exists):
            assert at.tolist() == [np.flatnonzero(row)[k] if ok else 0 for k, ok in zip(nth, there)]


def test_places_keep_their_distance_and_margin() -> None:
    scenes = sampler(min_distance=0.3, margin=0.12).draw("train", 0, 1500)
    assert np.array_equal(np.isnan(scenes.positions).any(axis=-1), scenes.objects < 0)
    inside = scenes.positions[scenes.objects >= 0]
    assert inside.dtype == np.float32
    assert inside.min() > 0.12 - 1e-6
    assert inside.max() < 0.88 + 1e-6
    assert inside.min() < 0.13
    assert inside.max() > 0.87
    four = scenes.positions[scenes.counts == 4]
    assert (
        min(np.linalg.norm(four[:, i] - four[:, j], axis=-1).min() for i, j in combinations(range(4), 2)) > 0.3 - 1e-6
    )


def test_objects_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="do not fit"):
        sampler(min_distance=0.9, margin=0.1).draw("train", 0, 4)


def exchanged(a: int, b: int, concept: int) -> set[int]:
    values = SPACE.decode(np.array([a, b]))
    values[:, concept] = values[::-1, concept]
    return set(SPACE.encode(values).tolist())


@pytest.mark.parametrize(("rate", "number"), [(0.25, 500), (0.8, 1600), (0.6, 1200)])
def test_partners_exchange_one_value_and_nothing_else(rate: float, number: int) -> None:
    chosen = sampler(collision_rate=rate)
    scenes, paired = chosen.draw("train", 0, 2000), chosen.partners(0, 2000)
    assert paired.sum() == number
    assert np.array_equal(paired[::2], paired[1::2])
    assert np.array_equal(chosen.partners(300, 401), paired[300:401])
    assert set(SPLIT.status(scenes.objects[scenes.objects >= 0]).tolist()) == {TRAIN}
    for j in np.flatnonzero(paired[::2]).tolist():
        left, right = (scenes.objects[i][scenes.objects[i] >= 0].tolist() for i in (2 * j, 2 * j + 1))
        slots = [slot for slot, (a, b) in enumerate(zip(left, right)) if a != b]
        assert len(left) == len(right) == len(set(left)) == len(set(right))
        assert len(slots) == 2
        old, new = ({scene[slot] for slot in slots} for scene in (left, right))
        assert any(exchanged(*(left[slot] for slot in slots), concept) == new for concept in range(2))
        assert not old & new


def test_swapped_objects_stand_anywhere_in_any_order() -> None:
    """Neither the place in the scene nor the order of their numbers tells which objects were exchanged."""
    chosen = sampler(counts={3: 1.0}, collision_rate=1.0)
    objects = chosen.draw("train", 0, 6000).objects
    assert_uniform(np.bincount(np.argmax(objects[::2] == objects[1::2], axis=1), minlength=3))
    two = sampler(counts={2: 1.0}, collision_rate=1.0).draw("train", 0, 6000).objects
    for rows in (two[::2], two[1::2]):
        assert_uniform(np.bincount((rows[:, 0] < rows[:, 1]).astype(int), minlength=2))


def test_every_swappable_pair_is_drawn_equally_often() -> None:
    space = ConceptSpace.symbolic(num_concepts=2, num_values=4)
    split = tiny(space, [0, 1, 4, 5, 10, 11, 14, 15, 2], [3, 6, 7, 8], [9, 12, 13])
    pairs = {
        frozenset(pair)
        for pair in combinations(split.train.tolist(), 2)
        if all(
            np.isin(space.encode(np.array([[x[0], y[1]], [y[0], x[1]]])), split.train).all()
            and x[0] != y[0]
            and x[1] != y[1]
            for x, y in [space.decode(np.array(pair))]
        )
    }
    objects = SceneSampler(split, seed=0, counts={2: 1.0}, collision_rate=1.0).draw("train", 0, 4000).objects
    seen, number = np.unique(np.sort(objects[::2], axis=1), axis=0, return_counts=True)
    assert {frozenset(pair) for pair in seen.tolist()} == pairs
    assert_uniform(number)


def test_a_large_space_has_partners_too() -> None:
    space = ConceptSpace.symbolic(num_concepts=3, num_values=50)
    split = ObjectSplit.uniform(space, coverage=0.4, seed=0)
    objects = SceneSampler(split, seed=0, counts={2: 1.0}, collision_rate=1.0).draw_objects("train", 0, 400)
    assert np.all(split.status(objects) == TRAIN)
    bags = np.sort(space.decode(objects), axis=1)
    assert np.array_equal(bags[::2], bags[1::2])
    assert not np.any(np.sort(objects[::2], axis=1) == np.sort(objects[1::2], axis=1))


def test_an_unreachable_collision_rate_names_one_that_works() -> None:
    counts = {1: 1 / 3, 2: 2 / 3}
    with pytest.raises(InputError, match="collision_rate") as caught:
        sampler(counts=counts, collision_rate=0.9)
    most = float(re.search(r"at most ([\d.]+) of", str(caught.value)).group(1))  # type: ignore[union-attr]
    assert 0.66 < most <= 2 / 3
    assert sampler(counts=counts, collision_rate=most).partners(0, 2000).mean() == pytest.approx(most, abs=1e-3)
    diagonal = tiny(SPACE, [9 * v for v in range(8)], [1, 2, 3, 4], [5, 6, 7, 8])
    with pytest.raises(InputError, match="at most 0 of"):
        SceneSampler(diagonal, seed=0, counts={2: 1.0}, collision_rate=0.1)
    for rate in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="collision_rate"):
            sampler(collision_rate=rate)


@pytest.mark.parametrize("num_objects", [1, 2, 3])
def test_exhaustive_scenes_are_all_ordered_tuples_once(num_objects: int) -> None:
    space = ConceptSpace.symbolic(num_concepts=2, num_values=3)
    split = tiny(space, [0, 1, 4, 8], [2, 5], [3, 6, 7])
    every = SceneSampler(split, seed=0, counts={num_objects: 1.0}, sampling="exhaustive")
    for name, ids in (("train", split.train), ("val", split.train), ("val_ood", split.val_ood), ("ood", split.ood)):
        total = every.num_exhaustive(name)
        assert total == len(ids) ** num_objects
        tuples = list(product(ids.tolist(), repeat=num_objects))
        assert every.draw(name, 0, total).objects.tolist() == [list(listed) for listed in tuples]
        assert every.draw(name, 1, total - 1).objects.tolist() == [list(listed) for listed in tuples[1:-1]]
        with pytest.raises(InputError, match=f"only {total} scenes"):
            every.draw(name, 0, total + 1)


def test_exhaustive_mixed_scenes_hold_both_kinds() -> None:
    space = ConceptSpace.symbolic(num_concepts=2, num_values=3)
    split = tiny(space, [0, 1, 4, 8], [2, 5], [3, 6, 7])
    train, ood = set(split.train.tolist()), set(split.ood.tolist())
    for m in (2, 3):
        every = SceneSampler(split, seed=0, counts={m: 1.0}, sampling="exhaustive")
        both = [t for t in product([*train, *ood], repeat=m) if train & set(t) and ood & set(t)]
        total = every.num_exhaustive("mixed")
        drawn = every.draw("mixed", 0, len(both)).objects
        assert total == len(both)
        assert sorted(map(tuple, drawn.tolist())) == sorted(both)
        assert np.array_equal(every.draw("mixed", 3, 10).objects, drawn[3:10])
    single = SceneSampler(split, seed=0, counts={1: 1.0}, sampling="exhaustive")
    with pytest.raises(InputError, match="mixed scene needs two objects"):
        single.draw("mixed", 0, 1)


def test_exhaustive_scenes_of_a_space_too_large_to_count_in_64_bits() -> None:
    space = ConceptSpace.symbolic(num_concepts=2, num_values=512)
    ids = np.random.default_rng(0).permutation(space.num_objects)
    split = ObjectSplit(space, np.sort(ids[: 1 << 16]), np.sort(ids[1 << 16 : 1 << 17]), np.sort(ids[1 << 17 :]))
    every = SceneSampler(split, seed=0, counts={6: 1.0}, sampling="exhaustive")
    objects = every.draw_objects("train", 1 << 40, (1 << 40) + 2)
    assert np.searchsorted(split.train, objects).tolist() == [[0, 0, 0, 256, 0, 0], [0, 0, 0, 256, 0, 1]]
    assert np.array_equal(every.draw_objects("mixed", 0, 3)[:, :5], np.broadcast_to(split.train[0], (3, 5)))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"counts": {}}, "objects"),
        ({"counts": {0: 1.0}}, "objects"),
        ({"counts": {1: -1.0, 2: 2.0}}, "objects"),
        ({"counts": {2: 0.0}}, "objects"),
        ({"counts": {2: float("nan")}}, "objects"),
        ({"counts": {9: 1.0}}, "9 distinct objects"),
        ({"counts": {1: 0.5, 13: 0.5}}, "objects: 13 objects in a scene are too many.*at most 12"),
        ({"sampling": "sorted"}, "sampling"),
        ({"sampling": "exhaustive"}, "one object count"),
        ({"sampling": "exhaustive", "counts": {2: 1.0}, "collision_rate": 0.5}, "collision_rate 0"),
    ],
)
def test_impossible_scenes_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        sampler(**options)


def test_a_count_without_probability_is_left_out() -> None:
    chosen = sampler(counts={1: 1.0, 2: 0.0})
    assert chosen.draw("train", 0, 50).objects.shape == (50, 1)
    with pytest.raises(InputError, match="mixed scene needs two objects"):
        chosen.draw("mixed", 0, 2)
    with pytest.raises(InputError, match="test"):
        chosen.draw("test", 0, 2)


def test_scenes_as_arrays() -> None:
    one, two = Scenes.of(SPACE, np.array([[9]])), Scenes.of(SPACE, np.array([[63, 8], [5, -1]]))
    both = Scenes.concatenate([one, two])
    assert both.objects.tolist() == [[9, -1], [63, 8], [5, -1]]
    assert both.counts.tolist() == [1, 2, 1]
    assert both.values.tolist() == [[[1, 1], [-1, -1]], [[7, 7], [1, 0]], [[0, 5], [-1, -1]]]
    assert both[np.array([2, 0])].objects.tolist() == [[5, -1], [9, -1]]
    assert np.isnan(both.positions).all()
    assert len(both[1:]) == 2

"""Object splits: exact counts, margins, cover of every value, and refusals whose numbers can be used."""

import re
from itertools import product

import numpy as np
import pytest

from dualenc.errors import InputError
from dualenc.scenes import ANY, OOD, TRAIN, VAL_OOD, ConceptSpace, ObjectSplit, negated
from dualenc.scenes.concepts import LISTED


def table(split: ObjectSplit) -> np.ndarray:
    """bool [V_1, V_2]: which pairs of values of two concepts are train objects."""
    occurs = np.zeros(split.space.num_objects, dtype=bool)
    occurs[split.train] = True
    return occurs.reshape((*split.space.sizes[:2], -1)).any(axis=2)


def space_of(*sizes: int) -> ConceptSpace:
    return ConceptSpace.named({f"k{k}": [f"k{k}v{v}" for v in range(size)] for k, size in enumerate(sizes)})


def assert_clean(split: ObjectSplit) -> None:
    """Disjoint, sorted, complete; every value occurs in training."""
    everything = np.concatenate([split.train, split.val_ood, split.ood])
    assert np.array_equal(np.sort(everything), np.arange(split.space.num_objects))
    for part, status in ((split.train, TRAIN), (split.val_ood, VAL_OOD), (split.ood, OOD)):
        assert part.dtype == np.int64
        assert np.all(np.diff(part) > 0)
        assert np.all(split.status(part) == status)
    values = split.space.decode(split.train)
    for k, size in enumerate(split.space.sizes):
        assert len(np.unique(values[:, k])) == size
    assert split.coverage == len(split.train) / split.space.num_objects


@pytest.mark.parametrize("coverage", [0.1, 0.25, 0.5, 0.8, 0.9])
def test_a_uniform_split_has_the_exact_count(coverage: float) -> None:
    split = ObjectSplit.uniform(space_of(16, 15), coverage=coverage, seed=3, val_fraction=0.05)
    assert_clean(split)
    assert len(split.train) == round(coverage * 240)
    assert len(split.val_ood) == 12


def test_a_uniform_split_depends_on_its_seed_and_nothing_else() -> None:
    first, again, other = (ObjectSplit.uniform(space_of(9, 9), coverage=0.5, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.train, again.train)
    assert np.array_equal(first.val_ood, again.val_ood)
    assert not np.array_equal(first.train, other.train)


def test_uniform_splits_choose_every_object_equally_often() -> None:
    space = space_of(5, 5)
    number = np.zeros(25)
    for seed in range(400):
        number[ObjectSplit.uniform(space, coverage=0.6, seed=seed).train] += 1
    assert abs(number.sum() - 400 * 15) < 1e-9
    assert np.all(np.abs(number - 240) < 5 * np.sqrt(400 * 0.6 * 0.4))


def test_the_lowest_coverage_still_has_every_value() -> None:
    """One object for each value: a random draw never has them all, a cover is built."""
    for seed in range(5):
        split = ObjectSplit.uniform(space_of(20, 20, 7), coverage=20 / 2800, seed=seed)
        assert_clean(split)
        assert len(split.train) == 20
    low = ObjectSplit.uniform(space_of(20, 20, 7), coverage=25 / 2800, seed=0)
    assert_clean(low)
    assert len(low.train) == 25


def test_ten_million_objects_are_split() -> None:
    split = ObjectSplit.uniform(ConceptSpace.symbolic(num_concepts=3, num_values=216), coverage=0.3, seed=0)
    assert len(split.train) == round(0.3 * 216**3)
    assert len(split.train) + len(split.val_ood) + len(split.ood) == 216**3 > 10**7
    assert split.status(split.ood[-5:]).tolist() == [OOD] * 5


@pytest.mark.parametrize("sizes", [(8, 8), (6, 9), (9, 6), (4, 12), (12, 4)])
@pytest.mark.parametrize("coverage", [0.1, 0.4, 0.5, 0.75])
def test_a_checkerboard_has_equal_margins(sizes: tuple[int, int], coverage: float) -> None:
    split = ObjectSplit.checkerboard(space_of(*sizes), coverage=coverage, seed=1, val_fraction=0.01, max_objects=1)
    assert_clean(split)
    rows, columns = table(split).sum(axis=1), table(split).sum(axis=0)
    assert len(set(rows.tolist())) == len(set(columns.tolist())) == 1
    step = 1 / np.gcd(*sizes)
    reachable = np.arange(step, 1 - step / 2, step)
    assert abs(split.coverage - coverage) == pytest.approx(np.abs(reachable - coverage).min())


@pytest.mark.parametrize("sizes", [(8, 8), (5, 9), (7, 6, 3)])
@pytest.mark.parametrize("coverage", [0.3, 0.55, 0.8, 0.9])
def test_a_block_holds_out_a_rectangle_of_the_nearest_size(sizes: tuple[int, ...], coverage: float) -> None:
    split = ObjectSplit.block(space_of(*sizes), coverage=coverage, seed=1, val_fraction=0.0, max_objects=1)
    assert_clean(split)
    held = ~table(split)
    rows, columns = held.any(axis=1), held.any(axis=0)
    assert np.array_equal(held, rows[:, None] & columns)
    reachable = np.outer(np.arange(1, sizes[0]), np.arange(1, sizes[1])) / (sizes[0] * sizes[1])
    assert abs(1 - split.coverage - (1 - coverage)) == pytest.approx(np.abs(reachable - (1 - coverage)).min())


def test_kinds_are_seeded() -> None:
    for kind in ("checkerboard", "block"):
        trains = [ObjectSplit.make(kind, space_of(8, 8), coverage=0.5, seed=seed).train.tolist() for seed in range(3)]
        assert trains[0] != trains[1] != trains[2]


@pytest.mark.parametrize("coverage", [0.0, 1.0, 1.3, -0.1, float("nan")])
def test_coverage_out_of_range_is_refused(coverage: float) -> None:
    with pytest.raises(InputError, match="coverage"):
        ObjectSplit.uniform(space_of(8, 8), coverage=coverage)


@pytest.mark.parametrize("sizes", [(8, 8), (1001, 3, 2), (47, 213)])
def test_too_low_a_coverage_names_one_that_works(sizes: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="coverage") as caught:
        ObjectSplit.uniform(space_of(*sizes), coverage=max(sizes) / np.prod(sizes) * 0.4)
    least = float(re.search(r"at least ([\d.e-]+)$", str(caught.value)).group(1))  # type: ignore[union-attr]
    assert len(ObjectSplit.uniform(space_of(*sizes), coverage=least).train) >= max(sizes)


@pytest.mark.parametrize("sizes", [(8, 8), (100, 100, 10), (7, 11)])
def test_too_high_a_coverage_names_one_that_works(sizes: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="coverage") as caught:
        ObjectSplit.uniform(space_of(*sizes), coverage=0.999, val_fraction=0.05)
    most = float(re.search(r"coverage of at most ([\d.e-]+)", str(caught.value)).group(1))  # type: ignore[union-attr]
    split = ObjectSplit.uniform(space_of(*sizes), coverage=most, val_fraction=0.05)
    assert len(split.ood) >= 4
    assert most > 0.7


def attempt(
    kind: str, sizes: tuple[int, ...], coverage: float, val_fraction: float, max_objects: int
) -> tuple[ObjectSplit | None, str]:
    """The split, or why it is refused."""
    options = {"coverage": coverage, "val_fraction": val_fraction, "max_objects": max_objects}
    try:
        return ObjectSplit.make(kind, space_of(*sizes), **options), ""  # type: ignore[arg-type]
    except InputError as error:
        return None, str(error)


def with_fix(
    fix: str, kind: str, sizes: tuple[int, ...], coverage: float, val_fraction: float, max_objects: int
) -> ObjectSplit | None:
    """The split after what a refusal advises has been done."""
    number = re.search(r"at most ([\d.e-]+)", fix)
    if fix.startswith("a coverage of"):
        coverage = float(number.group(1))  # type: ignore[union-attr]
    elif fix.startswith("a val_fraction of"):
        val_fraction = float(number.group(1))  # type: ignore[union-attr]
    elif fix.endswith("in a scene"):
        max_objects = int(number.group(1))  # type: ignore[union-attr]
    if "smaller" in fix:
        coverage, val_fraction = max(sizes) / np.prod(sizes), 0.0
    if "more concept values" in fix:
        sizes = tuple(32 * size for size in sizes)
    return attempt(kind, sizes, coverage, val_fraction, max_objects)[0]


@pytest.mark.parametrize("kind", ["uniform", "checkerboard", "block"])
@pytest.mark.parametrize("sizes", [(2, 2), (4, 4), (8, 8), (6, 9)])
def test_each_fix_for_too_few_held_out_objects_works(kind: str, sizes: tuple[int, int]) -> None:
    refused = 0
    for choice in product((0.3, 0.6, 0.8, 0.97), (0.0, 0.3, 0.6), (1, 2, 4)):
        made, said = attempt(kind, sizes, *choice)
        if made is None and "holds out" in said:
            refused += 1
            fixes = said.split("are needed; use ")[1].split(" or ")
            assert all(with_fix(fix, kind, sizes, *choice) for fix in fixes), said
    assert refused


@pytest.mark.parametrize(
    ("kind", "sizes", "choice", "fixes"),
    [
        ("uniform", (2, 2), (0.5, 0.05, 2), "more concept values"),
        ("uniform", (8, 8), (0.8, 0.95, 2), "a val_fraction of at most 0.1406"),
        ("uniform", (8, 8), (0.95, 0.6, 2), "a coverage of at most 0.3437"),
        ("uniform", (8, 8), (0.95, 0.9, 2), "a smaller coverage and val_fraction"),
        ("uniform", (3, 3), (0.95, 0.9, 4), "more concept values with a smaller coverage and val_fraction"),
        ("uniform", (8, 8), (0.95, 0.02, 8), "a coverage of at most 0.5 or more concept values"),
        ("checkerboard", (4, 4), (0.75, 0.05, 2), "a coverage of at most 0.5 or at most 1 object in a scene or more"),
        ("block", (4, 4), (0.9, 0.05, 2), "a coverage of at most 0.4375 or more concept values"),
    ],
)
def test_a_refusal_of_too_few_held_out_objects_names_what_helps_and_nothing_else(
    kind: str, sizes: tuple[int, ...], choice: tuple[float, float, int], fixes: str
) -> None:
    assert f" are needed; use {fixes}" in attempt(kind, sizes, *choice)[1]


def test_a_space_whose_objects_are_all_needed_in_training_names_more_concepts() -> None:
    for sizes in ((8,), (8, 1)):
        with pytest.raises(InputError, match=r"^concepts: every object is needed in training; use two concepts"):
            ObjectSplit.uniform(space_of(*sizes), coverage=0.5)


def test_the_validation_part_grows_with_the_object_count() -> None:
    split = ObjectSplit.uniform(space_of(8, 8), coverage=0.5, val_fraction=0.0, max_objects=4)
    assert len(split.val_ood) == 8
    with pytest.raises(InputError, match="8 for val_ood and at least 8 for ood"):
        ObjectSplit.uniform(space_of(8, 8), coverage=0.8, val_fraction=0.0, max_objects=4)


@pytest.mark.parametrize(
    ("kind", "sizes", "named"),
    [
        ("checkerboard", (4, 4, 4), "two concepts"),
        ("checkerboard", (5, 7), "common divisor"),
        ("block", (8,), "two concepts"),
        ("block", (8, 1), "two values"),
        ("diagonal", (8, 8), "diagonal"),
    ],
)
def test_impossible_kinds_are_refused(kind: str, sizes: tuple[int, ...], named: str) -> None:
    with pytest.raises(InputError, match=named):
        ObjectSplit.make(kind, space_of(*sizes), coverage=0.5)


def test_more_objects_than_a_split_can_list_are_refused_at_once() -> None:
    space = ConceptSpace.symbolic(num_concepts=8, num_values=50)
    with pytest.raises(InputError, match=r"^concepts: 39,062,500,000,000 objects .* at most 100,000,000"):
        ObjectSplit.uniform(space, coverage=0.5)
    with pytest.raises(InputError, match=r"^objects: 13 objects in a scene"):
        ObjectSplit.uniform(space_of(8, 8), coverage=0.9, max_objects=13)


@pytest.mark.parametrize("num_values", [9, 51])
def test_train_objects_know_their_places_with_and_without_a_table(num_values: int) -> None:
    space = ConceptSpace.symbolic(num_concepts=3, num_values=num_values)
    assert (space.num_objects > LISTED) == (num_values == 51)
    split = ObjectSplit.uniform(space, coverage=0.3)
    places = np.random.default_rng(0).integers(0, len(split.train), (20, 3))
    assert np.array_equal(split.train_places(split.train[places]), places)


def test_descriptions_that_only_held_out_objects_fit_are_known() -> None:
    space = space_of(2, 2, 2)
    held_out = np.array([6, 7])  # (1, 1, 0) and (1, 1, 1)
    split = ObjectSplit(space, np.arange(6), held_out[:1], held_out[1:], "uniform")
    assert split.trains((1, 0, 1))
    assert not split.trains((1, 1, 0))
    assert split.trains((1, ANY, 0))
    assert not split.trains((1, 1, ANY))
    assert not split.trains((negated(0), 1, ANY))
    assert split.trains((negated(1), 1, ANY))
    assert split.trains((ANY, ANY, ANY))

"""Concept spaces: numbering of objects, names, and what is refused."""

from itertools import product

import numpy as np
import pytest

from dualenc.data.queries import SymbolicScenes
from dualenc.errors import InputError
from dualenc.scenes import ConceptSpace, Scenes
from dualenc.scenes.concepts import LISTED

COLORS = {"color": ["red", "blue", "green"], "shape": ["cube", "ball"]}


def test_every_object_has_its_number_in_mixed_radix() -> None:
    space = ConceptSpace.named({"a": ["a0", "a1"], "b": ["b0", "b1", "b2"], "c": ["c0", "c1", "c2", "c3"]})
    values = np.array(list(product(range(2), range(3), range(4))))
    assert space.num_objects == 24
    assert space.encode(values).tolist() == list(range(24))
    assert np.array_equal(space.decode(np.arange(24)), values)
    assert space.decode(np.arange(24).reshape(2, 3, 4)).shape == (2, 3, 4, 3)
    assert space.encode([1, 2, 3]) == 23


def test_ten_million_objects_round_trip_without_being_listed() -> None:
    space = ConceptSpace.symbolic(num_concepts=4, num_values=1000)
    ids = np.random.default_rng(0).integers(0, space.num_objects, 10_000)
    assert space.num_objects == 10**12
    assert np.array_equal(space.encode(space.decode(ids)), ids)
    assert space.encode(space.decode(space.num_objects - 1)) == space.num_objects - 1


def test_pooled_values_and_dictionaries() -> None:
    space = ConceptSpace.named(COLORS)
    assert space.offsets.tolist() == [0, 3]
    assert (space.num_values, space.sizes, space.num_concepts) == (5, (3, 2), 2)
    assert ConceptSpace.from_dict(space.to_dict()) == space
    assert space.to_dict() == COLORS


def test_numbers_out_of_range_are_refused() -> None:
    space = ConceptSpace.named(COLORS)
    for wrong in ([3, 0], [0, -1], [0], [0.5, 0.0]):
        with pytest.raises(ValueError):
            space.encode(wrong)
    for wrong in (-1, 6, 0.5):
        with pytest.raises(ValueError):
            space.decode(wrong)


@pytest.mark.parametrize(
    ("concepts", "named"),
    [
        ({}, "concepts"),
        ({"color": []}, "concepts.color"),
        ({"color": ["dark red"]}, "dark red"),
        ({"color": ["Red"]}, "Red"),
        ({"color": ["red", "red"]}, "red"),
        ({"color": ["red"], "shape": ["red"]}, "red"),
        ({f"c{k}": [f"c{k}v{v}" for v in range(1000)] for k in range(7)}, "2^62"),
    ],
)
def test_a_bad_space_is_refused_by_name(concepts: dict[str, list[str]], named: str) -> None:
    with pytest.raises(InputError) as caught:
        ConceptSpace.named(concepts)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_symbolic_space_needs_counts() -> None:
    with pytest.raises(InputError, match="num_values"):
        ConceptSpace.symbolic(num_concepts=2, num_values=0)


@pytest.mark.parametrize("num_values", [4, 60])
def test_values_from_a_table_or_not_are_those_that_are_decoded(num_values: int) -> None:
    space = ConceptSpace.symbolic(num_concepts=3, num_values=num_values)
    assert (space.num_objects <= LISTED) == (num_values == 4)
    objects = np.array([[0, space.num_objects - 1], [7, -1]])
    values = space.values_of(objects)
    assert values.dtype == np.int32
    assert np.array_equal(values[objects >= 0], space.decode(objects[objects >= 0]))
    assert values[1, 1].tolist() == [-1, -1, -1]
    tokens = SymbolicScenes.tokens(Scenes.of(space, objects))
    first = SymbolicScenes.FIRST_VALUE + space.offsets
    assert tokens[0].tolist() == [1, *(first + values[0, 0]), 2, 1, *(first + values[0, 1]), 2, 3]
    assert tokens[1].tolist() == [1, *(first + values[1, 0]), 2, 3, *([0] * 5)]

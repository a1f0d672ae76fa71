"""Truth against an independent matcher that tries every assignment of witnesses."""

from itertools import permutations

import numpy as np
import pytest

from dualenc.errors import InputError
from dualenc.scenes import ANY, EXISTS, NONE, ConceptSpace, Grammar, Scenes, truth, truth_of_own

SPACE = ConceptSpace.named({"color": ["red", "blue"], "shape": ["cube", "ball", "cone"], "size": ["big", "small"]})


def brute_force(form: list[list[int]], objects: list[list[int]]) -> bool:
    """Whether different objects can serve as the witnesses of all conjuncts."""
    conjuncts = [row[1:] for row in form if row[0] == EXISTS]
    return any(
        all(all(w in (ANY, v) for w, v in zip(want, got)) for want, got in zip(conjuncts, served))
        for served in permutations(objects, len(conjuncts))
    )


def random_scenes(rng: np.random.Generator, number: int, most: int) -> Scenes:
    """Up to `most` objects, identical ones often, sometimes none at all."""
    objects = rng.integers(0, SPACE.num_objects // 2, (number, most))
    objects[np.arange(most) >= rng.integers(0, most + 1, number)[:, None]] = -1
    return Scenes.of(SPACE, objects)


def random_forms(rng: np.random.Generator, number: int, most: int) -> np.ndarray:
    """Up to `most` conjuncts, each value left open half of the time, padding anywhere."""
    values = rng.integers(0, SPACE.sizes, (number, most, 3))
    values[rng.random(values.shape) < 0.5] = ANY
    forms = np.concatenate([np.full((number, most, 1), EXISTS), values], axis=-1).astype(np.int32)
    forms[rng.random((number, most)) < 0.3] = [NONE, ANY, ANY, ANY]
    return forms


def test_truth_is_what_trying_every_assignment_says() -> None:
    rng = np.random.default_rng(0)
    scenes, forms = random_scenes(rng, 150, 4), random_forms(rng, 200, 4)
    shown = [[value for value in scene if value[0] >= 0] for scene in scenes.values.tolist()]
    expected = np.array([[brute_force(form, objects) for form in forms.tolist()] for objects in shown])
    assert 0.1 < expected.mean() < 0.9
    assert np.array_equal(truth(forms, scenes), expected)
    own = np.array([brute_force(form, objects) for form, objects in zip(forms.tolist(), shown)])
    assert np.array_equal(truth_of_own(forms[:150], scenes), own)


def test_ten_objects() -> None:
    """More objects than a byte has bits, more conjuncts than objects."""
    rng = np.random.default_rng(1)
    scenes = random_scenes(rng, 40, 10)
    full = Grammar(SPACE).object_forms(scenes.objects)
    shown = [sorted(listed[listed >= 0].tolist()) for listed in scenes.objects]
    contained = [[all(a.count(o) <= b.count(o) for o in a) for a in shown] for b in shown]
    assert np.array_equal(truth(full, scenes), contained)


def test_each_conjunct_needs_a_witness_of_its_own() -> None:
    grammar = Grammar(SPACE)
    big_red_cube = int(SPACE.encode([0, 0, 0]))
    scenes = Scenes.of(SPACE, np.array([[big_red_cube, -1], [big_red_cube, big_red_cube]]))
    said = [grammar.parse(text) for text in ("a red cube and something big", "a cube and a red cube")]
    assert truth(np.stack(said), scenes).tolist() == [[False, False], [True, True]]


def test_nothing_said_is_true_and_empty_arrays_work() -> None:
    scenes = Scenes.of(SPACE, np.array([[3, -1], [-1, -1]]))
    nothing = np.array([[[NONE, ANY, ANY, ANY]]])
    something = np.array([[[EXISTS, ANY, ANY, ANY]]])
    assert truth(nothing, scenes).tolist() == [[True], [True]]
    assert truth(something, scenes).tolist() == [[True], [False]]
    assert truth(nothing[:0], scenes).shape == (2, 0)
    assert truth(nothing, scenes[:0]).shape == (0, 1)


def test_a_large_matrix_is_the_matrix_of_its_parts() -> None:
    rng = np.random.default_rng(2)
    scenes, forms = random_scenes(rng, 4096, 4), random_forms(rng, 4096, 4)
    whole = truth(forms, scenes)
    rows, columns = rng.permutation(4096)[:50], rng.permutation(4096)[:50]
    assert whole.shape == (4096, 4096)
    assert np.array_equal(whole[np.ix_(rows, columns)], truth(forms[columns], scenes[rows]))
    assert np.array_equal(np.diagonal(whole), truth_of_own(forms, scenes))


def test_the_largest_scenes_and_captions_and_larger_ones() -> None:
    grammar = Grammar(SPACE)
    scenes = Scenes.of(SPACE, np.array([np.arange(12)]))
    full = grammar.object_forms(np.array([[*range(12)], [*range(11), 0]]))
    longer = grammar.object_forms(np.arange(13)[None] % 12)
    assert truth(full, scenes).tolist() == [[True, False]]
    assert truth(longer, scenes).tolist() == [[False]]
    too_long, too_large = grammar.object_forms(np.zeros((1, 14))), Scenes.of(SPACE, np.zeros((1, 65)))
    for compare in (truth, truth_of_own):
        with pytest.raises(InputError, match="at most 13 conjuncts, not 14"):
            compare(too_long, scenes)
        with pytest.raises(InputError, match="at most 12 objects, not 65"):
            compare(full[:1], too_large)

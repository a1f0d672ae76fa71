"""Edits: false, legal, different, uniform, and there whenever a search by hand finds one."""

from itertools import combinations

import numpy as np
import pytest

from dualenc.errors import InputError
from dualenc.scenes import (
    OPERATORS,
    TRAIN,
    ConceptSpace,
    Edits,
    Grammar,
    ObjectSplit,
    Scenes,
    SceneSampler,
    draw_edits,
    truth_of_own,
)

SPACE = ConceptSpace.symbolic(num_concepts=3, num_values=3)
SPLIT = ObjectSplit.uniform(SPACE, coverage=0.4, seed=2, val_fraction=0.2, max_objects=2)
SCENES = SceneSampler(SPLIT, seed=0, counts={1: 0.2, 2: 0.5, 3: 0.3}, duplicates=True)

Edit = tuple[tuple[int, ...], int]  # the objects named, in the scene's order, and the concept


def legal_edits(operator: str, shown: list[int], allowed: set[int]) -> list[Edit]:
    """All edits of a scene, by search: every object made is new to the scene and allowed."""
    values = [SPACE.decode(i).tolist() for i in shown]
    found = []
    if operator == "add":
        return [((*shown, new), -1) for new in sorted(allowed - set(shown))]
    if operator == "replace":
        changes = [[(i, k, v)] for i in range(len(shown)) for k in range(3) for v in range(3)]
    else:
        pairs = [(i, j, k) for i, j in combinations(range(len(shown)), 2) for k in range(3)]
        changes = [[(i, k, values[j][k]), (j, k, values[i][k])] for i, j, k in pairs]
    for change in changes:
        edited = [list(row) for row in values]
        for i, k, v in change:
            edited[i][k] = v
        objects = [int(SPACE.encode(row)) for row in edited]
        made = [objects[i] for i, _, _ in change]
        if all(new in allowed and new not in shown for new in made):
            found.append((tuple(objects), change[0][1]))
    return found


def listed(edits: Edits, i: int, j: int) -> Edit:
    objects = edits.objects[i, j]
    return tuple(objects[objects >= 0].tolist()), int(edits.concept[i, j])


def draw(operator: str, name: str, scenes: Scenes, num: int = 1, start: int = 0) -> Edits:
    return draw_edits(operator, scenes, SPLIT, seed=5, name=name, start=start, num=num)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", ["train", "val", "ood"])
def test_edits_are_those_a_search_finds(operator: str, name: str) -> None:
    scenes, num = SCENES.draw(name, 0, 300), 40
    edits = draw(operator, name, scenes, num)
    allowed = set(SPLIT.train.tolist()) if name == "train" else set(range(SPACE.num_objects))
    without = 0
    for i, shown in enumerate(scenes.objects):
        legal = legal_edits(operator, shown[shown >= 0].tolist(), allowed)
        drawn = [listed(edits, i, j) for j in np.flatnonzero(edits.exists[i])]
        assert edits.exists[i].tolist() == [j < len(legal) for j in range(num)]
        assert sorted(set(drawn)) == sorted(set(legal)) if len(legal) <= num else set(drawn) <= set(legal)
        if len(set(legal)) == len(legal):
            assert len(set(drawn)) == len(drawn)
        without += not legal
        for j in np.flatnonzero(edits.exists[i]):
            made = edits.made[i, j][edits.made[i, j] >= 0].tolist()
            assert set(made) == set(listed(edits, i, j)[0]) - set(shown.tolist())
    missing = ~edits.exists
    assert np.all(edits.objects[missing] == -1)
    assert np.all(edits.made[missing] == -1)
    assert np.all(edits.concept[missing] == -1)
    assert (without > 0) == (operator == "swap" or (operator, name) == ("replace", "train"))


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", ["train", "mixed"])
def test_edits_are_false_of_their_scene_and_legal(operator: str, name: str) -> None:
    scenes = SCENES.draw(name, 0, 2000)
    edits = draw(operator, name, scenes, 2)
    for j in range(2):
        forms = Grammar(SPACE).object_forms(edits.objects[:, j])
        assert not np.any(truth_of_own(forms, scenes) & edits.exists[:, j])
    assert edits.exists.any()
    if name == "train":
        named = edits.objects[edits.objects >= 0]
        assert np.all(SPLIT.status(named) == TRAIN)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("position", [0, 1])
def test_edits_are_uniform_over_the_legal_ones(operator: str, position: int) -> None:
    shown = SPLIT.train[[0, 3, 6]]
    legal = legal_edits(operator, shown.tolist(), set(range(SPACE.num_objects)))
    scenes = Scenes.of(SPACE, np.tile(shown, (len(legal) * 300, 1)))
    edits = draw(operator, "val", scenes, 2)
    drawn = [listed(edits, i, position) for i in range(len(scenes))]
    number = np.array([drawn.count(edit) for edit in legal])
    assert len(legal) >= 4
    assert number.sum() == len(drawn)
    chi_square = ((number - 300) ** 2 / 300).sum()
    assert abs(chi_square - len(legal) + 1) < 5 * np.sqrt(2 * (len(legal) - 1))


@pytest.mark.parametrize("operator", OPERATORS)
def test_edits_are_a_function_of_the_scene_number(operator: str) -> None:
    scenes = SCENES.draw("train", 0, 60)
    whole = draw(operator, "train", scenes, 3)
    part = draw(operator, "train", scenes[17:31], 3, start=17)
    assert np.array_equal(part.objects, whole.objects[17:31])
    assert np.array_equal(part.exists, whole.exists[17:31])
    assert not np.array_equal(whole.objects, draw(operator, "train", scenes, 3, start=1).objects)


def test_an_unknown_operator_is_refused() -> None:
    with pytest.raises(InputError, match="'twist'"):
        draw("twist", "train", SCENES.draw("train", 0, 2))

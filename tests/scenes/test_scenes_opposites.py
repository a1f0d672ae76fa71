"""Opposites: minimal pairs of scenes and captions, each true of its own and false of the other."""

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from dualenc.errors import InputError
from dualenc.scenes import (
    ABSENT,
    EXISTS,
    OPPOSITE_KINDS,
    RELATION,
    TRAIN,
    ConceptSpace,
    Grammar,
    Language,
    ObjectSplit,
    Opposites,
    Scenes,
    SceneSampler,
    Sentence,
    draw_captions,
    draw_opposites,
    stack_forms,
    truth_of_own,
    undecided_of_own,
)

SPACE = ConceptSpace.named({"color": ["gray", "red", "blue"], "shape": ["cube", "ball", "cone"]})
SPLIT = ObjectSplit(SPACE, np.array([0, 1, 3, 4, 5]), np.array([6]), np.array([2, 7, 8]))
GRAMMAR = Grammar(SPACE, Language(relations="flat", negation=True))
SAMPLER = SceneSampler(SPLIT, seed=0, counts={1: 0.2, 2: 0.5, 3: 0.3}, duplicates=True, relation_margin=0.15)
CAPTIONS = {"binding": "list", "spatial": "relation", "negation": "negation"}


def make(kind: str, scenes: Scenes, name: str = "train", start: int = 0) -> tuple[list[Sentence | None], Opposites]:
    keys: dict[str, Any] = {"seed": 2, "name": name, "start": start}
    drawn = draw_captions(CAPTIONS[kind], scenes, GRAMMAR, SPLIT, negations=("absent",), **keys)
    sentences = [row[0] for row in drawn.sentences]
    return sentences, draw_opposites(kind, scenes, sentences, SPLIT, **keys)


@pytest.mark.parametrize("name", ["train", "mixed"])
@pytest.mark.parametrize("kind", OPPOSITE_KINDS)
def test_each_caption_is_true_of_its_own_scene_only(kind: str, name: str) -> None:
    scenes = SAMPLER.draw(name, 0, 400)
    sentences, made = make(kind, scenes, name)
    assert made.exists.mean() > 0.1
    assert made.scenes.relation_margin == scenes.relation_margin
    own = np.flatnonzero(made.exists)
    captions, opposites = (stack_forms([row[i].rows for i in own], 2) for row in (sentences, made.sentences))  # type: ignore[union-attr]
    here, there = scenes[own], made.scenes[own]
    assert truth_of_own(captions, here).all()
    assert truth_of_own(opposites, there).all()
    for forms, wrong in ((captions, there), (opposites, here)):
        assert not truth_of_own(forms, wrong).any()
        assert not undecided_of_own(forms, wrong).any()
    rest = ~made.exists
    assert np.array_equal(made.scenes.objects[rest], scenes.objects[rest])
    assert np.array_equal(made.scenes.positions[rest], scenes.positions[rest], equal_nan=True)
    assert np.all(made.slots[rest] == -1)
    assert [sentence is not None for sentence in made.sentences] == made.exists.tolist()
    if name == "train":
        assert np.all(SPLIT.status(made.scenes.objects[made.scenes.objects >= 0]) == TRAIN)
    for sentence in made.sentences:
        assert sentence is None or GRAMMAR.parse(GRAMMAR.text(sentence)).tolist() == sentence.form


def test_binding_exchanges_one_value_and_nothing_else() -> None:
    scenes = SAMPLER.draw("mixed", 0, 200)
    sentences, made = make("binding", scenes, "mixed")
    assert np.array_equal(made.scenes.positions, scenes.positions, equal_nan=True)
    for i in np.flatnonzero(made.exists):
        old, new = scenes.values[i], made.scenes.values[i]
        a, b = made.slots[i]
        k = made.concept[i]
        assert sorted(np.argwhere(old != new).tolist()) == sorted([[a, k], [b, k]])
        assert (new[a, k], new[b, k]) == (old[b, k], old[a, k])
        caption, opposite = sentences[i], made.sentences[i]
        assert caption is not None
        assert opposite is not None
        assert [row[1:] for row in opposite.rows] == [tuple(new[slot].tolist()) for slot in caption.witnesses]


def test_a_binding_opposite_exists_where_a_search_finds_one() -> None:
    scenes, train = SAMPLER.draw("train", 0, 300), set(SPLIT.train.tolist())
    _, made = make("binding", scenes)
    for i, shown in enumerate(scenes.objects):
        found = False
        for a, b in combinations(shown[shown >= 0].tolist(), 2):
            (color_a, shape_a), (color_b, shape_b) = SPACE.decode(a), SPACE.decode(b)
            new = {int(SPACE.encode(np.array(values))) for values in ((color_b, shape_a), (color_a, shape_b))}
            found |= new <= train and not new & set(shown.tolist())
        assert found == made.exists[i]


def test_captions_of_other_splits_make_no_opposites_in_train() -> None:
    scenes = SAMPLER.draw("train", 0, 200)
    keys: dict[str, Any] = {"seed": 2, "start": 0}
    drawn = draw_captions("negation", scenes, GRAMMAR, SPLIT, negations=("absent",), name="val", **keys)
    sentences = [row[0] for row in drawn.sentences]
    made = draw_opposites("negation", scenes, sentences, SPLIT, name="train", **keys)
    assert np.all(SPLIT.status(made.scenes.objects[made.scenes.objects >= 0]) == TRAIN)
    assert draw_opposites("negation", scenes, sentences, SPLIT, name="val", **keys).exists.sum() > made.exists.sum()


def test_spatial_exchanges_two_places_and_the_words_for_them() -> None:
    scenes = SAMPLER.draw("train", 0, 200)
    sentences, made = make("spatial", scenes)
    assert np.array_equal(made.scenes.objects, scenes.objects)
    for i in np.flatnonzero(made.exists):
        a, b = made.slots[i]
        moved = np.arange(scenes.objects.shape[1])
        moved[[a, b]] = b, a
        assert np.array_equal(made.scenes.positions[i], scenes.positions[i][moved], equal_nan=True)
        caption, opposite = sentences[i], made.sentences[i]
        assert caption is not None
        assert opposite is not None
        assert [row[1:] for row in opposite.rows] == [row[1:] for row in caption.rows[::-1]]
        assert [row[0] for row in opposite.rows] == [row[0] for row in caption.rows]


def test_negation_exchanges_what_is_there_and_what_is_not() -> None:
    scenes = SAMPLER.draw("train", 0, 200)
    sentences, made = make("negation", scenes)
    for i in np.flatnonzero(made.exists):
        (slot,) = np.flatnonzero(made.scenes.objects[i] != scenes.objects[i])
        caption, opposite = sentences[i], made.sentences[i]
        assert caption is not None
        assert opposite is not None
        assert made.slots[i].tolist() == [slot, -1]
        assert [row[1:] for row in opposite.rows] == [row[1:] for row in caption.rows[::-1]]
        assert int(SPACE.encode(list(caption.rows[1][1:]))) == made.scenes.objects[i, slot]
    twice = (scenes.objects[:, :1] == scenes.objects[:, 1:2]).all(axis=1)
    assert twice.any()
    assert not made.exists[twice & (scenes.counts == 2)].any()  # the other one would still be there


def test_opposites_that_are_not_there() -> None:
    scenes = Scenes(SPACE, np.array([[0, 0], [0, 4], [0, 1]]), np.full((3, 2, 2), 0.5, dtype=np.float32), 0.1)
    listed = [row[0] for row in draw_captions("list", scenes, GRAMMAR, SPLIT, seed=0, name="train", start=0).sentences]
    keys: dict[str, Any] = {"seed": 0, "name": "train", "start": 0}
    made = draw_opposites("binding", scenes, listed, SPLIT, **keys)
    assert made.exists.tolist() == [False, True, False]  # alike, both shapes and colours differ, one colour
    for kind, other in (("spatial", listed), ("negation", listed), ("binding", [None] * 3)):
        assert not draw_opposites(kind, scenes, other, SPLIT, **keys).exists.any()
    apart = replace(scenes, positions=np.array([[[0.2, 0.5], [0.8, 0.5]]] * 3, dtype=np.float32))
    for left_of_itself in ([(EXISTS, 0, 0), (RELATION, 0, 0)], [(EXISTS, 0, 0), (ABSENT, 0, 0)]):
        sentence = Sentence(tuple(left_of_itself), witnesses=(0, 1))
        for kind in OPPOSITE_KINDS:
            assert not draw_opposites(kind, apart, [sentence] * 3, SPLIT, **keys).exists[0]
    with pytest.raises(InputError, match="'mirror' is unknown; use binding"):
        draw_opposites("mirror", scenes, listed, SPLIT, **keys)


@pytest.mark.parametrize("kind", OPPOSITE_KINDS)
def test_opposites_are_a_function_of_the_scene_number(kind: str) -> None:
    scenes = SAMPLER.draw("train", 0, 60)
    _, whole = make(kind, scenes)
    _, part = make(kind, scenes[13:41], start=13)
    assert np.array_equal(part.scenes.objects, whole.scenes.objects[13:41])
    assert part.sentences == whole.sentences[13:41]

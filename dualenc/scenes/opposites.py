"""Opposites: for a scene, another one that differs in one thing only, and the caption that tells them apart.

    binding     two objects have exchanged the value of one concept; of a `list` caption
    spatial     two objects have exchanged their places; of a `relation` caption
    negation    an absent object stands in the place of a present one; of a `negation` caption, form `absent`

Sources: opposite pictures and captions as in DCSM (arXiv 2503.08723). The caption is true of the scene and definitely
false of the opposite scene, the opposite caption the other way round; in `train` all objects are train objects (law 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from dualenc.errors import InputError
from dualenc.scenes.arrays import Scenes
from dualenc.scenes.captions import wary
from dualenc.scenes.choices import is_absent, pick
from dualenc.scenes.forms import ABSENT, EXISTS, RELATION, Row, stack_forms
from dualenc.scenes.random import uniform
from dualenc.scenes.sampling import exchange, is_new
from dualenc.scenes.sentences import Sentence
from dualenc.scenes.split import TRAIN, ObjectSplit
from dualenc.scenes.truth import truth_of_own, undecided_of_own

OPPOSITE_KINDS = ("binding", "spatial", "negation")


@dataclass(frozen=True, eq=False)
class Opposites:
    """An opposite by one kind for each of n scenes.

    exists: bool [n]; scenes: the opposite scenes, the scene itself where none exists; slots: int64 [n, 2], the slots
    whose objects or places differ, -1 for none; concept: int64 [n], the concept exchanged, -1 for none;
    sentences: the opposite captions.
    """

    kind: str
    exists: np.ndarray
    scenes: Scenes
    slots: np.ndarray
    concept: np.ndarray
    sentences: list[Sentence | None]


def draw_opposites(
    kind: str,
    scenes: Scenes,
    sentences: Sequence[Sentence | None],
    split: ObjectSplit,
    *,
    seed: int,
    name: str,
    start: int,
) -> Opposites:
    """The opposites of scenes number start.. of split `name` and their captions, `sentences` with witnesses as
    `draw_captions` makes them; a caption of another make has none."""
    if kind not in OPPOSITE_KINDS:
        raise InputError(f"opposites: {kind!r} is unknown; use {', '.join(OPPOSITE_KINDS)}")
    if kind == "binding":
        draws = uniform(seed, name, "opposite/binding", start, start + len(scenes), 1)
        made = _bound(scenes, sentences, split, draws, name == "train")
    else:
        made = _exchanged(scenes, sentences) if kind == "spatial" else _negated(scenes, sentences)
    exists = _checked(made, scenes, sentences, split, name)
    return Opposites(
        kind,
        exists,
        replace(
            scenes,
            objects=np.where(exists[:, None], made.scenes.objects, scenes.objects),
            positions=np.where(exists[:, None, None], made.scenes.positions, scenes.positions),
        ),
        np.where(exists[:, None], made.slots, -1),
        np.where(exists, made.concept, -1),
        [sentence if there else None for sentence, there in zip(made.sentences, exists.tolist())],
    )


def _bound(
    scenes: Scenes, sentences: Sequence[Sentence | None], split: ObjectSplit, draws: np.ndarray, train_only: bool
) -> Opposites:
    space, m = scenes.space, scenes.objects.shape[1]
    suited = np.array(
        [_lists(sentence, count) for sentence, count in zip(sentences, scenes.counts.tolist())], dtype=bool
    )
    triples = [(a, b, k) for a, b in combinations(range(m), 2) for k in range(space.num_concepts)]
    if not triples:
        return _none(scenes)
    table = np.array(triples)
    left, right = scenes.objects[:, table[:, 0]], scenes.objects[:, table[:, 1]]
    new_left, new_right = exchange(space, np.maximum(left, 0), np.maximum(right, 0), table[:, 2])
    legal = suited[:, None] & (left >= 0) & (right >= 0) & is_new(left, right, new_left, new_right)
    legal &= is_absent(new_left, scenes) & is_absent(new_right, scenes)
    if train_only:
        legal &= (split.status(new_left) == TRAIN) & (split.status(new_right) == TRAIN)
    position, exists = pick(legal, draws)
    slots, concept = table[position[:, 0], :2], table[position[:, 0], 2]
    objects = scenes.objects.copy()
    made = np.concatenate([np.take_along_axis(new, position, axis=1) for new in (new_left, new_right)], axis=1)
    np.put_along_axis(objects, slots, made, axis=1)
    there = exists[:, 0]
    values = np.where(there[:, None, None], space.decode(np.maximum(objects, 0)), -1).tolist()
    said = [
        _about(sentence, [(EXISTS, *values[i][slot]) for slot in sentence.witnesses]) if sentence and there[i] else None
        for i, sentence in enumerate(sentences)
    ]
    objects = np.where(there[:, None], objects, scenes.objects)
    return Opposites("binding", there, replace(scenes, objects=objects), slots, concept, said)


def _exchanged(scenes: Scenes, sentences: Sequence[Sentence | None]) -> Opposites:
    suited = [_relates(sentence) for sentence in sentences]
    slots = np.array(
        [sentence.witnesses if sentence and fits else (-1, -1) for sentence, fits in zip(sentences, suited)],
        dtype=np.int64,
    ).reshape(len(scenes), 2)
    exists, positions, rows = np.array(suited, dtype=bool), scenes.positions.copy(), np.arange(len(scenes))
    for here, there in ((0, 1), (1, 0)):
        positions[rows[exists], slots[exists, here]] = scenes.positions[rows[exists], slots[exists, there]]
    said = [
        _about(sentence, _with_values_exchanged(sentence)) if sentence and fits else None
        for sentence, fits in zip(sentences, suited)
    ]
    none = np.full(len(scenes), -1)
    return Opposites("spatial", exists, replace(scenes, positions=positions), slots, none, said)


def _negated(scenes: Scenes, sentences: Sequence[Sentence | None]) -> Opposites:
    n = len(scenes)
    slots, concept = np.full((n, 2), -1), np.full(n, -1)
    objects = scenes.objects.copy()
    said: list[Sentence | None] = [None] * n
    for i, sentence in enumerate(sentences):
        if sentence and _denies(sentence):
            slots[i, 0] = sentence.witnesses[0]
            objects[i, slots[i, 0]] = scenes.space.encode(list(sentence.rows[1][1:]))
            said[i] = _about(sentence, _with_values_exchanged(sentence))
    exists = slots[:, 0] >= 0
    return Opposites("negation", exists, replace(scenes, objects=objects), slots, concept, said)


def _lists(sentence: Sentence | None, count: int) -> bool:
    """Whether a caption names every object of its scene in full, as `draw_captions` says lists."""
    if sentence is None or len(sentence.rows) != count or len(sentence.witnesses) != count:
        return False
    return all(kind == EXISTS and min(values) >= 0 for kind, *values in sentence.rows)


def _relates(sentence: Sentence | None) -> bool:
    """Whether a caption is one relation between two known objects of its scene."""
    if sentence is None or len(sentence.rows) != 2 or len(sentence.witnesses) != 2 or min(sentence.witnesses) < 0:
        return False
    return sentence.rows[1][0] >= RELATION


def _denies(sentence: Sentence) -> bool:
    """Whether a caption names, both in full, one object of its scene and one that is absent."""
    if [row[0] for row in sentence.rows] != [EXISTS, ABSENT] or len(sentence.witnesses) != 2:
        return False
    return sentence.witnesses[0] >= 0 and all(min(row[1:]) >= 0 for row in sentence.rows)


def _with_values_exchanged(sentence: Sentence) -> list[Row]:
    (first, *a), (second, *b) = sentence.rows
    return [(first, *b), (second, *a)]


def _about(sentence: Sentence, rows: list[Row]) -> Sentence:
    return replace(sentence, rows=tuple(rows))


def _none(scenes: Scenes) -> Opposites:
    n = len(scenes)
    none = np.full(n, -1)
    return Opposites("binding", np.zeros(n, dtype=bool), scenes, np.full((n, 2), -1), none, [None] * n)


def _checked(
    made: Opposites, scenes: Scenes, sentences: Sequence[Sentence | None], split: ObjectSplit, name: str
) -> np.ndarray:
    """bool [n]: the opposites that hold what they promise."""
    num_concepts = scenes.space.num_concepts
    captions = stack_forms([sentence.rows if sentence else None for sentence in sentences], num_concepts)
    opposite = stack_forms([sentence.rows if sentence else None for sentence in made.sentences], num_concepts)
    rows = np.flatnonzero(made.exists)
    here, there = wary(scenes)[rows], wary(made.scenes)[rows]
    holds = truth_of_own(captions[rows], here) & truth_of_own(opposite[rows], there)
    for forms, wrong in ((captions[rows], there), (opposite[rows], here)):
        holds &= ~truth_of_own(forms, wrong) & ~undecided_of_own(forms, wrong)
    if name == "train":
        objects = made.scenes.objects[rows]
        holds &= ((objects < 0) | (split.status(np.maximum(objects, 0)) == TRAIN)).all(axis=1)
    exists = np.zeros(len(scenes), dtype=bool)
    exists[rows[holds]] = True
    return exists

"""Edits: captions that differ from the truth by one operation (hard negatives), false by construction and by check.

SWAP exchanges a concept value between two objects, REPLACE changes one value of one object, ADD names one object
more. Source: token-level hard negatives (arXiv 2510.26302). An edit is kept only if every object it makes is new to
the scene, and, where the split is `train`, is a train object (law 4).
"""

from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from dualenc.errors import InputError
from dualenc.scenes.arrays import Scenes
from dualenc.scenes.choices import absent_objects, is_absent, pick
from dualenc.scenes.language import Grammar
from dualenc.scenes.random import uniform
from dualenc.scenes.sampling import exchange, is_new
from dualenc.scenes.split import TRAIN, ObjectSplit
from dualenc.scenes.truth import truth_of_own

OPERATORS = ("swap", "replace", "add")


@dataclass(frozen=True, eq=False)
class Edits:
    """`num` edits by one operator for each of n scenes.

    exists: bool [n, num]; objects: int64 [n, num, m + 1], the objects that the edited caption names, in the scene's
    order, -1 for none; made: int64 [n, num, 2], those of them that the scene does not hold, -1 for none;
    concept: int64 [n, num], the concept whose value changed, -1 for none.
    """

    operator: str
    exists: np.ndarray
    objects: np.ndarray
    made: np.ndarray
    concept: np.ndarray


def draw_edits(
    operator: str, scenes: Scenes, split: ObjectSplit, *, seed: int, name: str, start: int, num: int = 1
) -> Edits:
    """`num` different edits of each scene, uniform over the legal ones; scenes are numbers start.. of split `name`.

    Where a scene has fewer legal edits than `num`, the rest do not exist. In `train` only train objects are made.
    A swap is (two objects, concept): of two objects that differ in two concepts, exchanging the one or the other
    makes the same two objects in the other order, hence two captions that mean the same.
    """
    if operator not in OPERATORS:
        raise InputError(f"edits: {operator!r} is unknown; use {', '.join(OPERATORS)}")
    draws = uniform(seed, name, f"edit/{operator}", start, start + len(scenes), num)
    candidates = {"swap": _swaps, "replace": _replacements, "add": _additions}[operator]
    objects, made, concept, exists = candidates(scenes, split, draws, name == "train")
    forms = Grammar(split.space).object_forms(np.where(exists[..., None], objects, -1))
    for j in range(num):
        if np.any(truth_of_own(forms[:, j], scenes) & exists[:, j]):
            raise AssertionError(f"an edit by {operator} is true of its scene")
    return Edits(
        operator,
        exists,
        np.where(exists[..., None], objects, -1),
        np.where(exists[..., None], made, -1),
        np.where(exists, concept, -1),
    )


def swapped_objects(
    scenes: Scenes, split: ObjectSplit, draws: np.ndarray, *, train_only: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Objects int64 [n, num] that a scene does not hold and that differ from one of its own by a value of another one
    of its own, uniform over `num` different ways to make one; and whether there are that many ways, bool [n, num].

    draws: float64 [n, num], uniform. A swap edit names both objects that an exchange makes; here each stands alone, so
    that only this one must be new to the scene and, with `train_only`, a train object."""
    n, m = scenes.objects.shape
    if m == 1:
        return np.zeros(draws.shape, dtype=np.int64), np.zeros(draws.shape, dtype=bool)
    # Arrays [.., n], since numpy is quick where rows are long; the differences of pooled numbers are those of values.
    objects = np.ascontiguousarray(scenes.objects.T)
    parts = np.multiply(scenes.pooled.transpose(1, 2, 0), split.space.strides[:, None], order="C")
    made = np.empty((m * (m - 1), *parts.shape[1:]), dtype=np.int64)
    some_fewer = (objects[-1] < 0).any()
    for place, (i, j) in zip(made, permutations(range(m), 2)):
        np.subtract(parts[j], parts[i], out=place)
        if some_fewer:  # no change makes an object that stands there
            place *= (objects[i] >= 0) & (objects[j] >= 0)
        place += objects[i]
    made = made.reshape(-1, n)
    legal = is_absent(made.T, scenes).T
    if train_only:
        legal &= split.status(made) == TRAIN
    position, exists = pick(legal.T, draws)
    return made.ravel().take(position * n + np.arange(n)[:, None]), exists


_Candidates = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _swaps(scenes: Scenes, split: ObjectSplit, draws: np.ndarray, train_only: bool) -> _Candidates:
    space, m = split.space, scenes.objects.shape[1]
    pairs = np.array([(i, j, k) for i, j in combinations(range(m), 2) for k in range(space.num_concepts)]).reshape(
        -1, 3
    )
    if not len(pairs):
        return _nothing(scenes, draws)
    left, right = scenes.objects[:, pairs[:, 0]], scenes.objects[:, pairs[:, 1]]
    new_left, new_right = exchange(space, np.maximum(left, 0), np.maximum(right, 0), pairs[:, 2])
    legal = (left >= 0) & (right >= 0) & is_new(left, right, new_left, new_right)
    legal &= is_absent(new_left, scenes) & is_absent(new_right, scenes)
    if train_only:
        legal &= (split.status(new_left) == TRAIN) & (split.status(new_right) == TRAIN)
    position, exists = pick(legal, draws)
    made = np.stack([np.take_along_axis(new, position, axis=1) for new in (new_left, new_right)], axis=-1)
    objects = _widened(scenes, draws.shape[1])
    np.put_along_axis(objects, pairs[position][..., :2], made, axis=2)
    return objects, made, pairs[position][..., 2], exists


def _replacements(scenes: Scenes, split: ObjectSplit, draws: np.ndarray, train_only: bool) -> _Candidates:
    space, n = split.space, len(scenes)
    concept = np.repeat(np.arange(space.num_concepts), space.sizes)
    value = np.concatenate([np.arange(size) for size in space.sizes])
    old = np.maximum(scenes.objects, 0)[:, :, None]
    new = old + (value - scenes.values[:, :, concept]) * space.strides[concept]
    new = np.where(scenes.objects[:, :, None] >= 0, new, 0).reshape(n, -1)
    legal = (np.repeat(scenes.objects, len(value), axis=1) >= 0) & is_absent(new, scenes)
    if train_only:
        legal &= split.status(new) == TRAIN
    position, exists = pick(legal, draws)
    made = np.take_along_axis(new, position, axis=1)
    objects = _widened(scenes, draws.shape[1])
    np.put_along_axis(objects, (position // len(value))[..., None], made[..., None], axis=2)
    return objects, np.stack([made, np.full_like(made, -1)], axis=-1), concept[position % len(value)], exists


def _additions(scenes: Scenes, split: ObjectSplit, draws: np.ndarray, train_only: bool) -> _Candidates:
    made, exists = absent_objects(scenes, split, draws, train_only)
    objects = _widened(scenes, draws.shape[1])
    np.put_along_axis(objects, np.broadcast_to(scenes.counts[:, None, None], (*made.shape, 1)), made[..., None], axis=2)
    return objects, np.stack([made, np.full_like(made, -1)], axis=-1), np.full_like(made, -1), exists


def _nothing(scenes: Scenes, draws: np.ndarray) -> _Candidates:
    shape = draws.shape
    return (
        _widened(scenes, shape[1]),
        np.full((*shape, 2), -1),
        np.full(shape, -1),
        np.zeros(shape, dtype=bool),
    )


def _widened(scenes: Scenes, num: int) -> np.ndarray:
    """int64 [n, num, m + 1]: the scenes' objects with one place more."""
    widened = np.pad(scenes.objects, ((0, 0), (0, 1)), constant_values=-1)
    return np.repeat(widened[:, None], num, axis=1)

"""Choosing among candidates, many scenes at once, from uniform draws."""

import numpy as np

from dualenc.scenes.arrays import Scenes
from dualenc.scenes.random import integers
from dualenc.scenes.split import ObjectSplit


def distinct(draws: np.ndarray, bound: np.ndarray | int) -> np.ndarray:
    """int64 [n, m], each row m distinct integers in [0, bound) (a number or one per row), uniform over tuples.

    Pick j is uniform over the bound - j numbers not yet taken: its rank among them is drawn, then shifted past the
    taken ones in ascending order."""
    n, m = draws.shape
    picks = np.empty((n, m), dtype=np.int64)
    for j in range(m):
        pick = integers(draws[:, j], np.maximum(bound - j, 1))
        for taken in (np.sort(picks[:, :j], axis=1) if j > 1 else picks[:, :j]).T:
            pick += pick >= taken
        picks[:, j] = pick
    return picks


def pick(legal: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions int64 [n, num] of `num` different True entries of each row of legal [n, c], uniform; and whether
    there are that many, bool [n, num]."""
    rank = np.cumsum(np.ascontiguousarray(legal.T), axis=0)  # [c, n]: long rows are summed much faster than short ones
    number = rank[-1]
    wanted = distinct(draws, number)
    exists = np.arange(draws.shape[1]) < number[:, None]
    position = np.empty(draws.shape, dtype=np.int64)
    for column, nth in enumerate(wanted.T):
        position[:, column] = np.count_nonzero(rank <= nth, axis=0)
    position[~exists] = 0
    return position, exists


def absent_objects(
    scenes: Scenes, split: ObjectSplit, draws: np.ndarray, train_only: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Different objects int64 [n, num] that their scene does not hold, uniform, of the train objects or of all; and
    whether there are that many, bool [n, num]."""
    allowed = split.train if train_only else np.arange(split.space.num_objects)
    place = np.searchsorted(allowed, scenes.objects)
    known = (scenes.objects >= 0) & (allowed[np.minimum(place, len(allowed) - 1)] == scenes.objects)
    place = np.sort(np.where(known, place, len(allowed)), axis=1)
    place[:, 1:][place[:, 1:] == place[:, :-1]] = len(allowed)  # an object that stands twice is skipped once
    place = np.sort(place, axis=1)
    free = len(allowed) - (place < len(allowed)).sum(axis=1)
    wanted = distinct(draws, free)
    exists = np.arange(draws.shape[1]) < free[:, None]
    for taken in place.T:
        wanted = wanted + (wanted >= taken[:, None])
    return allowed[np.minimum(wanted, len(allowed) - 1)], exists


def is_absent(objects: np.ndarray, scenes: Scenes) -> np.ndarray:
    """bool [n, c]: whether object ids [n, c] are none of their scene's."""
    absent = objects != scenes.objects[:, :1]
    for own in scenes.objects.T[1:]:
        absent &= objects != own[:, None]
    return absent

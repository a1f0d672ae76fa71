"""Choosing among candidates, many scenes at once, from uniform draws."""

import numpy as np

from dualenc.scenes.arrays import Scenes
from dualenc.scenes.random import integers
from dualenc.scenes.split import ObjectSplit


def distinct(draws: np.ndarray, bound: np.ndarray | int) -> np.ndarray:
    """int64 [n, m], each row m distinct integers in [0, bound) (a number or one per row), uniform over tuples.

    Pick j is uniform over the bound - j numbers not yet taken: its rank among them is drawn, then shifted past the
    taken ones in ascending order."""
    picks = np.empty(draws.shape[::-1], dtype=np.int64)  # [m, n]: long rows
    for j, pick in enumerate(picks):
        pick[:] = integers(draws[:, j], np.maximum(bound - j, 1))
        for taken in np.sort(picks[:j], axis=0) if j > 1 else picks[:j]:
            pick += pick >= taken
    return picks.T


def pick(legal: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions int64 [n, num] of `num` different True entries of each row of legal [n, c], uniform; and whether
    there are that many, bool [n, num]."""
    n, c = legal.shape
    (places,) = np.ascontiguousarray(legal).ravel().nonzero()  # row by row
    number = np.ascontiguousarray(legal.T).sum(axis=0)  # long rows are summed much faster than short ones
    exists = np.arange(draws.shape[1]) < number[:, None]
    if not len(places):
        return np.zeros(draws.shape, dtype=np.int64), exists
    nth = distinct(draws, number)
    nth += (number.cumsum() - number)[:, None]
    position = places.take(nth, mode="clip")
    position -= np.arange(0, n * c, c)[:, None]
    return np.where(exists, position, 0), exists


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

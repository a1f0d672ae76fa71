"""The concept and object queries of a training step, which all its scenes are asked (`loss.recognition`).

A pool is a pure function of the run's seed and the position of the global batch; each process embeds a part of it.
Source: "How can embedding models bind concepts?" (arXiv 2605.31503) and its released code. That draws negatives from
all objects, held-out ones included (`negatives: all`), which leaks the split; ours are train objects (law 4).
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from dualenc.scenes import ObjectSplit, Scenes, philox, swapped_objects, uniform
from dualenc.scenes.concepts import LISTED

_PURPOSE = "recognition"


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """How many queries there are, and which objects may be negatives (see `dualenc.config.RecognitionConfig`)."""

    num_concepts: int
    num_objects: int
    num_random: int
    num_swaps: int
    negatives: Literal["train", "all"]


class Pools(NamedTuple):
    """concepts: int64 [q], pooled values (see `ConceptSpace.offsets`); objects: int64 [p], object ids; both sorted."""

    concepts: np.ndarray
    objects: np.ndarray


def draw_pools(scenes: Scenes, split: ObjectSplit, settings: PoolSettings, *, seed: int, position: int) -> Pools:
    """The pools of the global batch of training scenes that starts at `position`.

    Concepts: all values, or, where there are more than `num_concepts`, so many of those that the scenes show. Objects:
    up to `num_objects` of the scenes' own, `num_random` for each of these that no scene of the batch holds (fewer where
    there are not so many), and up to `num_swaps` of each scene that differ from one of its objects by a value of
    another one. The last may be objects of other scenes, and are then true of those.
    """
    rng = np.random.Generator(philox(seed, "train", _PURPOSE, [0, 0, 0, position]))
    concepts = _values(scenes, settings.num_concepts, rng)
    train_only = settings.negatives == "train"
    shown = _distinct(scenes.objects)
    own = rng.permutation(shown)[: settings.num_objects]
    others = _others(split, shown, settings.num_random * len(own), train_only, rng)
    draws = uniform(seed, "train", f"{_PURPOSE}/swap", position, position + len(scenes), settings.num_swaps)
    swapped, exists = swapped_objects(scenes, split, draws, train_only=train_only)
    return Pools(concepts, _distinct(np.concatenate([own, others, swapped[exists]])))


def _distinct(ids: np.ndarray) -> np.ndarray:
    """The different ones among ids, int64 [...], in order, without -1; numpy's own takes three times as long."""
    ids = ids.flatten()
    ids.sort()
    new = np.empty(len(ids), dtype=bool)
    new[:1] = ids[:1] >= 0
    np.not_equal(ids[1:], ids[:-1], out=new[1:])
    return ids[new]


def _values(scenes: Scenes, most: int, rng: np.random.Generator) -> np.ndarray:
    space = scenes.space
    if space.num_values <= most:
        return np.arange(space.num_values)
    is_shown = np.zeros(space.num_values + 1, dtype=bool)
    is_shown[scenes.pooled] = True
    (shown,) = is_shown[:-1].nonzero()  # the last place, which is also place -1, is that of no object
    return np.sort(rng.permutation(shown)[:most])


def _others(split: ObjectSplit, shown: np.ndarray, num: int, train_only: bool, rng: np.random.Generator) -> np.ndarray:
    """int64 [<= num]: different objects, uniform, of the train objects or of all, but none of those shown (sorted)."""
    taken = split.train_places(shown) if train_only else shown
    number = (len(split.train) if train_only else split.space.num_objects) - len(taken)
    ranks = rng.choice(number, min(num, number), replace=False)
    # The free place of rank r is one further on for each taken place before it.
    places = ranks + (taken - np.arange(len(taken))).searchsorted(ranks, side="right")
    return split.train[places] if train_only else places


def shows_objects(objects: np.ndarray, scenes: Scenes) -> np.ndarray:
    """bool [scenes, c]: whether each scene holds each of the objects, int64 [c], different ones or -1 for none."""
    return _shows(objects, scenes.objects, scenes.space.num_objects)


def shows_values(pooled: np.ndarray, scenes: Scenes) -> np.ndarray:
    """bool [scenes, c]: whether each scene shows each of the values, int64 [c] in pooled order, different or -1."""
    return _shows(pooled, scenes.pooled, scenes.space.num_values)


def _shows(asked: np.ndarray, there: np.ndarray, number: int) -> np.ndarray:
    """bool [n, c]: a look-up of what is there, int [n, ...] below `number`, and no comparison of every pair."""
    there = there.reshape(len(there), math.prod(there.shape[1:]))
    size = len(there) * len(asked)
    places = _columns(asked, there, number, nowhere=size) + np.arange(len(there))[:, None] * len(asked)
    shown = np.zeros(size + 1, dtype=bool)
    shown[np.minimum(places, size).ravel()] = True  # the place after the last is for what nobody asked
    return shown[:-1].reshape(len(there), len(asked))


def _columns(asked: np.ndarray, there: np.ndarray, number: int, *, nowhere: int) -> np.ndarray:
    """int [n, k]: in which place of those asked, [c], each id stands that is there, [n, k], or `nowhere`."""
    if number <= LISTED:
        column = np.empty(number + 1, dtype=np.int64)
        column[there if there.size < number else slice(None)] = nowhere  # all that is read below
        column[asked] = np.arange(len(asked))
        column[-1] = nowhere  # the place of no object
        return column.take(there)
    order = np.argsort(asked, kind="stable")
    known = asked[order]
    place = np.minimum(np.searchsorted(known, there), len(known) - 1)
    return np.where((known[place] == there) & (there >= 0), order[place], nowhere)

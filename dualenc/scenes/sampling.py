"""The sampler of scenes: scene i of a split is a pure function of (seed, split, i)."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from math import floor

import numpy as np

from dualenc.errors import InputError
from dualenc.scenes.arrays import Scenes
from dualenc.scenes.choices import distinct
from dualenc.scenes.concepts import ConceptSpace
from dualenc.scenes.layouts import Layout, Stated
from dualenc.scenes.limits import check_scene_size
from dualenc.scenes.random import SPLITS, integers, uniform
from dualenc.scenes.split import TRAIN, ObjectSplit, rounded

_SWAP_TABLE = 1 << 20
_EXACT_SWAP_PAIRS = 1 << 23

_MIXED_NEEDS_TWO = "num_samples.mixed: a mixed scene needs two objects; set it to 0 or allow more objects"


class SceneSampler:
    """Draws the scenes of every split.

    split: the object split. `train` and `val` show train objects, `val_ood` and `ood` their own held-out objects,
        `mixed` at least one train and one `ood` object.
    counts: number of objects, at most 12 -> probability.
    sampling: `random`, or `exhaustive` (scene i is the i-th of all n^m ordered tuples of the split's objects,
        identical objects included, as in arXiv 2605.31503; of `mixed`, the i-th tuple that holds both kinds).
    collision_rate: share of train scenes whose swap partner is drawn too: scenes 2j and 2j + 1 are then equal but
        for two objects that have exchanged one concept value, in train objects all four.
    duplicates: whether one scene may hold an object twice.
    layout, min_distance, margin, relation_margin, style, relations, slot_jitter: where the objects stand, see
        `dualenc.scenes.layouts.Layout`.
    """

    def __init__(
        self,
        split: ObjectSplit,
        *,
        seed: int,
        counts: Mapping[int, float],
        sampling: str = "random",
        collision_rate: float = 0.0,
        duplicates: bool = False,
        layout: str = "free",
        min_distance: float = 0.0,
        margin: float = 0.0,
        relation_margin: float = 0.0,
        style: str = "flat",
        relations: Sequence[str] | None = None,
        slot_jitter: float = 0.0,
    ) -> None:
        self.split, self.space, self.seed = split, split.space, seed
        self.sampling, self.duplicates = sampling, duplicates
        self.counts = np.array(sorted(m for m, share in counts.items() if share), dtype=np.int64)
        self.probabilities = np.array([counts[m] for m in self.counts], dtype=np.float64)
        if (
            not len(self.counts)
            or self.counts[0] < 1
            or not np.all((self.probabilities > 0) & (self.probabilities < np.inf))
        ):
            raise InputError(f"objects: {dict(counts)} is no distribution of counts; use e.g. {{1: 0.5, 2: 0.5}}")
        self.probabilities = self.probabilities / self.probabilities.sum()
        self.max_objects = int(self.counts[-1])
        check_scene_size(self.max_objects)
        self.layout = Layout(
            kind=layout,
            seed=seed,
            max_objects=self.max_objects,
            min_distance=min_distance,
            margin=margin,
            relation_margin=relation_margin,
            style=style,
            relations=None if relations is None else tuple(relations),
            slot_jitter=slot_jitter,
        )
        if sampling not in ("random", "exhaustive"):
            raise InputError(f"sampling: {sampling!r} is unknown; use random or exhaustive")
        if sampling == "exhaustive" and (len(self.counts) > 1 or collision_rate):
            raise InputError("sampling: exhaustive needs one object count and collision_rate 0")
        smallest = min(len(split.train), len(split.val_ood), len(split.ood))
        if sampling == "random" and not duplicates and smallest < self.max_objects:
            raise InputError(f"objects: scenes of {self.max_objects} distinct objects need as many in every split")
        self.collision_rate = collision_rate
        self._check_collision_rate()

    def draw(self, name: str, start: int, stop: int) -> Scenes:
        """Scenes start..stop-1 of split `name` (one of SPLITS)."""
        if name not in SPLITS:
            raise InputError(f"split: {name!r} is unknown; use one of {', '.join(SPLITS)}")
        objects = self.draw_objects(name, start, stop)
        numbers = np.arange(start, stop)
        places = self.places(name, objects, numbers, np.zeros_like(numbers))
        return Scenes(self.space, objects, places, self.layout.relation_margin)

    def places(self, name: str, objects: np.ndarray, numbers: np.ndarray, attempts: np.ndarray) -> np.ndarray:
        """float32 [n, m, 2]: where the objects [n, m] of scenes `numbers` [n] of split `name` stand, in these attempts
        [n]; `draw` takes attempt 0. See `dualenc.scenes.layouts`."""
        return self.layout.places(name, objects, numbers, attempts)

    def stated(self, name: str, objects: np.ndarray, numbers: np.ndarray) -> Stated | None:
        """The relations that hold by the relational layout, whatever the attempt; None in another layout."""
        return self.layout.stated(name, objects, numbers) if self.layout.kind == "relational" else None

    def draw_objects(self, name: str, start: int, stop: int) -> np.ndarray:
        """The scenes' objects alone, int64 [stop - start, m], -1 where there is none: for scenes without places."""
        if self.sampling == "exhaustive":
            return self._exhaustive(name, start, stop)
        first, last = start - start % 2, stop + stop % 2  # whole pairs, so that partners are drawn together
        draw = self._mixed(first, last) if name == "mixed" else self._random(name, first, last)
        return draw[start - first : stop - first]

    def num_exhaustive(self, name: str) -> int | None:
        """How many scenes an exhaustive split has; None for random sampling."""
        if self.sampling != "exhaustive":
            return None
        if name != "mixed":
            return len(self._allowed(name)) ** self.max_objects
        train, ood = len(self.split.train), len(self.split.ood)
        return (train + ood) ** self.max_objects - train**self.max_objects - ood**self.max_objects

    def partners(self, start: int, stop: int) -> np.ndarray:
        """bool [stop - start]: whether train scene i is one of a swap pair (its partner is i ^ 1)."""
        if not self.collision_rate:
            return np.zeros(stop - start, dtype=bool)
        pair = np.arange(start, stop) // 2
        return np.floor((pair + 1) * self.collision_rate) > np.floor(pair * self.collision_rate)

    def _allowed(self, name: str) -> np.ndarray:
        """The object ids that scenes of a split other than `mixed` are made of."""
        parts = {
            "train": self.split.train,
            "val": self.split.train,
            "val_ood": self.split.val_ood,
            "ood": self.split.ood,
        }
        return parts[name]

    def _exhaustive(self, name: str, start: int, stop: int) -> np.ndarray:
        if name == "mixed" and self.max_objects < 2:
            raise InputError(_MIXED_NEEDS_TWO)
        total = self.num_exhaustive(name)
        if total is not None and stop > total:
            raise InputError(f"num_samples.{name}: there are only {total} scenes to list; ask for at most that many")
        if name == "mixed":
            return self._exhaustive_mixed(start, stop)
        allowed, rest = self._allowed(name), np.arange(start, stop)
        objects = np.empty((stop - start, self.max_objects), dtype=np.int64)
        for slot in reversed(range(self.max_objects)):
            rest, digit = np.divmod(rest, len(allowed))
            objects[:, slot] = allowed[digit]
        return objects

    def _exhaustive_mixed(self, start: int, stop: int) -> np.ndarray:
        """The tuples by which slots are ood, every way but none and all of them, then as in `_exhaustive`."""
        m, parts = self.max_objects, (self.split.train, self.split.ood)
        is_ood = np.arange(1, 2**m - 1)[:, None] >> np.arange(m)[::-1] & 1
        numbers = [len(parts[0]) ** (m - k) * len(parts[1]) ** k for k in is_ood.sum(axis=1).tolist()]
        ends = np.array([min(end, 2**62) for end in accumulate(numbers, initial=0)], dtype=np.int64)
        way = np.searchsorted(ends, np.arange(start, stop), side="right") - 1
        rest = np.arange(start, stop) - ends[way]
        objects = np.empty((stop - start, m), dtype=np.int64)
        for slot in reversed(range(m)):
            ood = is_ood[way, slot] == 1
            rest, digit = np.divmod(rest, np.where(ood, len(parts[1]), len(parts[0])))
            objects[ood, slot], objects[~ood, slot] = parts[1][digit[ood]], parts[0][digit[~ood]]
        return objects

    def _counts(self, draws: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        return self.counts[
            np.minimum(np.searchsorted(np.cumsum(probabilities), draws, side="right"), len(self.counts) - 1)
        ]

    def _random(self, name: str, start: int, stop: int) -> np.ndarray:
        """int64 [stop - start, m]; start and stop even."""
        m = self.max_objects
        draws = uniform(self.seed, name, "objects", start, stop, 2 * m + 2)
        collides = self.partners(start, stop) if name == "train" else np.zeros(stop - start, dtype=bool)
        swaps = bool(self.collision_rate) and collides.any()
        counts = self._drawn_counts(name, draws[:, 0], collides if swaps else None)
        allowed, picks = self._allowed(name), draws[:, 1 : m + 1]
        objects = allowed.take(integers(picks, len(allowed)) if self.duplicates else distinct(picks, len(allowed)))
        if swaps:
            first = np.flatnonzero(collides[::2]) * 2
            self._place_partners(objects, counts, draws, first)
            keys = uniform(self.seed, name, "order", start, stop, m)[first]
            order = np.argsort(np.where(np.arange(m) < counts[first, None], keys, 2.0), axis=1)
            for rows in (first, first + 1):  # the same order in both, the exchanged objects in any places
                objects[rows] = np.take_along_axis(objects[rows], order, axis=1)
        if len(self.counts) > 1:
            objects[np.arange(m) >= counts[:, None]] = -1
        return objects

    def _drawn_counts(self, name: str, draws: np.ndarray, collides: np.ndarray | None) -> np.ndarray:
        """int64 [n]: the numbers of objects from draws [n]; collides: which scenes are of a swap pair, None: none."""
        if len(self.counts) == 1:
            return np.full(len(draws), self.max_objects)
        paired, single = self._count_probabilities(self.collision_rate if name == "train" else 0.0)
        counts = self._counts(draws, single)
        return counts if collides is None else np.where(collides, self._counts(draws, paired), counts)

    def _place_partners(self, objects: np.ndarray, counts: np.ndarray, draws: np.ndarray, first: np.ndarray) -> None:
        """Makes rows `first` swappable scenes, and the rows after them their partners; in place."""
        m, table = self.max_objects, self._swap_table
        a, b, concept = table[integers(draws[first, m + 1], len(table))].T
        new_a, new_b = exchange(self.space, a, b, concept)
        # The other objects are redrawn among those that are none of the four, so that neither scene repeats one.
        others = np.sort(np.searchsorted(self.split.train, np.stack([a, b, new_a, new_b], axis=1)), axis=1)
        picks = distinct(draws[first, m + 2 : 2 * m], len(self.split.train) - 4)
        for column in range(4):
            picks = picks + (picks >= others[:, column : column + 1])
        rest = self.split.train[picks]
        objects[first] = np.concatenate([a[:, None], b[:, None], rest], axis=1)
        objects[first + 1] = np.concatenate([new_a[:, None], new_b[:, None], rest], axis=1)
        counts[first + 1] = counts[first]

    def _mixed(self, start: int, stop: int) -> np.ndarray:
        """At least one train and one ood object, in random order; counts below two are left out."""
        if self.max_objects < 2:
            raise InputError(_MIXED_NEEDS_TWO)
        m, rows = self.max_objects, np.arange(stop - start)
        draws = uniform(self.seed, "mixed", "objects", start, stop, 3 * m + 2)
        several = np.where(self.counts >= 2, self.probabilities, 0.0)
        counts = self._counts(draws[:, 0], several / several.sum())
        num_ood = 1 + integers(draws[:, 1], counts - 1)
        train = self.split.train[distinct(draws[:, 2 : m + 2], len(self.split.train))]
        ood = self.split.ood[distinct(draws[:, m + 2 : 2 * m + 2], len(self.split.ood))]
        objects = np.where(np.arange(m) < num_ood[:, None], ood, np.roll(train, 1, axis=1))
        order = np.argsort(np.where(np.arange(m) < counts[:, None], draws[:, 2 * m + 2 :], 2.0), axis=1)
        objects = objects[rows[:, None], order]
        objects[np.arange(m) >= counts[:, None]] = -1
        return objects

    def _count_probabilities(self, rate: float) -> tuple[np.ndarray, np.ndarray]:
        """Distributions of counts inside and outside swap pairs whose mixture at `rate` is the asked one."""
        several = np.where(self.counts >= 2, self.probabilities, 0.0)
        paired = several / several.sum() if several.sum() else self.probabilities
        single = self.probabilities - rate * paired if rate else self.probabilities
        return paired, single / single.sum() if rate < 1 else paired

    def _check_collision_rate(self) -> None:
        rate = self.collision_rate
        if not 0 <= rate <= 1:
            raise InputError(f"collision_rate: {rate} is not a share of the scenes; use 0 to 1")
        if not rate:
            return
        reachable = float(self.probabilities[self.counts >= 2].sum())
        if not len(self._swap_table) or len(self.split.train) < 4 + max(self.max_objects - 2, 0):
            reachable = 0.0
        if rate > reachable + 1e-12:
            raise InputError(
                f"collision_rate: {rate} cannot be reached; at most {rounded(reachable, floor)} of the scenes can have "
                "a swap partner made of train objects; lower it, raise coverage or use more scenes of several objects"
            )

    @cached_property
    def _swap_table(self) -> np.ndarray:
        """int64 [t, 3]: pairs of train objects and the concept whose values they can exchange, staying in train.

        All of them where the pairs can be listed, else the legal ones among 2^20 seeded draws."""
        train = self.split.train
        if len(train) ** 2 <= _EXACT_SWAP_PAIRS:
            a, b = (side.ravel() for side in np.triu_indices(len(train), k=1))
        else:
            a, b = integers(uniform(self.seed, "train", "swaps", 0, _SWAP_TABLE, 2), len(train)).T
        tables = []
        for concept in range(self.space.num_concepts):
            column = np.full(len(a), concept)
            legal = swappable(self.split, train[a], train[b], column)
            tables.append(np.stack([train[a], train[b], column], axis=1)[legal])
        return np.concatenate(tables)


def swappable(split: ObjectSplit, a: np.ndarray, b: np.ndarray, concept: np.ndarray) -> np.ndarray:
    """bool [n]: whether exchanging `concept` [n] between objects a and b [n] gives two other, train objects."""
    new_a, new_b = exchange(split.space, a, b, concept)
    return is_new(a, b, new_a, new_b) & (split.status(new_a) == TRAIN) & (split.status(new_b) == TRAIN)


def exchange(space: ConceptSpace, a: np.ndarray, b: np.ndarray, concept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Objects a and b [n] after they have exchanged their values of `concept` [n]."""
    stride, size = space.strides[concept], np.asarray(space.sizes)[concept]
    difference = (b // stride % size - a // stride % size) * stride
    return a + difference, b - difference


def is_new(a: np.ndarray, b: np.ndarray, new_a: np.ndarray, new_b: np.ndarray) -> np.ndarray:
    """bool [n]: whether the exchange made two objects that were not there before."""
    return (new_a != a) & (new_a != b) & (new_b != a) & (new_b != b)

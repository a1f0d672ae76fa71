"""Layouts: where the objects of a scene stand, a pure function of (seed, split, number, attempt).

`free`: random places that keep their distance. `fixed`: slot j of every scene is the j-th place of a regular grid, but
for a jitter, so that an object's place tells its slot (as in arXiv 2605.31503). `relational`: as free, and two objects
of each scene stand in a stated relation, beyond the margin.

An attempt places scenes anew that something else refused (a renderer, where an object is hidden). Within an attempt
scenes without room are drawn again, try after try.
"""

from dataclasses import dataclass
from math import ceil, floor, sqrt

import numpy as np

from dualenc.errors import InputError
from dualenc.scenes.limits import MAX_OBJECTS_OF_SCENE
from dualenc.scenes.random import integers, uniform_at
from dualenc.scenes.relations import AXIS, POSITION_ERROR, SIGN, relation_numbers
from dualenc.scenes.split import rounded

LAYOUTS = ("free", "fixed", "relational")

_PLACES_PER_OBJECT = 8
_TRIES = 1000
_TRIES_TO_COUNT = 100


@dataclass(frozen=True, eq=False)
class Stated:
    """One relation for each of n scenes. relation: int64 [n], an index into RELATIONS; pair: int64 [n, 2], the slots
    of the two objects, the first stands in it to the second; -1 where a scene has a single object."""

    relation: np.ndarray
    pair: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How scenes of at most `max_objects` objects are laid out in the unit square.

    kind: one of LAYOUTS. min_distance: least distance of two centres; margin: least distance of a centre to the border.
    relation_margin: how much the two objects of a stated relation differ at least along its axis.
    style, relations: the relations that are stated, by default all of the style.
    slot_jitter: how far a place may lie from its slot along each axis. All lengths are shares of the side.
    """

    kind: str = "free"
    seed: int
    max_objects: int
    min_distance: float = 0.0
    margin: float = 0.0
    relation_margin: float = 0.0
    style: str = "flat"
    relations: tuple[str, ...] | None = None
    slot_jitter: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in LAYOUTS:
            raise InputError(f"layout: {self.kind!r} is unknown; use {', '.join(LAYOUTS)}")
        if not 0 <= self.relation_margin < 1:
            raise InputError(f"relation_margin: {self.relation_margin} is no share of the side; use 0 <= margin < 1")
        if not 0 <= self.slot_jitter < 1:
            raise InputError(f"slot_jitter: {self.slot_jitter} is no share of the side; use 0 <= jitter < 1")
        relation_numbers(self.style, self.relations)
        if self.kind == "fixed":
            self._check_slots()
        if self.kind == "relational" and self.relation_margin >= 1 - 2 * self.margin:
            raise InputError(
                f"relation_margin: {self.relation_margin} leaves no room for a relation between centres that keep "
                f"{self.margin:.3g} from the border; use less than {rounded(max(1 - 2 * self.margin, 0), floor)}"
            )

    def places(self, name: str, objects: np.ndarray, numbers: np.ndarray, attempts: np.ndarray) -> np.ndarray:
        """float32 [n, m, 2]: the places of the objects [n, m] of scenes `numbers` [n] of split `name`, NaN where there
        is none; attempts: int [n], 0 for a scene's first places. InputError where the objects do not fit."""
        numbers, attempts = np.asarray(numbers, dtype=np.int64), np.asarray(attempts, dtype=np.int64)
        places = np.full((*objects.shape, 2), np.nan, dtype=np.float32)
        for attempt in np.unique(attempts).tolist():
            rows = np.flatnonzero(attempts == attempt)
            purpose = f"places/{attempt}/" if attempt else "places/"
            some = self._fixed if self.kind == "fixed" else self._free
            places[rows] = some(name, purpose, objects[rows], numbers[rows])
        places[objects < 0] = np.nan
        return places

    def stated(self, name: str, objects: np.ndarray, numbers: np.ndarray) -> Stated:
        """The relations that the relational layout gives scenes `numbers` [n] of split `name` with objects [n, m]."""
        draws = uniform_at(self.seed, name, "stated", np.asarray(numbers, dtype=np.int64), 3)
        names = relation_numbers(self.style, self.relations)
        counts = (objects >= 0).sum(axis=1)
        first = integers(draws[:, 1], counts)
        second = integers(draws[:, 2], np.maximum(counts - 1, 0))
        pair = np.stack([first, second + (second >= first)], axis=1)
        relation = names[integers(draws[:, 0], len(names))]
        several = counts >= 2
        return Stated(np.where(several, relation, -1), np.where(several[:, None], pair, -1))

    def _fixed(self, name: str, purpose: str, objects: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        m = objects.shape[1]
        draws = uniform_at(self.seed, name, f"{purpose}0", numbers, 2 * m).reshape(-1, m, 2)
        return (self._slots(self.max_objects)[:m] + self.slot_jitter * (2 * draws - 1)).astype(np.float32)

    def _slots(self, number: int) -> np.ndarray:
        """float64 [number, 2]: a grid, row by row; in the middle of its cells where the margin allows it, else drawn
        in as far as the margin and the jitter ask for."""
        columns = ceil(sqrt(number))
        shape = np.array([columns, ceil(number / columns)])
        edge = np.where(shape > 1, np.maximum(0.5 / shape, self.margin + self.slot_jitter), 0.5)
        step = np.where(shape > 1, (1 - 2 * edge) / np.maximum(shape - 1, 1), 0.0)
        cell = np.stack([np.arange(number) % columns, np.arange(number) // columns], axis=1)
        return edge + step * cell

    def _slots_fit(self, number: int) -> bool:
        slots, room = self._slots(number), self.min_distance + 2 * self.slot_jitter
        apart = [abs(a - b).max() >= room - 1e-9 for i, a in enumerate(slots) for b in slots[:i]]
        inside = np.all((slots >= self.margin + self.slot_jitter) & (slots <= 1 - self.margin - self.slot_jitter))
        return bool(inside) and all(apart)

    def _check_slots(self) -> None:
        if self._slots_fit(self.max_objects):
            return
        fitting = [number for number in range(1, self.max_objects) if self._slots_fit(number)]
        fix = f"use at most {fitting[-1]}, or less jitter" if fitting else "use less jitter or smaller objects"
        raise InputError(
            f"objects: {self.max_objects} slots do not fit into the fixed layout with slot_jitter "
            f"{self.slot_jitter:.3g}, {self.min_distance:.3g} apart and {self.margin:.3g} from the border; {fix}"
        )

    def _free(self, name: str, purpose: str, objects: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Each object in turn at the first of eight drawn places that fits; a scene where one finds none, or whose
        stated relation is inside the margin, is drawn again."""
        n, m = objects.shape
        places, rows = np.zeros((n, m, 2), dtype=np.float32), np.arange(n)
        stated = self.stated(name, objects, numbers) if self.kind == "relational" else None
        for number in range(_TRIES):
            if not len(rows):
                return places
            draws = uniform_at(self.seed, name, f"{purpose}{number}", numbers[rows], m * _PLACES_PER_OBJECT * 2)
            candidates = draws.reshape(len(rows), m, _PLACES_PER_OBJECT, 2) * (1 - 2 * self.margin) + self.margin
            chosen, fits = self._first_fit(candidates, objects[rows] >= 0)
            if stated is not None:
                fits &= self._state(chosen, stated.relation[rows], stated.pair[rows])
            places[rows[fits]] = chosen[fits]
            rows = rows[~fits]
        if not len(rows):
            return places
        raise InputError(self._crowded(int((objects[rows] >= 0).sum(axis=1).max())))

    def _first_fit(self, candidates: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n, m = present.shape
        chosen = np.zeros((n, m, 2))
        fits = np.ones(n, dtype=bool)
        for j in range(m):
            distance = np.linalg.norm(candidates[:, j, :, None] - chosen[:, None, :j], axis=-1)
            free = np.all((distance >= self.min_distance) | ~present[:, None, :j], axis=-1)
            chosen[:, j] = candidates[np.arange(n), j, np.argmax(free, axis=1)]
            fits &= free.any(axis=1) | ~present[:, j]
        return chosen, fits

    def _state(self, chosen: np.ndarray, relation: np.ndarray, pair: np.ndarray) -> np.ndarray:
        """bool [n]: whether the two objects of each stated relation are beyond the margin; where they stand the other
        way round, they exchange their places (in `chosen`, in place)."""
        rows = np.arange(len(chosen))
        a, b = chosen[rows, pair[:, 0]], chosen[rows, pair[:, 1]]
        ahead = (b - a)[rows, AXIS[relation]] * SIGN[relation]
        wrong = np.flatnonzero((relation >= 0) & (ahead < 0))
        chosen[wrong, pair[wrong, 0]], chosen[wrong, pair[wrong, 1]] = b[wrong], a[wrong]
        # Places become float32: the relation must hold of the rounded numbers.
        a, b = (chosen[rows, slot].astype(np.float32).astype(np.float64) for slot in pair.T)
        ahead = (b - a)[rows, AXIS[relation]] * SIGN[relation]
        return (relation < 0) | (ahead > self.relation_margin + POSITION_ERROR)

    def _crowded(self, number: int) -> str:
        """What to say where `number` objects find no places: how many do."""
        fitting = [fewer for fewer in range(1, number) if self._some_fit(fewer)]
        most = f"at most {fitting[-1]} fit" if fitting else "not even one fits"
        related = f" and {self.relation_margin:.3g} along a stated relation" if self.kind == "relational" else ""
        return (
            f"objects: {number} objects at least {self.min_distance:.3g} apart{related} do not fit into the picture, "
            f"{most}; use fewer or smaller objects"
        )

    def _some_fit(self, number: int) -> bool:
        if number > MAX_OBJECTS_OF_SCENE or self.margin > 0.5:
            return False
        draws = uniform_at(self.seed, "train", "fit", np.arange(_TRIES_TO_COUNT), number * _PLACES_PER_OBJECT * 2)
        candidates = draws.reshape(_TRIES_TO_COUNT, number, _PLACES_PER_OBJECT, 2) * (1 - 2 * self.margin) + self.margin
        chosen, fits = self._first_fit(candidates, np.ones((_TRIES_TO_COUNT, number), dtype=bool))
        if self.kind == "relational" and number >= 2:
            names = relation_numbers(self.style, self.relations)
            relation = np.resize(names, _TRIES_TO_COUNT)
            fits &= self._state(chosen, relation, np.tile([0, 1], (_TRIES_TO_COUNT, 1)))
        return bool(fits.any())

"""Which caption is true of which scene: exact, vectorised model checking of logical forms (`dualenc.scenes.forms`).

Captions are existential, and each conjunct needs a witness of its own: "a cube and something red" is true of a scene
only if two different objects serve. That is a matching of conjuncts to objects, which exists (Hall's theorem) exactly
if every set of conjuncts has, together, at least as many candidate objects as conjuncts. Candidate sets are bit masks
over the scene's objects, so one test is a few byte operations; the number of tests doubles with each conjunct, which is
why there is a limit. "Two red cubes" takes all red cubes of the scene, which must be two, as its witnesses; what is
ABSENT must have no candidate at all.

Relations are three-valued. Places that differ by no more than the scenes' margin leave a relation open, and a *way to
decide* is, for each axis, any strict partial order of the objects that contains the definite relations (those beyond
the margin): it may put either of two close objects first, or neither, but it never contradicts a definite relation nor
runs in a circle. A caption is true if it is true in every way; since relations are never denied by a form, that is the
same as true by the definite relations alone. It is undecided if it is true in some ways and false in others, and false
otherwise. Of the pairs of one caption all but a circle of three can be ordered as the caption wishes (at most two
relations, all between different pairs), so that a search over witnesses with one extra test is exact.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from dualenc.errors import InputError
from dualenc.scenes.arrays import Scenes
from dualenc.scenes.forms import ABSENT, EXACTLY, EXISTS, MAX_NUMBER, NONE, RELATION
from dualenc.scenes.limits import MAX_OBJECTS_OF_SCENE
from dualenc.scenes.relations import DIRECTION, RELATIONS, holding

MAX_RELATIONS = 2  # in one caption

_MAX_CONJUNCTS = MAX_OBJECTS_OF_SCENE + 1  # an ADD edit names one object more than its scene has
_BLOCK = 1 << 16  # pairs of scene and caption at a time, few enough to stay in the processor's cache

# What a row is to the matching, in the order in which the rows of a caption are looked at.
_PLAIN, _FIRST, _NEXT, _COUNT, _ABSENT, _PADDING = range(6)  # _FIRST _NEXT ...: a chain of relations

_Gather = Callable[[np.ndarray, np.ndarray], np.ndarray]


def truth(caption_forms: np.ndarray, scenes: Scenes) -> np.ndarray:
    """bool [num_scenes, num_captions]: whether each caption is (definitely) true of each scene.

    caption_forms: int [num_captions, K, 1 + C], see `dualenc.scenes.forms`; a caption without conjuncts is true.
    InputError for a caption of more than 13 conjuncts or 2 relations, for scenes of more than 12 objects, and for
    relations where the scenes have no places.
    """
    forms, kinds = _checked(caption_forms, scenes)
    return _of_all(forms, kinds, scenes, _relation_bits(scenes, kinds))


def undecided(caption_forms: np.ndarray, scenes: Scenes) -> np.ndarray:
    """bool [num_scenes, num_captions]: whether each caption is true of each scene in some, but not all ways to decide
    the relations inside the margin; arguments and limits as of `truth`. Without relations, nothing is undecided."""
    forms, kinds = _checked(caption_forms, scenes)
    result = np.zeros((len(scenes), len(forms)), dtype=bool)
    open_ones = _with_relations(kinds)
    if len(open_ones):
        forms, kinds = forms[open_ones], kinds[open_ones]
        result[:, open_ones] = _of_all(forms, kinds, scenes, _relation_bits(scenes, kinds, only_open=True))
    return result


def truth_of_own(forms: np.ndarray, scenes: Scenes) -> np.ndarray:
    """bool [n]: whether caption i is true of scene i; forms int [n, K, 1 + C]; the limits of `truth`."""
    forms, kinds = _checked(forms, scenes)
    return _of_own(forms, kinds, scenes, _relation_bits(scenes, kinds))


def undecided_of_own(forms: np.ndarray, scenes: Scenes) -> np.ndarray:
    """bool [n]: whether caption i is undecided of scene i; forms int [n, K, 1 + C]; the limits of `truth`."""
    forms, kinds = _checked(forms, scenes)
    result = np.zeros(len(scenes), dtype=bool)
    open_ones = _with_relations(kinds)
    if len(open_ones):
        forms, kinds, scenes = forms[open_ones], kinds[open_ones], scenes[open_ones]
        result[open_ones] = _of_own(forms, kinds, scenes, _relation_bits(scenes, kinds, only_open=True))
    return result


def _with_relations(kinds: np.ndarray) -> np.ndarray:
    return np.flatnonzero((kinds >= RELATION).any(axis=1))


def _of_all(forms: np.ndarray, kinds: np.ndarray, scenes: Scenes, relations: "_Relations | None") -> np.ndarray:
    """bool [num_scenes, num_captions]."""
    bits = _value_bits(scenes)
    result = np.ones((len(scenes), len(forms)), dtype=bool)
    for columns, roles, rows in _groups(forms, kinds):
        step = max(1, _BLOCK // len(columns))
        for start in range(0, len(scenes), step):
            some = slice(start, start + step)
            found = _Matching.of(roles, rows, [table[some] for table in bits], _every)
            held = found.possible
            if relations is not None and _NEXT in roles:
                i, j = np.nonzero(held)
                held[i, j] = found.related((i, j), i + start, rows[j, :, 0], relations)
            result[some, columns] = held
    return result


def _of_own(forms: np.ndarray, kinds: np.ndarray, scenes: Scenes, relations: "_Relations | None") -> np.ndarray:
    """bool [n]: of caption i and scene i."""
    bits = _value_bits(scenes)
    result = np.ones(len(scenes), dtype=bool)
    for own, roles, rows in _groups(forms, kinds):
        found = _Matching.of(roles, rows, [table[own] for table in bits], _each)
        held = found.possible
        if relations is not None and _NEXT in roles:
            (i,) = np.nonzero(held)
            held[i] = found.related((i,), own[i], rows[i, :, 0], relations)
        result[own] = held
    return result


def _every(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.take(table, values, axis=1)


def _each(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    return table[np.arange(len(table)), values]


def _checked(forms: np.ndarray, scenes: Scenes) -> tuple[np.ndarray, np.ndarray]:
    """The forms [c, K, 1 + C] with padding last, and their kinds [c, K]."""
    forms = np.asarray(forms)
    forms = np.take_along_axis(forms, np.argsort(forms[:, :, 0] == NONE, axis=1, kind="stable")[:, :, None], axis=1)
    kinds = forms[:, :, 0]
    lengths = (kinds != NONE).sum(axis=1)
    if np.any(lengths > _MAX_CONJUNCTS):
        raise InputError(f"captions: truth is for at most {_MAX_CONJUNCTS} conjuncts, not {lengths.max()}")
    number = (kinds >= RELATION).sum(axis=1)
    if np.any(number > MAX_RELATIONS):
        raise InputError(f"captions: truth is for at most {MAX_RELATIONS} relations in one, not {number.max()}")
    known = (kinds >= NONE) & (kinds <= ABSENT)
    known |= (kinds > EXACTLY) & (kinds <= EXACTLY + MAX_NUMBER)
    known |= (kinds >= RELATION) & (kinds < RELATION + len(RELATIONS))
    sizes = np.asarray(scenes.space.sizes)
    values_known = (forms[:, :, 1:] < sizes) & (forms[:, :, 1:] >= -1 - sizes)
    if not known.all() or not values_known.all():
        raise ValueError("forms hold a kind or a value that does not exist; see dualenc.scenes.forms")
    if kinds.shape[1]:
        before = np.pad(kinds, ((0, 0), (1, 0)), constant_values=NONE)[:, :-1]
        if np.any((kinds >= RELATION) & (before != EXISTS) & (before < RELATION)):
            raise ValueError("forms hold a relation without an object of its own in the row before")
    return forms, kinds


def _value_bits(scenes: Scenes) -> list[np.ndarray]:
    """For each concept a table [n, 2 V_k + 1] of bit masks: which objects have value v, then which have another one
    than v, for v from the last to the first, then all objects; so `negated(v)` and ANY index from the end."""
    n, m, num_concepts = scenes.values.shape
    if m > MAX_OBJECTS_OF_SCENE:
        raise InputError(f"scenes: truth is for scenes of at most {MAX_OBJECTS_OF_SCENE} objects, not {m}")
    dtype = np.uint8 if m <= 8 else np.uint16
    every = ((scenes.objects >= 0) << np.arange(m)).sum(axis=1).astype(dtype)
    tables = []
    for k in range(num_concepts):
        size = scenes.space.sizes[k]
        table = np.zeros((n, 2 * size + 1), dtype=dtype)
        for j in range(m):
            present = np.flatnonzero(scenes.objects[:, j] >= 0)
            table[present, scenes.values[present, j, k]] |= dtype(1 << j)
        table[:, size : 2 * size] = every[:, None] & ~table[:, :size][:, ::-1]
        table[:, -1] = every
        tables.append(table)
    return tables


@dataclass(frozen=True)
class _Relations:
    """[n, directions, m] bit masks: to which objects object i stands in a relation of each direction; definitely, and,
    where what is undecided is asked for, possibly: the other one does not definitely stand in it to i."""

    definite: np.ndarray
    possible: np.ndarray | None


def _relation_bits(scenes: Scenes, kinds: np.ndarray, *, only_open: bool = False) -> _Relations | None:
    """The relations of scenes, None where no form speaks of any."""
    if not np.any(kinds >= RELATION):
        return None
    m = scenes.objects.shape[1]
    held = np.moveaxis(holding(scenes, np.arange(DIRECTION.max() + 1)), 0, 1)
    present = scenes.objects >= 0
    pairs = present[:, :, None] & present[:, None, :] & ~np.eye(m, dtype=bool)
    possible = pairs[:, None] & ~np.swapaxes(held, 2, 3)
    dtype = np.uint8 if m <= 8 else np.uint16
    definite_bits, possible_bits = ((part << np.arange(m)).sum(axis=-1).astype(dtype) for part in (held, possible))
    return _Relations(definite_bits, possible_bits if only_open else None)


def _groups(forms: np.ndarray, kinds: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[int, ...], np.ndarray]]:
    """Captions of the same make: their numbers [c], the roles of their rows, and the rows [c, L, 1 + C] in the order
    of the roles; chains keep their order. Captions without rows are left out."""
    if not forms.shape[1]:
        return
    after = np.pad(kinds, ((0, 0), (0, 1)), constant_values=NONE)[:, 1:]
    cases = [kinds == NONE, kinds == ABSENT, kinds >= RELATION, kinds > EXACTLY, after >= RELATION]
    roles = np.select(cases, [_PADDING, _ABSENT, _NEXT, _COUNT, _FIRST], default=_PLAIN).astype(np.uint8)
    place = np.where(roles == _NEXT, _FIRST, roles)
    order = np.argsort(place, axis=1, kind="stable")
    roles = np.ascontiguousarray(np.take_along_axis(roles, order, axis=1))
    forms = np.take_along_axis(forms, order[:, :, None], axis=1)
    makes, member = np.unique(roles.view(f"V{roles.shape[1]}").ravel(), return_inverse=True)
    for number, make in enumerate(makes):
        columns = np.flatnonzero(member == number)
        named = [role for role in np.frombuffer(make.tobytes(), dtype=np.uint8).tolist() if role != _PADDING]
        if named:
            yield columns, tuple(named), forms[columns][:, : len(named)]


@dataclass(frozen=True)
class _Matching:
    """Candidates of the rows that need a witness: bit masks [...] of plain rows and of the rows of chains.

    possible: bool [...], whether everything but the relations can be met.
    """

    possible: np.ndarray
    plain: list[np.ndarray]
    chained: list[np.ndarray]
    roles: tuple[int, ...]

    @classmethod
    def of(cls, roles: tuple[int, ...], rows: np.ndarray, bits: list[np.ndarray], gather: _Gather) -> "_Matching":
        """Of captions of the same make; `gather` looks up the masks of a column of values in a table."""
        masks = []
        for j in range(len(roles)):
            mask = gather(bits[0], rows[:, j, 1])
            for k in range(1, len(bits)):
                mask &= gather(bits[k], rows[:, j, 1 + k])
            masks.append(mask)
        witnessed = [mask for role, mask in zip(roles, masks) if role < _COUNT]
        possible, taken = np.ones(masks[0].shape, dtype=bool), None
        for j, (role, mask) in enumerate(zip(roles, masks)):
            if role == _COUNT:
                possible &= np.bitwise_count(mask) == (rows[:, j, 0] - EXACTLY)
                if taken is not None:
                    possible &= (mask & taken) == 0
                taken = mask if taken is None else taken | mask
            elif role == _ABSENT:
                possible &= mask == 0
        if taken is not None:
            witnessed = [mask & ~taken for mask in witnessed]
        possible = _matched(witnessed, possible)
        number = roles.count(_PLAIN)
        return cls(possible, witnessed[:number], witnessed[number:], roles[number:])

    def related(
        self, entries: tuple[np.ndarray, ...], scene: np.ndarray, kinds: np.ndarray, relations: _Relations
    ) -> np.ndarray:
        """bool [p]: whether the relations can be met too, or, where possible ones are given, whether only by those.

        entries: int [p] each, which entries of the masks; scene: int [p], the numbers of their scenes in `relations`;
        kinds: int [p, L], the kinds of the captions' rows."""
        directions = DIRECTION[np.maximum(kinds[:, len(self.plain) :] - RELATION, 0)]
        search = _Search(
            scene=scene,
            plain=[mask[entries] for mask in self.plain],
            chained=[mask[entries] for mask in self.chained],
            roles=self.roles,
            direction=list(directions.T),
        )
        if relations.possible is None:
            return search.run(relations.definite)
        return search.run(relations.possible) & ~search.run(relations.definite)


def _matched(candidates: list[np.ndarray], start: np.ndarray) -> np.ndarray:
    """Hall's condition over every set of rows, and `start` [...], which is overwritten."""
    for mask in candidates:
        start &= mask != 0
    flat, where = start.reshape(-1), np.flatnonzero(start)  # most pairs fail at a single row
    left = [mask.reshape(-1)[where] for mask in candidates] if len(candidates) > 1 else []
    for size in range(2, len(left) + 1):
        for subset in combinations(left, size):
            flat[where] &= np.bitwise_count(np.bitwise_or.reduce(subset)) >= size
    return start


@dataclass(frozen=True)
class _Search:
    """Tries every object for every row of the chains, for p pairs of scene and caption at once.

    scene: int [p], numbers of scenes; plain, chained: masks [p]; roles: of the chained rows; direction: int [p] for
    each chained row, of its relation where the role is _NEXT.
    """

    scene: np.ndarray
    plain: list[np.ndarray]
    chained: list[np.ndarray]
    roles: tuple[int, ...]
    direction: list[np.ndarray]

    def run(self, relations: np.ndarray) -> np.ndarray:
        """bool [p]: whether all rows can be met under these relations, masks [n, directions, m]."""
        number = len(self.scene)
        return self._found(relations, np.arange(number), np.zeros(number, dtype=relations.dtype), ())

    def _found(self, relations: np.ndarray, who: np.ndarray, used: np.ndarray, chosen: tuple[int, ...]) -> np.ndarray:
        """bool [q]: for pairs `who` [q], whether the remaining rows can be met; used: masks [q] of chosen objects."""
        row = len(chosen)
        if row == len(self.chained):
            rest = [mask[who] & ~used for mask in self.plain]
            return _matched(rest, np.ones(len(who), dtype=bool))
        mask = self.chained[row][who] & ~used
        if self.roles[row] == _NEXT:
            scene, direction = self.scene[who], self.direction[row][who]
            mask &= relations[scene, direction, chosen[-1]]
            if self.roles[row - 1] == _NEXT:  # a r b r c must not run in a circle: c does not stand in r to a
                same = direction == self.direction[row - 1][who]
                mask &= np.where(same, relations[scene, direction, chosen[-2]], mask)
        if row == len(self.chained) - 1 and not self.plain:
            return mask != 0
        held = np.zeros(len(who), dtype=bool)
        for i in range(relations.shape[2]):
            fits = np.flatnonzero(((mask >> i & 1) != 0) & ~held)
            if len(fits):
                now_used = used[fits] | relations.dtype.type(1 << i)
                held[fits] = self._found(relations, who[fits], now_used, (*chosen, i))
        return held

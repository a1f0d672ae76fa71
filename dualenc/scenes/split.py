"""Object splits: which objects training may show, and which are held out to test binding on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor, gcd, log10
from typing import Required, TypedDict, Unpack

import numpy as np

from dualenc.errors import InputError
from dualenc.scenes.concepts import LISTED, ConceptSpace
from dualenc.scenes.forms import ANY, negated
from dualenc.scenes.limits import MAX_OBJECTS_OF_SPLIT, check_scene_size

TRAIN, VAL_OOD, OOD = 0, 1, 2  # values of `ObjectSplit.status`

_DRAWS = 1000


class SplitOptions(TypedDict, total=False):
    """The options of `ObjectSplit.make`."""

    coverage: Required[float]
    seed: int
    val_fraction: float
    max_objects: int


@dataclass(frozen=True, eq=False)
class ObjectSplit:
    """Disjoint object ids, sorted int64: `train`, `val_ood` (held out, to choose a model) and `ood` (to report).

    Coverage rho = |train| / |O|, and every concept value occurs in training: what is new about a held-out object is
    its combination only. Source: arXiv 2605.31503, section 2; the third part, `val_ood`, is ours, because the
    released code chooses its model on the objects it reports.
    """

    space: ConceptSpace
    train: np.ndarray
    val_ood: np.ndarray
    ood: np.ndarray
    kind: str = "uniform"

    @classmethod
    def make(
        cls,
        kind: str,
        space: ConceptSpace,
        *,
        coverage: float,
        seed: int = 0,
        val_fraction: float = 0.05,
        max_objects: int = 2,
    ) -> "ObjectSplit":
        """Splits the objects of `space`; the way coverage is spent is `kind`.

        `uniform`: a uniform draw of exactly round(coverage * |O|) objects among the draws in which every value
        occurs. `checkerboard` (two concepts): each value of the first pairs with the same number of values of the
        second, and the reverse; `block`: the held-out objects are a rectangle of the first two concepts. The last
        two take the nearest coverage that they can reach; `coverage` of the result is the realised one.

        `val_ood` gets `val_fraction` of |O|, at least 2 * `max_objects`, and `ood` the rest. Raises InputError where
        some value cannot occur in training, too few held-out objects are left, the space has more than 10^8 objects or
        `max_objects` is above 12.
        """
        if not 0 < coverage < 1:
            raise InputError(f"coverage: {coverage} is not a share of the objects; use a number above 0 and below 1")
        if not 0 <= val_fraction < 1:
            raise InputError(f"val_fraction: {val_fraction} is not a share of the objects; use 0 <= val_fraction < 1")
        if kind not in KINDS:
            raise InputError(f"split kind: {kind!r} is unknown; use one of {', '.join(KINDS)}")
        check_scene_size(max_objects)
        if space.num_objects > MAX_OBJECTS_OF_SPLIT:
            raise InputError(
                f"concepts: {space.num_objects:,} objects are too many, a split lists at most "
                f"{MAX_OBJECTS_OF_SPLIT:,}; use fewer concepts or values"
            )
        rng = np.random.Generator(np.random.Philox(key=np.array([seed, 0], dtype=np.uint64)))
        train = np.sort(KINDS[kind](space, coverage, rng))
        held_out = np.delete(np.arange(space.num_objects), train)
        num_val, least = _least_held_out(space, val_fraction, max_objects)
        if len(held_out) - num_val < least:
            fixes = _fixes(kind, space, len(held_out), coverage, val_fraction, max_objects)
            raise InputError(
                f"coverage: {coverage} holds out {len(held_out)} of {space.num_objects} objects, but {num_val} for "
                f"val_ood and at least {least} for ood are needed; use {' or '.join(fixes)}"
            )
        held_out = rng.permutation(held_out)
        return cls(space, train, np.sort(held_out[:num_val]), np.sort(held_out[num_val:]), kind)

    @classmethod
    def uniform(cls, space: ConceptSpace, **options: Unpack[SplitOptions]) -> "ObjectSplit":
        """`make("uniform", space, ...)`."""
        return cls.make("uniform", space, **options)

    @classmethod
    def checkerboard(cls, space: ConceptSpace, **options: Unpack[SplitOptions]) -> "ObjectSplit":
        """`make("checkerboard", space, ...)`."""
        return cls.make("checkerboard", space, **options)

    @classmethod
    def block(cls, space: ConceptSpace, **options: Unpack[SplitOptions]) -> "ObjectSplit":
        """`make("block", space, ...)`."""
        return cls.make("block", space, **options)

    def trains(self, values: Sequence[int]) -> bool:
        """Whether some train object is as described: a value of each concept, ANY, or `negated(v)` for all but v."""
        described = tuple(values)
        if min(described) >= 0:
            return bool(self.statuses[self.space.encode(np.array(described))] == TRAIN)
        if described not in self._trains:
            fits = np.ones(len(self.train), dtype=bool)
            for column, value in zip(self._train_values.T, described):
                if value != ANY:
                    fits &= column == value if value >= 0 else column != negated(value)
            self._trains[described] = bool(fits.any())
        return self._trains[described]

    @cached_property
    def _train_values(self) -> np.ndarray:
        """int64 [t, C]: the values of the train objects."""
        return self.space.decode(self.train)

    @cached_property
    def _trains(self) -> dict[tuple[int, ...], bool]:
        """What `trains` has answered."""
        return {}

    @property
    def coverage(self) -> float:
        """The realised coverage |train| / |O|."""
        return len(self.train) / self.space.num_objects

    @cached_property
    def statuses(self) -> np.ndarray:
        """int8 [|O|]: TRAIN, VAL_OOD or OOD for every object."""
        table = np.full(self.space.num_objects, OOD, dtype=np.int8)
        table[self.train] = TRAIN
        table[self.val_ood] = VAL_OOD
        return table

    def status(self, ids: np.ndarray) -> np.ndarray:
        """int8 [...]: TRAIN, VAL_OOD or OOD for each object id of an array [...]."""
        return self.statuses[ids]

    def train_places(self, ids: np.ndarray) -> np.ndarray:
        """int [...]: where train objects [...] stand in `train`."""
        if self.space.num_objects > LISTED:
            return np.searchsorted(self.train, ids)
        return self._train_places.take(ids)

    @cached_property
    def _train_places(self) -> np.ndarray:
        """int32 [|O|]: how many train objects come before every object."""
        return np.cumsum(self.statuses == TRAIN, dtype=np.int32) - (self.statuses == TRAIN)


def _least_held_out(space: ConceptSpace, val_fraction: float, max_objects: int) -> tuple[int, int]:
    """How many objects `val_ood` gets, and how many must be left for `ood`."""
    least = 2 * max_objects
    return max(round(val_fraction * space.num_objects), least), least


def _fixes(
    kind: str, space: ConceptSpace, num_held_out: int, coverage: float, val_fraction: float, max_objects: int
) -> list[str]:
    """What to use where too few objects are held out: each is enough by itself."""
    num_objects, (num_val, least) = space.num_objects, _least_held_out(space, val_fraction, max_objects)
    fixes = []
    if most := _most_train(kind, space, num_objects - num_val - least):
        fixes.append(f"a coverage of at most {rounded(most / num_objects, floor)}")
    if num_held_out >= 2 * least:
        fixes.append(f"a val_fraction of at most {rounded((num_held_out - least) / num_objects, floor)}")
    if fewer := [m for m in range(1, max_objects) if sum(_least_held_out(space, val_fraction, m)) <= num_held_out]:
        fixes.append(f"at most {fewer[-1]} object{'s' * (fewer[-1] > 1)} in a scene")
    if coverage + val_fraction < 1:
        fixes.append("more concept values")
    both = "a smaller coverage and val_fraction"
    enough = _most_train(kind, space, num_objects - 2 * least) > 0
    return fixes or [both if enough else f"more concept values with {both}"]


def _most_train(kind: str, space: ConceptSpace, limit: int) -> int:
    """The largest number of train objects up to `limit` that a kind of split reaches; 0 where it reaches none."""
    if kind == "uniform":
        return limit if limit >= max(space.sizes) else 0
    rows, columns = space.sizes[:2]
    if kind == "checkerboard":
        numbers = rows * _widths(rows, columns)
    else:
        areas = np.outer(np.arange(1, rows), np.arange(1, columns))
        numbers = (rows * columns - areas) * (space.num_objects // (rows * columns))
    return int(numbers[numbers <= limit].max(initial=0))


def rounded(share: float, towards: Callable[[float], int]) -> str:
    """A share to four digits, rounded by `floor` or `ceil`, so that a limit that a message names can be reached."""
    digits = 4 - ceil(log10(share)) if share else 0
    return f"{towards(share * 10**digits) / 10**digits:.4g}"


def _uniform(space: ConceptSpace, coverage: float, rng: np.random.Generator) -> np.ndarray:
    number = round(coverage * space.num_objects)
    if max(space.sizes) == space.num_objects:
        raise InputError(
            "concepts: every object is needed in training; use two concepts or more of several values each"
        )
    if number < max(space.sizes):
        raise InputError(
            f"coverage: {coverage} gives {number} training objects, but a concept has {max(space.sizes)} values, so "
            "some value would never occur in training; use at least "
            f"{rounded(max(space.sizes) / space.num_objects, ceil)}"
        )
    for _ in range(_DRAWS):
        train = rng.choice(space.num_objects, number, replace=False, shuffle=False)
        if _covers(space, train):
            return train
    # So few objects that a draw hardly ever has every value: start from a seeded minimal cover, add a uniform rest.
    columns = [np.resize(rng.permutation(size), max(space.sizes)) for size in space.sizes]
    cover = space.encode(np.stack(columns, axis=1))
    rest = rng.permutation(np.setdiff1d(np.arange(space.num_objects), cover))
    return np.concatenate([cover, rest[: number - len(cover)]])


def _covers(space: ConceptSpace, objects: np.ndarray) -> bool:
    values = space.decode(objects)
    return all(np.bincount(values[:, k], minlength=size).all() for k, size in enumerate(space.sizes))


def _checkerboard(space: ConceptSpace, coverage: float, rng: np.random.Generator) -> np.ndarray:
    """A band of equal row and column sums over seeded orders of the values of both concepts."""
    if space.num_concepts != 2:
        raise InputError(f"split kind: checkerboard needs two concepts, not {space.num_concepts}; use uniform or block")
    rows, columns = space.sizes
    widths = _widths(rows, columns)
    if not len(widths):
        raise InputError(
            f"split kind: checkerboard over {rows} x {columns} values has no equal margins below coverage 1; "
            "use numbers of values with a common divisor"
        )
    width = widths[np.argmin(np.abs(widths / columns - coverage))]
    starts = np.arange(rows) * columns // rows
    band = (starts[:, None] + np.arange(width)) % columns
    values = np.stack(np.broadcast_arrays(rng.permutation(rows)[:, None], rng.permutation(columns)[band]), axis=-1)
    return space.encode(values.reshape(-1, 2))


def _widths(rows: int, columns: int) -> np.ndarray:
    """int [k]: with how many values of the second concept each of the first can pair for equal margins of both."""
    step = columns // gcd(rows, columns)
    return np.arange(step, columns, step)


def _block(space: ConceptSpace, coverage: float, rng: np.random.Generator) -> np.ndarray:
    """Everything outside a held-out rectangle of the first two concepts, as square as the sizes allow."""
    if space.num_concepts < 2:
        raise InputError("split kind: block needs at least two concepts; use uniform")
    rows, columns = space.sizes[:2]
    if rows < 2 or columns < 2:
        raise InputError("split kind: block needs two values in each of the first two concepts; use uniform")
    height, width = np.meshgrid(np.arange(1, rows), np.arange(1, columns), indexing="ij")
    area = height * width / (rows * columns)
    error = np.abs(area - (1 - coverage))
    nearest = error <= error.min() + 1e-9
    skew = np.where(nearest, np.abs(height / rows - width / columns), np.inf)
    h, w = np.unravel_index(np.argmin(skew), skew.shape)
    held_rows, held_columns = rng.permutation(rows)[: height[h, w]], rng.permutation(columns)[: width[h, w]]
    values = space.decode(np.arange(space.num_objects))
    return np.flatnonzero(~(np.isin(values[:, 0], held_rows) & np.isin(values[:, 1], held_columns)))


KINDS: dict[str, Callable[[ConceptSpace, float, np.random.Generator], np.ndarray]] = {
    "uniform": _uniform,
    "checkerboard": _checkerboard,
    "block": _block,
}

"""Bag levels: how far a representation gets that knows which concept values a scene holds, but not how they bind.

For a scene with m distinct objects let K be the number of candidate objects all of whose values occur in it.
  bag_level          1 / binomial(K, m): the K candidates in arbitrary order
  bag_ceiling        1 / number of m-subsets of the K candidates that cover every present value
  bag_ceiling_split  the same among candidates of the scene's own status (train or held-out) only
All are per scene; the level of a split is the mean. They depend on scenes alone: compute them once per split.

Two objects, two concepts, no shared value: K = 4, level 1/6, ceiling 1/2. With one value shared K = 2 and both
are 1: the bag determines the scene. Two objects of C concepts that share s values: 1 / 2^(C - s - 1).
"""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int, Int8, Int64, UInt64

from dualenc.metrics.distinct import first_of_each, num_distinct, row_major_ids

_CHUNK = 2**21  # numbers per temporary array: 16 MiB in float64


@dataclass(frozen=True)
class BagLevels:
    """Per-scene bag levels of one split; `ceiling_split` is None where it is too costly (`bag_ceiling_split`)."""

    level: Float64[np.ndarray, "n"]
    ceiling: Float64[np.ndarray, "n"]
    ceiling_split: Float64[np.ndarray, "n"] | None


def bag_levels(
    values: Int[np.ndarray, "n m C"], *, status: Int8[np.ndarray, "num_objects"], sizes: tuple[int, ...]
) -> BagLevels:
    """All three levels of the given scenes; arguments as in `bag_ceiling_split`."""
    return BagLevels(bag_level(values), bag_ceiling(values), bag_ceiling_split(values, status=status, sizes=sizes))


def bag_level(values: Int[np.ndarray, "n m C"]) -> Float64[np.ndarray, "n"]:
    """1 / binomial(K, m) per scene; `values` are concept values, -1 where the scene has no object."""
    return _by_shape(values, lambda m, present: math.comb(math.prod(present), m))


def bag_ceiling(values: Int[np.ndarray, "n m C"]) -> Float64[np.ndarray, "n"]:
    """1 / number of m-subsets of the K candidates that cover every present value, per scene."""
    return _by_shape(values, _num_covers)


def bag_ceiling_split(
    values: Int[np.ndarray, "n m C"],
    *,
    status: Int8[np.ndarray, "num_objects"],
    sizes: tuple[int, ...],
    max_subsets: int = 2**18,
) -> Float64[np.ndarray, "n"] | None:
    """`bag_ceiling` among candidates of the scene's own status: train, or held-out (any nonzero status).

    A scene that holds both (split `mixed`) has no single status: all candidates count, as in `bag_ceiling`.
    `status[id]` is indexed by row-major object id over `sizes` values per concept.

    The exact count sums over subsets of the present values of all concepts but the one with most of them: 4 terms
    for two objects of two concepts, 2^16 for eight of three. Returns None if any scene needs more than
    `max_subsets`, or if the count could exceed 64 bits.
    """
    scene_heldout = (status != 0)[row_major_ids(values, sizes).clip(min=0)]
    exists = values[:, :, 0] >= 0
    any_train, any_heldout = (exists & ~scene_heldout).any(axis=1), (exists & scene_heldout).any(axis=1)
    shapes, inverse = _shapes(values)
    if any(_num_subsets(shape) > max_subsets or _num_covers(*shape) >= 2**64 for shape in shapes):
        return None
    ceiling = np.empty(len(values))
    for index, (m, present) in enumerate(shapes):
        rows = np.nonzero(inverse == index)[0]
        chunk = max(1, _CHUNK // (max(present) * _num_subsets((m, present))))
        for part in np.split(rows, range(chunk, len(rows), chunk)):
            candidates = _candidate_grid(values[part], sizes)
            heldout = (status != 0)[candidates]
            column = (-1, *[1] * len(sizes))
            allowed = (heldout & any_heldout[part].reshape(column)) | (~heldout & any_train[part].reshape(column))
            ceiling[part] = 1 / _num_covers_among(allowed, m)
    return ceiling


def binding_gain(recognised: Bool[np.ndarray, "n"], ceiling: Float64[np.ndarray, "n"]) -> dict[str, float | None]:
    """(mean recognition - mean ceiling) / (1 - mean ceiling) over the scenes with ceiling < 1.

    Keys `binding_gain` (None where no scene qualifies; may be negative) and `binding_gain_count`.
    """
    open_scenes = ceiling < 1
    count = float(open_scenes.sum())
    if not count:
        return {"binding_gain": None, "binding_gain_count": 0.0}
    reached, level = recognised[open_scenes].mean(), ceiling[open_scenes].mean()
    return {"binding_gain": float((reached - level) / (1 - level)), "binding_gain_count": count}


Shape = tuple[int, tuple[int, ...]]
"""(number of distinct objects, number of distinct present values of each concept)."""


def _shapes(values: Int[np.ndarray, "n m C"]) -> tuple[list[Shape], Int64[np.ndarray, "n"]]:
    """The different shapes of the scenes, and each scene's index among them."""
    sizes = tuple(int(v) + 1 for v in values.max(axis=(0, 1), initial=0))
    columns = [num_distinct(row_major_ids(values, sizes))]
    columns += [num_distinct(values[:, :, concept]) for concept in range(values.shape[2])]
    distinct, inverse = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    return [(int(row[0]), tuple(int(d) for d in row[1:])) for row in distinct], inverse.reshape(-1)


def _by_shape(
    values: Int[np.ndarray, "n m C"], count: Callable[[int, tuple[int, ...]], int]
) -> Float64[np.ndarray, "n"]:
    """1 / count(m, present) for every scene, evaluated once per shape."""
    shapes, inverse = _shapes(values)
    return np.array([1 / count(m, present) for m, present in shapes], dtype=np.float64)[inverse]


@functools.lru_cache(maxsize=4096)
def _num_covers(m: int, present: tuple[int, ...]) -> int:
    """m-subsets of the full grid that touch every value: inclusion-exclusion over how many values are kept."""
    total = 0
    for kept in itertools.product(*(range(1, d + 1) for d in present)):
        ways = math.prod(math.comb(d, j) for d, j in zip(present, kept, strict=True))
        total += (-1) ** (sum(present) - sum(kept)) * ways * math.comb(math.prod(kept), m)
    return total


def _num_subsets(shape: Shape) -> int:
    """Terms of the sum in `_num_covers_among`."""
    return 2 ** (sum(shape[1]) - max(shape[1]))


def _candidate_grid(values: Int[np.ndarray, "g m C"], sizes: tuple[int, ...]) -> Int64[np.ndarray, "g *present"]:
    """Ids of the objects all of whose values occur in the scene; the scenes must have one shape."""
    ids = np.zeros((len(values), *[1] * len(sizes)), dtype=np.int64)
    for concept, size in enumerate(sizes):
        ordered = np.sort(values[:, :, concept], axis=1)
        axes = [1] * len(sizes)
        axes[concept] = -1
        ids = ids * size + ordered[first_of_each(ordered)].reshape(len(values), *axes)
    return ids


def _num_covers_among(allowed: Bool[np.ndarray, "g *present"], m: int) -> UInt64[np.ndarray, "g"]:
    """m-subsets of the allowed grid cells that touch every value of every axis, exact below 2^64.

    Inclusion-exclusion over subsets T of the values of all axes but one, the pivot. With n_v(T) allowed cells
    at pivot value v inside T, the m-subsets inside T that touch every pivot value are the coefficient of x^m in
    prod_v ((1 + x)^n_v - 1): mostly m equals the number of pivot values, and it is just prod_v n_v. Unsigned
    arithmetic wraps modulo 2^64, so large terms of either sign cancel exactly.
    """
    pivot = int(np.argmax(allowed.shape[1:])) + 1
    counts = np.moveaxis(allowed, pivot, 1).astype(np.float64)
    num_pivot, slack = counts.shape[1], m - counts.shape[1]
    sign = np.ones(1, dtype=np.uint64)
    for size in counts.shape[2:]:
        inside = (np.arange(2**size) >> np.arange(size)[:, None]) & 1
        counts = np.tensordot(counts, inside.astype(np.float64), axes=(2, 0))
        parity = (size - inside.sum(axis=0)) % 2
        sign = np.outer(sign, np.where(parity == 1, np.uint64(2**64 - 1), np.uint64(1))).reshape(-1)
    cells = counts.reshape(len(allowed), num_pivot, -1).astype(np.int64)

    ways = _binomials(int(cells.max(initial=0)), slack + 1)
    product = [ways[cells[:, 0], degree + 1] for degree in range(slack + 1)]
    for value in range(1, num_pivot):
        factor = [ways[cells[:, value], degree + 1] for degree in range(slack + 1)]
        product = [sum(product[i] * factor[d - i] for i in range(d + 1)) for d in range(slack + 1)]
    return (product[slack] * sign).sum(axis=1, dtype=np.uint64)


def _binomials(largest: int, degree: int) -> UInt64[np.ndarray, "n k"]:
    """Table binomial(n, k) modulo 2^64 for n <= largest, k <= degree."""
    table = [[math.comb(n, k) % 2**64 for k in range(degree + 1)] for n in range(largest + 1)]
    return np.array(table, dtype=np.uint64)

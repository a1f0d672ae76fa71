"""Tables of vectors: one per object, or one per concept value, whose sums stand for scenes.

Level I: f(s) - mean ~ sum of u_o over the objects of s. Level II: u_o ~ sum of u_c over the values of o. Source: "How
can embedding models bind concepts?" (arXiv 2605.31503), section 3 and its released estimators.
"""

from dataclasses import dataclass, replace
from math import comb
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dualenc.analysis.embedded import EmbeddedScenes
from dualenc.metrics.distinct import first_of_each
from dualenc.scenes import ConceptSpace

Estimator = Literal["avg", "avg+pos", "single-obj"]

_STEPS = 500
_RESIDUAL = 1e-10


@dataclass(frozen=True, eq=False)
class ObjectTable:
    """Vectors u of k objects, one for all slots or one for each slot (float64, around `centre`).

    ids: the objects, ascending; vectors [s, k, d] with s = 1 or m; known [s, k]: whether there is a vector.
    """

    ids: Int[np.ndarray, "k"]
    vectors: Float[Tensor, "s k d"]
    known: Bool[np.ndarray, "s k"]
    centre: Float[Tensor, "d"]

    def has(self, objects: Int[np.ndarray, "n m"]) -> Bool[np.ndarray, "n m"]:
        """Whether there is a vector for each object in its slot."""
        found = np.isin(objects, self.ids)
        return found & self.known[self._slots(objects), np.where(found, self._places(objects), 0)]

    def of(self, objects: Int[np.ndarray, "n m"]) -> Float[Tensor, "n m d"]:
        """The vectors of objects in their slots, all of them known."""
        return self.vectors[torch.from_numpy(self._slots(objects)), torch.from_numpy(self._places(objects))]

    def sums(self, objects: Int[np.ndarray, "n m"]) -> Float[Tensor, "n d"]:
        """Reconstructed scenes, around `centre`; slot by slot, so that no [n, m, d] is held."""
        total = self.vectors.new_zeros(len(objects), self.vectors.shape[2])
        places = self._places(objects)
        for i in range(objects.shape[1]):
            total += self.vectors[i if len(self.vectors) > 1 else 0][torch.from_numpy(places[:, i])]
        return total

    def composed(self, space: ConceptSpace, fitted: Bool[np.ndarray, "k"] | None = None) -> "ObjectTable":
        """Level II: every vector replaced by the sum of the vectors of its values, tables by least squares, per slot.

        On a full grid of objects least squares is the mean over the objects that share a value.

        fitted: which objects the tables may see; None for all.
        """
        values = space.decode(self.ids) + space.offsets
        parts = []
        for vectors, known in zip(self.vectors, self.known):
            rows = known if fitted is None else known & fitted
            table = least_squares(values[rows], vectors[torch.from_numpy(rows)], space.num_values)
            parts.append(sum_entries(table, values))
        return replace(self, vectors=torch.stack(parts))

    def _slots(self, objects: Int[np.ndarray, "n m"]) -> Int[np.ndarray, "n m"]:
        slots = np.arange(objects.shape[1]) if len(self.vectors) > 1 else np.zeros(objects.shape[1], dtype=np.int64)
        return np.broadcast_to(slots, objects.shape).copy()

    def _places(self, objects: Int[np.ndarray, "n m"]) -> Int[np.ndarray, "n m"]:
        return np.searchsorted(self.ids, objects).clip(max=len(self.ids) - 1)


def average_table(
    scenes: EmbeddedScenes, *, positions: bool, weights: Float[np.ndarray, "n"] | None = None
) -> ObjectTable:
    """`avg`: the mean of the centred scenes that hold an object, wherever it stands; with `positions`, `avg+pos`: the
    same for each slot. A scene that holds an object twice counts once for it. Scenes of one object: `single-obj`."""
    weight = torch.from_numpy(scene_weights(scenes)[0] if weights is None else weights).to(scenes.embeddings.device)
    z = scenes.embeddings.double()
    centre = (weight[:, None] * z).sum(0) / weight.sum()
    z = weight[:, None] * (z - centre)
    objects = scenes.objects if positions else np.sort(scenes.objects, axis=1)
    counted = np.ones(objects.shape, dtype=bool) if positions else first_of_each(objects)
    ids, place = np.unique(objects, return_inverse=True)
    place = place.reshape(objects.shape)
    sums = z.new_zeros(objects.shape[1] if positions else 1, len(ids), z.shape[1])
    total = z.new_zeros(sums.shape[:2])
    for i in range(objects.shape[1]):
        rows = torch.from_numpy(np.flatnonzero(counted[:, i]))
        index = torch.from_numpy(place[:, i])[rows]
        slot = i if positions else 0
        sums[slot].index_add_(0, index, z[rows])
        total[slot].index_add_(0, index, weight[rows])
    vectors = sums / total.clamp(min=torch.finfo(z.dtype).tiny)[..., None]
    return ObjectTable(ids, vectors, (total > 0).cpu().numpy(), centre)


def scene_weights(scenes: EmbeddedScenes) -> tuple[Float[np.ndarray, "n"], str]:
    """Weights under which the objects of a scene are as if drawn uniformly from all that occur, and how they came.

    Splits show held-out objects beside held-out ones: without weights, the average over an object's scenes would hold
    the mean of its own side, a bias that depends on coverage. All one where no split is known.
    """
    n, m = scenes.objects.shape
    if scenes.train is None:
        return np.ones(n), "all scenes count the same"
    number = scenes.heldout.sum(axis=1)
    occurring = np.unique(scenes.objects)
    num_heldout = int((~np.isin(occurring, scenes.train)).sum())
    repeats = (np.diff(np.sort(scenes.objects, axis=1), axis=1) == 0).any()
    share = num_heldout / len(occurring)
    wanted = np.array(
        [
            comb(m, h) * share**h * (1 - share) ** (m - h)
            if repeats
            else comb(num_heldout, h) * comb(len(occurring) - num_heldout, m - h) / comb(len(occurring), m)
            for h in range(m + 1)
        ]
    )
    found = np.bincount(number, minlength=m + 1) / n
    if np.any((found == 0) & (wanted > 0)):
        return np.ones(n), "as sampled: no scenes for some numbers of held-out objects, so averages lean to one side"
    ratio = np.divide(wanted, found, out=np.zeros_like(wanted), where=found > 0)
    return ratio[number], "scenes are weighted as if objects had been drawn uniformly from all"


def least_squares(
    entries: Int[np.ndarray, "n s"], targets: Float[Tensor, "n d"], num_entries: int
) -> Float[Tensor, "num_entries d"]:
    """The table T of least norm that minimises sum_n ||targets_n - sum_s T[entries_ns]||^2, in float64.

    By conjugate gradients on the normal equations, all columns at once: neither the design matrix nor its Gram matrix
    is made, so the memory is a few tables whatever their length. Stops at a relative residual of 1e-10, or after 500
    steps.
    """
    targets = targets.double()
    residual = _gather(entries, targets, num_entries)
    table, direction = torch.zeros_like(residual), residual.clone()
    square = (residual**2).sum(0)
    first = square.clone()
    for _ in range(_STEPS):
        if torch.all(square <= _RESIDUAL**2 * first):
            break
        product = _gather(entries, sum_entries(direction, entries), num_entries)
        step = square / (direction * product).sum(0).clamp(min=torch.finfo(square.dtype).tiny)
        table += step * direction
        residual -= step * product
        square, before = (residual**2).sum(0), square
        direction = residual + square / before.clamp(min=torch.finfo(square.dtype).tiny) * direction
    return table


def sum_entries(table: Float[Tensor, "k d"], entries: Int[np.ndarray, "n s"]) -> Float[Tensor, "n d"]:
    """The sum of each row's entries of a table."""
    total = table.new_zeros(len(entries), table.shape[1])
    for column in entries.T:
        total += table[torch.from_numpy(np.ascontiguousarray(column))]
    return total


def _gather(entries: Int[np.ndarray, "n s"], rows: Float[Tensor, "n d"], number: int) -> Float[Tensor, "number d"]:
    """The transpose of `sum_entries`."""
    table = rows.new_zeros(number, rows.shape[1])
    for column in entries.T:
        table.index_add_(0, torch.from_numpy(np.ascontiguousarray(column)), rows)
    return table

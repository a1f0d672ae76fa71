"""Scenes to fit a function of concept ids on, and scenes of objects it has not seen: what such studies share."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dualenc.analysis.embedded import SAME, EmbeddedScenes
from dualenc.errors import InputError
from dualenc.scenes import ConceptSpace, ObjectSplit

MAX_UNORDERED = 5
"""Objects of an unordered scene: its slots are gone through in all m! orders."""

"""Share of their squared length that embeddings vary by at least; float32 rounds to less."""


@dataclass(frozen=True, eq=False)
class FitRows:
    """train: rows to fit on; validation: rows to choose a fit by, all with an object that `train` does not show; both
    of `known` objects only. heldout: rows that show none of those. What mixes known and other objects is in none."""

    known: Int[np.ndarray, "k"]
    train: Int[np.ndarray, "t"]
    validation: Int[np.ndarray, "v"]
    heldout: Int[np.ndarray, "h"]

    @classmethod
    def of(
        cls, scenes: EmbeddedScenes, known: Int[np.ndarray, "k"], *, validation: float = 0.0, seed: int = 0
    ) -> "FitRows":
        """The rows that follow from the objects a fit may see; `validation`: share of these kept for validation, fewer
        where the others would not show every value.

        Raises InputError where fewer than two scenes remain in a part.
        """
        spare = _spare_objects(scenes.space, known, round(validation * len(known)), seed)
        in_known, in_spare = np.isin(scenes.objects, known), np.isin(scenes.objects, spare)
        inside = in_known.all(axis=1)
        parts = (inside & ~in_spare.any(axis=1), inside & in_spare.any(axis=1), ~in_known.any(axis=1))
        rows = cls(known, *(np.flatnonzero(part) for part in parts))
        if min(len(rows.train), len(rows.heldout), len(rows.validation) if validation else 2) < 2:
            raise InputError(
                f"scenes: {len(rows.train)} to fit, {len(rows.validation)} to choose a fit by and {len(rows.heldout)} "
                "of held-out objects are too few; use more scenes (num_scenes) or another coverage"
            )
        return rows

    def check(self, scenes: EmbeddedScenes) -> None:
        """Raises ValueError where a fit would see a held-out object, or be judged on one that it has seen."""
        fitted = scenes.objects[np.concatenate([self.train, self.validation])]
        if leaked := len(np.setdiff1d(fitted, self.known)):
            raise ValueError(f"{leaked} held-out objects stand in scenes that are fitted; make the rows by FitRows.of")
        if leaked := len(np.intersect1d(scenes.objects[self.heldout], self.known)):
            raise ValueError(f"{leaked} fitted objects stand in held-out scenes; make the rows by FitRows.of")


def _spare_objects(space: ConceptSpace, known: Int[np.ndarray, "k"], number: int, seed: int) -> list[int]:
    """At most `number` of the known objects, drawn by `seed`, without which the others still have every value."""
    values = space.decode(known) + space.offsets
    counts = np.bincount(values.reshape(-1), minlength=space.num_values)
    spare: list[int] = []
    for i in np.random.default_rng(seed).permutation(len(known)):
        if len(spare) < number and (counts[values[i]] > 1).all():
            counts[values[i]] -= 1
            spare.append(int(known[i]))
    return spare


def scenes_of_count(scenes: Sequence[EmbeddedScenes], count: int) -> EmbeddedScenes:
    """The scenes of `count` objects. InputError naming `count` where there are none, or where there are too many
    objects for scenes without an order of slots; and where all their embeddings are the same."""
    found = next((part for part in scenes if part.num_objects == count), None)
    if found is None:
        counts = ", ".join(str(part.num_objects) for part in scenes)
        raise InputError(f"count: there are no scenes of {count} objects; use one of {counts}")
    if found.slots == "none" and count > MAX_UNORDERED:
        raise InputError(f"count: {count} objects without an order of slots are too many; use at most {MAX_UNORDERED}")
    found.check_varies()
    return found


def known_objects(scenes: EmbeddedScenes, coverage: float | None, *, seed: int) -> Int[np.ndarray, "k"]:
    """A uniform draw of the objects that a fit may see, every value among them; for None the objects of training.

    Raises InputError where training has no held-out objects, or a coverage leaves too few on either side.
    """
    if coverage is None:
        scenes.heldout  # noqa: B018 -- says what is missing where no split is known
        assert scenes.train is not None
        if len(scenes.train) == scenes.space.num_objects:
            raise InputError(
                f"coverage: training showed all {len(scenes.train)} objects; give the share of them that is to be "
                "fitted, e.g. coverage=0.8"
            )
        return scenes.train
    split = ObjectSplit.uniform(scenes.space, coverage=coverage, seed=seed, val_fraction=0, max_objects=1)
    return split.train


def slot_orders(scenes: EmbeddedScenes) -> Int[np.ndarray, "orders m"]:
    """The orders in which a scene's objects may fill the slots: one where slots mean something, else all m!."""
    m = scenes.num_objects
    return np.array(list(permutations(range(m)))) if scenes.slots == "none" else np.arange(m)[None]


def one_hot(values: Int[np.ndarray, "n m C"], space: ConceptSpace) -> Float[np.ndarray, "n _"]:
    """[n, m * sum V_k] of 0 and 1: which value each slot's concepts have; slot by slot, concept by concept."""
    n, m, _ = values.shape
    columns = values + space.offsets + space.num_values * np.arange(m)[:, None]
    table = np.zeros((n, m * space.num_values))
    np.put_along_axis(table, columns.reshape(n, -1), 1.0, axis=1)
    return table


def r2_score(target: Float[Tensor, "n d"], found: Float[Tensor, "n d"]) -> float:
    """1 - SS_res / SS_tot over all dimensions, SS_tot around the mean of these targets, at least what rounding leaves
    of it. May be negative."""
    target, found = target.double(), found.double()
    total, length = ((target - target.mean(0)) ** 2).sum(), (target**2).sum()
    least = (SAME * length).clamp(min=torch.finfo(total.dtype).tiny)
    return float(1 - ((target - found) ** 2).sum() / total.clamp(min=least))

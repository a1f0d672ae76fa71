"""Scenes as arrays."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from dualenc.scenes.concepts import ConceptSpace


@dataclass(frozen=True, eq=False)
class Scenes:
    """n scenes of at most m objects, as arrays.

    objects: int64 [n, m] object ids, -1 where a scene has fewer objects; the objects of a scene stand first.
    positions: float32 [n, m, 2], centres in [0, 1]; NaN where there is no object. The first axis runs to the right; the
        second down the picture (flat) or on the ground toward the viewer (3-D).
    relation_margin: how much two places must differ along an axis, in the same units, for a relation to hold.
    """

    space: ConceptSpace
    objects: np.ndarray
    positions: np.ndarray
    relation_margin: float = 0.0

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, index: np.ndarray | slice) -> "Scenes":
        return replace(self, objects=self.objects[index], positions=self.positions[index])

    @classmethod
    def of(cls, space: ConceptSpace, objects: np.ndarray) -> "Scenes":
        """Scenes of these object ids [n, m] without places."""
        objects = np.asarray(objects, dtype=np.int64)
        return cls(space, objects, np.full((*objects.shape, 2), np.nan, dtype=np.float32))

    @classmethod
    def concatenate(cls, parts: Iterable["Scenes"]) -> "Scenes":
        """All scenes of `parts`, padded to the largest number of objects; ValueError for different margins."""
        parts = list(parts)
        if len({part.relation_margin for part in parts}) > 1:
            raise ValueError("scenes with different relation margins cannot stand in one array")
        width = max(part.objects.shape[1] for part in parts)
        pads = [width - part.objects.shape[1] for part in parts]
        objects = [np.pad(p.objects, ((0, 0), (0, w)), constant_values=-1) for p, w in zip(parts, pads)]
        positions = [np.pad(p.positions, ((0, 0), (0, w), (0, 0)), constant_values=np.nan) for p, w in zip(parts, pads)]
        return replace(parts[0], objects=np.concatenate(objects), positions=np.concatenate(positions))

    @cached_property
    def counts(self) -> np.ndarray:
        """int64 [n], the number of objects of each scene."""
        return np.ascontiguousarray((self.objects >= 0).T).sum(axis=0)  # long rows are summed faster than short ones

    @cached_property
    def values(self) -> np.ndarray:
        """int32 [n, m, C], the objects' concept values; -1 where there is no object."""
        return self.space.values_of(self.objects)

    @cached_property
    def pooled(self) -> np.ndarray:
        """int64 [n, m, C], the numbers of the objects' values among those of all concepts; -1 where there is none."""
        return self.space.pooled_of(self.objects)

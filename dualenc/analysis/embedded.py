"""Scenes beside their embeddings: what every study reads."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from dualenc.errors import InputError
from dualenc.scenes import ConceptSpace

Slots = Literal["mention", "place", "none"]

SAME = 1e-12
"""Share of the squared length below which the variance of embeddings is that of rounding."""


@dataclass(frozen=True, eq=False)
class EmbeddedScenes:
    """n scenes of one and the same number m of objects, and what a tower makes of them.

    embeddings: as the tower gave them (float32 or float64), scene i in row i.
    objects: object ids, in slot order.
    slots: what the order of the objects means: `mention`, the order in which a text names them; `place`, fixed places
        of a picture; `none`, nothing: the objects are a set.
    train: ids of the objects that training showed, ascending; None without a split (pretrained towers).

    Raises InputError for embeddings that hold NaN or Inf, for scenes without objects, and ValueError for object ids
    out of range.
    """

    embeddings: Float[Tensor, "n d"]
    objects: Int[np.ndarray, "n m"]
    space: ConceptSpace
    slots: Slots
    train: Int[np.ndarray, "t"] | None = None

    def __post_init__(self) -> None:
        if len(self.embeddings) != len(self.objects):
            raise ValueError(f"{len(self.embeddings)} embeddings for {len(self.objects)} scenes")
        if not self.objects.size:
            raise InputError("scenes: there are none, or they hold no objects; choose a split that has scenes")
        if self.objects.min() < 0 or self.objects.max() >= self.space.num_objects:
            raise ValueError(f"object ids must lie in [0, {self.space.num_objects}); a scene has no padding here")
        broken = int((~torch.isfinite(self.embeddings)).any(dim=1).sum())
        if broken:
            raise InputError(
                f"embeddings: {broken} of {len(self.embeddings)} hold NaN or Inf; the model diverged, use other weights"
            )

    @property
    def num_scenes(self) -> int:
        """n."""
        return len(self.objects)

    @property
    def num_objects(self) -> int:
        """m, the number of objects in every scene (the space's own `num_objects` is |O|)."""
        return self.objects.shape[1]

    @cached_property
    def values(self) -> Int[np.ndarray, "n m C"]:
        """Concept values of every object, in slot order."""
        return self.space.decode(self.objects)

    @cached_property
    def heldout(self) -> Bool[np.ndarray, "n m"]:
        """Whether training never showed the object. InputError where no split is known."""
        if self.train is None:
            raise InputError("TARGET: has no held-out objects, which this study needs; use a run with a coverage")
        return ~np.isin(self.objects, self.train)

    @cached_property
    def status(self) -> Shaped[np.ndarray, "n"]:
        """Per scene `train` or `heldout`, where all its objects are, else `mixed`. InputError as for `heldout`."""
        number = self.heldout.sum(axis=1)
        return np.where(number == 0, "train", np.where(number == self.num_objects, "heldout", "mixed"))

    @cached_property
    def varies(self) -> bool:
        """Whether the embeddings differ, by more than rounding."""
        z = self.embeddings.double()
        return bool(((z - z.mean(0)) ** 2).sum() > SAME * (z**2).sum())

    def check_varies(self) -> None:
        """InputError where all embeddings are the same: nothing is left to explain."""
        if not self.varies:
            raise InputError(
                "embeddings: all are the same, which leaves nothing to explain; the tower has collapsed, use another"
            )

    def take(self, rows: Int[np.ndarray, "r"] | Bool[np.ndarray, "n"]) -> "EmbeddedScenes":
        """The scenes of these rows, in their order, or where a mask is true."""
        index = torch.from_numpy(np.asarray(rows)).to(self.embeddings.device)
        return replace(self, embeddings=self.embeddings[index], objects=self.objects[rows])

    def normalized(self) -> "EmbeddedScenes":
        """The same scenes with embeddings of length one; an embedding of length zero stays."""
        return replace(self, embeddings=torch.nn.functional.normalize(self.embeddings, dim=1))

"""Retrieval among real scenes: is the nearest one a scene of the right objects?"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_CELLS = 2**24  # cosines held at once: 128 MiB in float64


def set_numbers(*objects: Int[np.ndarray, "_ m"]) -> list[Int[np.ndarray, "_"]]:
    """For each array of scenes, a number per scene: the same, over all arrays, for the same objects in any order."""
    rows = np.concatenate([np.sort(part, axis=1) for part in objects])
    numbers = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    return np.split(numbers, np.cumsum([len(part) for part in objects])[:-1])


@dataclass(frozen=True, eq=False)
class Gallery:
    """Real scenes to find: vectors around their mean, and which objects they show.

    embeddings [n, d]; sets [n]: see `set_numbers`.
    """

    embeddings: Float[Tensor, "n d"]
    sets: Int[np.ndarray, "n"]

    def hits(self, vectors: Float[Tensor, "q d"], wanted: Int[np.ndarray, "q"]) -> Bool[np.ndarray, "q"]:
        """Whether the nearest scene by cosine shows the wanted objects; a wrong scene as near as it is a miss.

        In blocks of vectors, so that memory does not depend on their number. A vector whose objects no scene shows is
        a miss.
        """
        dtype = torch.promote_types(self.embeddings.dtype, torch.float32)
        scenes = torch.nn.functional.normalize(self.embeddings.to(dtype), dim=1)
        sets = torch.from_numpy(self.sets)
        step = max(1, _CELLS // len(sets))
        found = []
        for start in range(0, len(vectors), step):
            scores = vectors[start : start + step].to(dtype) @ scenes.T
            right = torch.from_numpy(wanted[start : start + step])[:, None] == sets
            best = scores.masked_fill(~right, -torch.inf).amax(1)
            found.append(best > scores.masked_fill(right, -torch.inf).amax(1))
        return torch.cat(found).numpy() if found else np.zeros(0, dtype=bool)

    def chance(self, wanted: Int[np.ndarray, "q"]) -> float:
        """How often a scene drawn at random shows the wanted objects."""
        if not len(wanted):
            return 0.0
        counts = np.bincount(self.sets, minlength=int(wanted.max()) + 1)
        return float(counts[wanted].mean() / len(self.sets))

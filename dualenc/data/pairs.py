"""What is true of which scene, pair by pair: as a matrix where it is small, as a judge of blocks where it is not."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dualenc.scenes import ANY, EXACTLY, MAX_NUMBER, NONE, Scenes

MAX_PAIRS = 1 << 24
"""Up to here a matrix is made, by the loader's processes in the background: 16 MiB of a batch. Beyond it the training
process judges block by block."""

Saying = Callable[[np.ndarray, Scenes], np.ndarray]  # `truth` or `undecided`


class PairJudge:
    """What `saying` says of every scene (rows) and form (columns), a block at a time.

    forms: int32 [columns, K, 1 + C]. A plain object of arrays: loaders pickle it and hand it on as it is.
    """

    def __init__(self, saying: Saying, forms: np.ndarray, scenes: Scenes) -> None:
        self.saying, self.forms, self.scenes = saying, forms, scenes

    def __call__(self, rows: slice, columns: slice) -> Any:
        """A bool tensor [rows, columns] on the CPU."""
        import torch

        return torch.from_numpy(self.saying(self.forms[columns], self.scenes[rows]))


def pairs(saying: Saying, forms: np.ndarray, scenes: Scenes) -> np.ndarray | PairJudge:
    """bool [scenes, columns], or a judge that makes blocks of it; forms int32 [columns, K, 1 + C]."""
    if len(scenes) * len(forms) > MAX_PAIRS:
        return PairJudge(saying, forms, scenes)
    return saying(forms, scenes)


def padded_columns(parts: Sequence[np.ndarray]) -> np.ndarray:
    """int32 [world * most, K, 1 + C]: the forms [n, K', 1 + C] of every process in turn, each with as many places as
    the longest needs; in the places left over a form that is neither true nor undecided of any scene."""
    most, num_rows = max(map(len, parts)), max(part.shape[1] for part in parts)
    columns = np.full((len(parts), most, max(num_rows, 1), parts[0].shape[2]), ANY, dtype=np.int32)
    columns[..., 0] = NONE
    columns[:, :, 0, 0] = EXACTLY + MAX_NUMBER  # more objects than a scene can hold
    for place, part in zip(columns, parts):
        place[: len(part), : part.shape[1]] = part
    return columns.reshape(-1, *columns.shape[2:])

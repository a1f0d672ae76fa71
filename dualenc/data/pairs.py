"""What is true of which scene, pair by pair: as a matrix where it is small, as a judge of blocks where it is not."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dualenc.scenes import ANY, EXACTLY, MAX_NUMBER, NONE, Scenes

MAX_PAIRS = 1 << 24
"""Up to here a matrix is made, by the loader's processes in the background: 16 MiB of a batch. Beyond it the training
process judges block by block."""

Saying = Callable[[np.ndarray, Scenes], np.ndarray]  # columns and scenes -> bool [scenes, columns], e.g. `truth`


class PairJudge:
    """What `saying` says of every scene (rows) and column, a block at a time.

    columns: an array with a line for each, as `saying` takes them: forms int32 [columns, K, 1 + C], or ids int64
    [columns]. A plain object of arrays: loaders pickle it and hand it on as it is.
    """

    def __init__(self, saying: Saying, columns: np.ndarray, scenes: Scenes) -> None:
        self.saying, self.columns, self.scenes = saying, columns, scenes

    def __call__(self, rows: slice, columns: slice) -> Any:
        """A bool tensor [rows, columns] on the CPU."""
        import torch

        return torch.from_numpy(self.saying(self.columns[columns], self.scenes[rows]))


def pairs(saying: Saying, columns: np.ndarray, scenes: Scenes) -> np.ndarray | PairJudge:
    """bool [scenes, columns], or a judge that makes blocks of it; columns as of `PairJudge`."""
    if len(scenes) * len(columns) > MAX_PAIRS:
        return PairJudge(saying, columns, scenes)
    return saying(columns, scenes)


def padded_ids(parts: Sequence[np.ndarray]) -> np.ndarray:
    """int64 [world * most]: the ids [n] of every process in turn, -1 in the places left over."""
    if len(parts) == 1:
        return parts[0]
    most = max(map(len, parts))
    ids = np.full((len(parts), most), -1, dtype=np.int64)
    for place, part in zip(ids, parts):
        place[: len(part)] = part
    return ids.ravel()


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

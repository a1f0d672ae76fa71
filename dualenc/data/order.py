"""The order of training samples: a pure function of (seed, position), whoever asks (law 1).

Each pass over the data visits every unit once. Shards are permuted, then samples within windows of a few shards, so
reading stays local. A unit is one sample, or, where scenes come with swap partners, the two scenes 2j and 2j + 1:
partners stay neighbours and land in one batch.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

WINDOW_SHARDS = 8


class SampleOrder:
    """Maps positions 0, 1, 2, ... of an endless training run to sample numbers.

    shard_sizes: samples of each shard, in order; paired: keep samples 2j and 2j + 1 together (a last odd sample is
    left out).
    """

    def __init__(self, shard_sizes: Sequence[int], *, seed: int, paired: bool = False) -> None:
        self.seed, self.unit = seed, 2 if paired else 1
        sizes = np.asarray(shard_sizes, dtype=np.int64)
        if paired and np.any(sizes[:-1] % 2):
            raise ValueError("shards must hold an even number of samples where scenes come in pairs")
        self._sizes = sizes // self.unit
        self._starts = np.cumsum([0, *self._sizes[:-1]])
        self.epoch_length = int(self._sizes.sum()) * self.unit
        self._window = lru_cache(maxsize=4)(self._compute_window)
        self._shards = lru_cache(maxsize=2)(self._compute_shards)

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """int64 [stop - start]: the sample numbers at positions start..stop-1."""
        parts = []
        while start < stop:
            epoch, offset = divmod(start, self.epoch_length)
            _, window_ends = self._shards(epoch)
            window = int(np.searchsorted(window_ends, offset // self.unit, side="right"))
            first = int(window_ends[window - 1]) * self.unit if window else 0
            samples = self._window(epoch, window)[offset - first : offset - first + stop - start]
            parts.append(samples)
            start += len(samples)
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def _compute_shards(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The epoch's order of shards, and the units up to the end of each window."""
        shards = self._generator(epoch, 0).permutation(len(self._sizes))
        ends = np.cumsum(self._sizes[shards])
        last = np.minimum(np.arange(WINDOW_SHARDS, len(shards) + WINDOW_SHARDS, WINDOW_SHARDS), len(shards)) - 1
        return shards, ends[last]

    def _compute_window(self, epoch: int, window: int) -> np.ndarray:
        shards = self._shards(epoch)[0][window * WINDOW_SHARDS : (window + 1) * WINDOW_SHARDS]
        units = np.concatenate([np.arange(self._starts[s], self._starts[s] + self._sizes[s]) for s in shards])
        units = self._generator(epoch, window + 1).permutation(units)
        return (units[:, None] * self.unit + np.arange(self.unit)).ravel()

    def _generator(self, epoch: int, counter: int) -> np.random.Generator:
        key = np.array([self.seed, epoch], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, counter]))

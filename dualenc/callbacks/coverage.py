"""How much of what the split allows has training seen: objects, pairs of objects, values; collisions and edits."""

from itertools import combinations
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from dualenc.callbacks.clock import StepCallback, is_log_step
from dualenc.module import DualEncoderModule
from dualenc.scenes import ObjectSplit

MAX_PAIRS = 1 << 26  # pairs are counted in a bit map up to this many (8 MiB as bits in a checkpoint)


class CoverageCallback(StepCallback):
    """Counts distinct train objects, unordered object pairs (scenes of two or more) and concept values seen so far.

    The counts are over the global batch, so they do not depend on the number of processes. Where the split allows
    more than MAX_PAIRS pairs, pairs are not counted.
    """

    def __init__(self, record: dict[str, Any], *, split: ObjectSplit, max_objects: int, every: int) -> None:
        super().__init__(record)
        self.split, self.every = split, every
        number = len(split.train)
        self._rank = np.full(split.space.num_objects, -1, dtype=np.int64)
        self._rank[split.train] = np.arange(number)
        self._objects = np.zeros(number, dtype=bool)
        self.pairs_allowed = number * (number - 1) // 2 if max_objects > 1 else 0
        self._pairs = np.zeros(self.pairs_allowed if self.pairs_allowed <= MAX_PAIRS else 0, dtype=bool)
        self._batches = self._collisions = self._edits = 0

    def after_step(self, trainer: pl.Trainer, module: DualEncoderModule, outputs: Any, batch: Any) -> None:
        """Adds the batch; at a logging step puts the numbers into the record."""
        ids = batch.objects.cpu().numpy()
        ranks = np.sort(np.where(ids >= 0, self._rank[ids], -1), axis=1)
        self._objects[ranks[ranks >= 0]] = True
        if len(self._pairs):
            for i, j in combinations(range(ids.shape[1]), 2):
                low, high = ranks[:, i], ranks[:, j]
                distinct = (low >= 0) & (low < high)
                self._pairs[(high * (high - 1) // 2 + low)[distinct]] = True
        self._batches += 1
        self._collisions += batch.collisions
        self._edits += batch.edits
        if is_log_step(module, self.every):
            self.record.update(self.numbers())

    def numbers(self) -> dict[str, float]:
        """Seen against allowed, and means per batch so far."""
        space = self.split.space
        values = space.decode(self.split.train[self._objects])
        numbers = {
            "objects_seen": int(self._objects.sum()),
            "objects_allowed": len(self.split.train),
            "values_seen": sum(len(np.unique(values[:, k])) for k in range(space.num_concepts)),
            "values_allowed": space.num_values,
            "pairs_allowed": self.pairs_allowed,
            "collisions_per_batch": self._collisions / max(self._batches, 1),
            "edits_per_batch": self._edits / max(self._batches, 1),
        }
        if len(self._pairs):
            numbers["pairs_seen"] = int(self._pairs.sum())
        return {f"coverage/{name}": value for name, value in numbers.items()}

    def state_dict(self) -> dict[str, Any]:
        """Bit maps and counters."""
        return {
            "objects": torch.from_numpy(np.packbits(self._objects)),
            "pairs": torch.from_numpy(np.packbits(self._pairs)),
            "counters": [self._batches, self._collisions, self._edits],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores them."""
        for mine, name in ((self._objects, "objects"), (self._pairs, "pairs")):
            mine[:] = np.unpackbits(state_dict[name].numpy(), count=len(mine)).astype(bool)
        self._batches, self._collisions, self._edits = state_dict["counters"]

"""A callback that measures embedded pairs, a scene and a query that is true of it, at every validation."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from dualenc.callbacks.clock import StepCallback, is_due
from dualenc.evaluation import Evaluator, Pairs
from dualenc.module import DualEncoderModule


class ValPairs:
    """The first `num_scenes` scenes of val with a query each, embedded once however many callbacks ask."""

    def __init__(self, make_evaluator: Callable[[], Evaluator], num_scenes: int) -> None:
        self.make_evaluator, self.num_scenes = make_evaluator, num_scenes
        self._samples = -1
        self._pairs: Pairs | None = None

    def __call__(self, samples: int) -> Pairs:
        """Those of the weights after `samples` training samples."""
        if self._pairs is None or samples != self._samples:
            self._samples, self._pairs = samples, self.make_evaluator().pairs("val", num_scenes=self.num_scenes)
        return self._pairs


class PairsCallback(StepCallback):
    """Puts its numbers into the record at every validation. The data must have a val split."""

    def __init__(self, record: dict[str, Any], *, pairs: ValPairs, every: int) -> None:
        super().__init__(record)
        self.pairs, self.every = pairs, every

    def after_step(self, trainer: pl.Trainer, module: DualEncoderModule, outputs: Any, batch: Any) -> None:
        """Measures when due."""
        if is_due(module.samples, self.every, module.batch_size, module.max_samples):
            self.record.update(self.numbers(self.pairs(module.samples)))

    @staticmethod
    def numbers(pairs: Pairs) -> dict[str, float]:
        """Metric name -> number."""
        raise NotImplementedError

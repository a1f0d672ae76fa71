"""Validation while training: binding metrics on every split, and the best weights by `val_ood`."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from dualenc.callbacks.clock import StepCallback, is_due
from dualenc.evaluation import Evaluator, with_prefix
from dualenc.module import DualEncoderModule
from dualenc.run import RunFolder
from dualenc.weights import BEST, save_weights

SELECTION = "val_ood/object_recognition"


class BindingCallback(StepCallback):
    """Evaluates every `every` samples on the first `num_scenes` scenes of each split.

    Each process evaluates all of it, so that nobody waits for anybody. Weights with a better SELECTION than any
    before go to best.safetensors; the reporting splits have no say (law 5).
    """

    def __init__(
        self,
        record: dict[str, Any],
        *,
        make_evaluator: Callable[[], Evaluator],
        run: RunFolder,
        every: int,
        num_scenes: int,
    ) -> None:
        super().__init__(record)
        self.make_evaluator, self.run = make_evaluator, run  # made late: the model moves to its device first
        self.every, self.num_scenes = every, num_scenes
        self.best: dict[str, Any] = {}

    def after_step(self, trainer: pl.Trainer, module: DualEncoderModule, outputs: Any, batch: Any) -> None:
        """Validates when due."""
        if not is_due(module.samples, self.every, module.batch_size, module.max_samples):
            return
        numbers = with_prefix(self.make_evaluator().all_splits(num_scenes=self.num_scenes))
        self.record.update(numbers)
        score = numbers.get(SELECTION)
        if score is not None and score > self.best.get("score", -1.0):
            self.best = {"score": score, "samples": module.samples}
            if trainer.is_global_zero:
                save_weights(self.run.checkpoints / BEST, module.model, samples=module.samples)

    def state_dict(self) -> dict[str, Any]:
        """The best score so far and where it was reached."""
        return dict(self.best)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores it."""
        self.best = dict(state_dict)

"""Callbacks share one step record: what a step measures goes there, and one of them writes it down."""

from typing import Any

import pytorch_lightning as pl

from dualenc.divergence import diverged, not_finite
from dualenc.errors import NotFinite
from dualenc.module import DualEncoderModule


class StepCallback(pl.Callback):
    """A callback that acts after optimiser steps. `record` is shared by all of a run's callbacks: metric name ->
    number for this step, emptied after it is logged."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.record = record

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Passes on to `after_step`."""
        assert isinstance(pl_module, DualEncoderModule)
        try:
            self.after_step(trainer, pl_module, outputs, batch)
        except NotFinite as error:
            where = not_finite(pl_module.model, batch) or str(error)
            raise diverged(pl_module.samples, pl_module.batch_size, where) from None

    def after_step(self, trainer: pl.Trainer, module: DualEncoderModule, outputs: Any, batch: Any) -> None:
        """What the callback does once `module.samples` counts this step; `outputs` are the step's numbers."""
        raise NotImplementedError


def is_log_step(module: DualEncoderModule, every: int) -> bool:
    """Whether the step that just ended gets a line of training metrics: each `every`-th, the first and the last."""
    step = module.samples // module.batch_size
    return step % every == 0 or step == 1 or module.samples >= module.max_samples


def is_due(samples: int, every: int, batch_size: int, last: int) -> bool:
    """Whether a step that ended at `samples` crossed a multiple of `every`, or is the last one."""
    return samples // every > (samples - batch_size) // every or samples >= last

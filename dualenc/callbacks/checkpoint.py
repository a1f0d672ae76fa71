"""Checkpoints that are whole or absent, and leaving when a signal asks for it."""

import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.plugins.io import CheckpointIO

from dualenc.callbacks.clock import StepCallback
from dualenc.errors import InputError
from dualenc.files import atomic_path
from dualenc.module import DualEncoderModule
from dualenc.run import RunFolder
from dualenc.signals import StopFlag
from dualenc.weights import LAST, PREVIOUS

_LARGEST_SHARE = 0.05  # of the time that saving may take


class AtomicCheckpointIO(CheckpointIO):
    """Keeps the two newest checkpoints; at any moment at least one of them is whole (law 7)."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes beside `path`, moves the old file to PREVIOUS, then the new one into place."""
        path = Path(path)
        with atomic_path(path) as temporary:
            _save(checkpoint, temporary)
            if path.exists():
                os.replace(path, path.with_name(PREVIOUS))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Tensors and plain values only: a checkpoint cannot run code (law 6)."""
        return torch.load(path, map_location=map_location, weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        """Removes a file."""
        Path(path).unlink(missing_ok=True)


def _save(checkpoint: dict[str, Any], path: Path) -> None:
    """`torch.save`, but a full disk is the OSError that it is, not the RuntimeError of torch's writer."""
    try:
        with open(path, "wb") as file:
            torch.save(checkpoint, file)
    except RuntimeError as error:
        raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


class CheckpointCallback(StepCallback):
    """Saves every `seconds` (less often where that would take over 5% of the time), at the end, and when stopped.

    At the end of each step all processes agree whether one of them was asked to stop; then all save and leave.
    """

    def __init__(self, record: dict[str, Any], *, run: RunFolder, seconds: float, stop: StopFlag) -> None:
        super().__init__(record)
        self.run, self.seconds, self.stop = run, seconds, stop
        self._saved_at, self._cost = time.monotonic(), 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock; InputError where the processes do not start at the same position."""
        assert isinstance(pl_module, DualEncoderModule)
        self._saved_at = time.monotonic()
        if trainer.world_size > 1:
            mine = torch.tensor([pl_module.samples], device=trainer.strategy.root_device)
            starts = torch.zeros(trainer.world_size, dtype=mine.dtype, device=mine.device)
            starts[trainer.global_rank] = mine[0]
            dist.all_reduce(starts)
            if (starts != mine).any():
                raise InputError(
                    f"run.dir: the processes read different checkpoints, at {starts.tolist()} samples; it must lie on "
                    "a file system that all nodes share; if it does, run the same command again"
                )

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds whose checkpoint it is: that of another config is refused."""
        checkpoint["run"] = self.run.hash

    def after_step(self, trainer: pl.Trainer, module: DualEncoderModule, outputs: Any, batch: Any) -> None:
        """Saves when due; ends the training when asked to."""
        waited = time.monotonic() - self._saved_at
        due = waited >= max(self.seconds, self._cost / _LARGEST_SHARE)
        due, stop = self._agree([due, self.stop.is_set], trainer)
        if due or stop or module.samples >= module.max_samples:
            self._save(trainer, module)
        if stop:
            trainer.should_stop = True

    def _agree(self, flags: list[bool], trainer: pl.Trainer) -> list[bool]:
        """Whether any process says so."""
        if trainer.world_size == 1:
            return flags
        together = torch.tensor(flags, dtype=torch.int32, device=trainer.strategy.root_device)
        dist.all_reduce(together, op=dist.ReduceOp.MAX)
        return [bool(flag) for flag in together.tolist()]

    def _save(self, trainer: pl.Trainer, module: DualEncoderModule) -> None:
        began = time.monotonic()
        trainer.datamodule.position = module.samples  # type: ignore[attr-defined]
        trainer.save_checkpoint(self.run.checkpoints / LAST)
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - began

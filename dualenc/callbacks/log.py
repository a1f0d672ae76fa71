"""Writes the record of a step: metrics.jsonl, the screen, and wandb where it is live."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from dualenc.callbacks.clock import StepCallback, is_log_step
from dualenc.module import DualEncoderModule
from dualenc.run import MetricsLog

SHOWN = ("val/object_recognition", "val/bag_level", "ood/object_recognition", "ood/bag_level")


class LogCallback(StepCallback):
    """One line for each `every` steps and for each validation; every process keeps the record, process 0 writes.

    live: receives each line too (wandb online). Outside a terminal, or with `progress` off, progress is plain lines.
    """

    def __init__(
        self,
        record: dict[str, Any],
        *,
        lines: MetricsLog,
        every: int,
        progress: bool,
        live: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        super().__init__(record)
        self.lines, self.every, self.live = lines, every, live
        self.show = progress
        self._bar: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the bar, on a terminal."""
        assert isinstance(pl_module, DualEncoderModule)
        if self.show and trainer.is_global_zero and sys.stderr.isatty():
            columns = ("training", BarColumn(), TextColumn("{task.completed:,}/{task.total:,} samples"))
            self._bar = Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
            self._bar.start()
            self._task = self._bar.add_task("", total=pl_module.max_samples, completed=pl_module.samples, note="")

    def after_step(self, trainer: pl.Trainer, module: DualEncoderModule, outputs: Any, batch: Any) -> None:
        """Writes the line when there is one."""
        if self._bar is not None:
            self._bar.update(self._task, completed=module.samples)
        if is_log_step(module, self.every):
            self.record.update({name: float(value) for name, value in outputs.items()})
        if self.record and trainer.is_global_zero:
            step = module.samples // module.batch_size
            self.lines.append(step=step, samples=module.samples, values=self.record)
            if self.live is not None:
                self.live({"step": step, "samples": module.samples, **self.record})
            self._print(module)
        self.record.clear()

    def _print(self, module: DualEncoderModule) -> None:
        shown = [f"{name} {self.record[name]:.3f}" for name in SHOWN if name in self.record]
        loss = [f"loss {self.record['train/loss']:.4f}"] if "train/loss" in self.record else []
        line = f"{module.samples:,} samples: {' '.join(shown or loss)}"
        if self._bar is None:
            print(line, file=sys.stderr, flush=True)
        elif shown:
            self._bar.console.print(line, highlight=False)
        else:
            self._bar.update(self._task, note=" ".join(loss))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends the bar."""
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Ends the bar before a traceback."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

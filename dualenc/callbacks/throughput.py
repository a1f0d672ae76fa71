"""How fast training runs, and what it waits for."""

import resource
import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch

from dualenc.callbacks.clock import StepCallback, is_log_step
from dualenc.models import embedded_flops
from dualenc.module import DualEncoderModule
from dualenc.precision import multiplies_bf16

_DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "64-true": torch.float64}
_SIDES = {"cpu": 1024, "cuda": 4096}  # of the matrices whose product measures what a device can do at best


class ThroughputCallback(StepCallback):
    """Samples a second of all processes, the share of the time spent waiting for data, peak memory, and the share of
    the machine's matmul rate that the step's counted multiplications reach.

    Only steps and waiting for data count: validation, logs and checkpoints are left out. It stands before the logger;
    its `last` stands behind all callbacks and notes when the wait for the next batch begins.
    """

    def __init__(self, record: dict[str, Any], *, every: int) -> None:
        super().__init__(record)
        self.every = every
        self.last = _Last(self)
        self._step = self._wait = 0.0
        self._began = self._waiting_since = 0.0
        self._steps = self._flops = 0
        self._peak = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measures the matmul rate of this process's device in the run's precision."""
        self._peak = matmul_rate(pl_module.device, dtype=_DTYPES[str(trainer.precision)])
        self.wait()

    def wait(self) -> None:
        """The wait for a batch begins now."""
        self._waiting_since = time.perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The batch is there."""
        self._began = time.perf_counter()
        self._wait += self._began - self._waiting_since

    def after_step(self, trainer: pl.Trainer, module: DualEncoderModule, outputs: Any, batch: Any) -> None:
        """Adds the step; at a logging step puts the means since the last one into the record."""
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        self._step += time.perf_counter() - self._began
        self._steps += 1
        assert module.embedded is not None
        self._flops += embedded_flops(module.model, *module.embedded)
        if is_log_step(module, self.every):
            seconds = max(self._step + self._wait, 1e-9)
            rate = self._flops / seconds
            numbers = {
                "samples_per_second": self._steps * module.batch_size / seconds,
                "data_wait": self._wait / seconds,
                "peak_memory_gib": peak_memory(module.device) / 2**30,
                "gflops": rate / 1e9,
                "flop_utilisation": rate / self._peak,
            }
            self.record.update({f"throughput/{name}": value for name, value in numbers.items()})
            self._step = self._wait = 0.0
            self._steps = self._flops = 0


class _Last(pl.Callback):
    """Tells a `ThroughputCallback` that all other callbacks are done."""

    def __init__(self, throughput: ThroughputCallback) -> None:
        self.throughput = throughput

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """See the class."""
        self.throughput.wait()


def matmul_rate(device: torch.device, *, dtype: torch.dtype) -> float:
    """FLOP/s of one large matrix product on a device, the best of three; what a step can reach at the very most."""
    side = _SIDES.get(device.type, 1024)
    if device.type == "cpu" and dtype == torch.bfloat16 and not multiplies_bf16():
        side //= 4  # emulated at about 1 GFLOP/s
    matrix = torch.ones(side, side, device=device, dtype=dtype)
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        matrix @ matrix
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / min(seconds[1:])


def peak_memory(device: torch.device) -> int:
    """Most bytes that this process has held so far: on the device where that is a GPU, else in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

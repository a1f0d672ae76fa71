"""Torch as a run needs it: what is global, and the device."""

import contextlib
import ctypes
import logging
import os
import warnings
from typing import Literal

import torch

from dualenc.config import Config
from dualenc.errors import InputError


def set_up_torch(config: Config) -> None:
    """Everything global that a result may depend on: threads, determinism, what Lightning prints; and memory."""
    keep_freed_memory()
    torch.set_num_threads(config.trainer.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Nothing reads uninitialised memory, and filling it takes time in every layer.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_float32_matmul_precision("highest")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")  # a laptop with Slurm is no mistake


def keep_freed_memory() -> None:
    """Lets this process keep the memory of freed tensors for the next ones, where the C library is glibc.

    By itself glibc gives blocks of above 32 MiB back to the system at once and takes new ones, page by page, for the
    next layer: on a CPU, at the default size and batch 64, a quarter of a step's time outside matrix products.
    """
    trim_threshold, mmap_max = -1, -4  # malloc.h
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)


def accelerator_of(config: Config) -> Literal["cpu", "gpu"]:
    """What a run trains on: `auto` is CUDA where there is a device, else the CPU (never another kind of device).

    InputError where `gpu` is asked for and there is no CUDA device.
    """
    asked = config.trainer.accelerator
    if asked == "gpu" and not torch.cuda.is_available():
        raise InputError(
            "trainer.accelerator: gpu, but torch finds no CUDA device; use trainer.accelerator=auto or cpu"
        )
    return "gpu" if asked != "cpu" and torch.cuda.is_available() else "cpu"


def device_of(config: Config) -> torch.device:
    """The device of a training in one process. InputError as `accelerator_of`."""
    return torch.device("cuda" if accelerator_of(config) == "gpu" else "cpu")


def device_for_use(config: Config) -> torch.device:
    """The device on which a trained model is used: that of its training, or the CPU where this machine has no GPU."""
    return device_of(config) if torch.cuda.is_available() else torch.device("cpu")

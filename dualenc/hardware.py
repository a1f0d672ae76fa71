"""Torch as a run needs it: what is global, and the device."""

import logging
import os
import warnings

import torch

from dualenc.config import Config


def set_up_torch(config: Config) -> None:
    """Everything global that a result may depend on: threads, determinism, what Lightning prints."""
    torch.set_num_threads(config.trainer.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_float32_matmul_precision("highest")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")


def device_of(config: Config) -> torch.device:
    """The device that a single process evaluates and embeds on."""
    use_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if use_gpu else "cpu")

"""Weights on disk: the checkpoints of a run folder and safetensors files. No Lightning here, so anyone may load."""

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dualenc.errors import InputError
from dualenc.files import atomic_write
from dualenc.models import DualEncoder

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.safetensors"  # in the folder `checkpoints`
FINAL = "weights.safetensors"  # in the run folder, once the training is complete


def save_weights(path: Path, model: DualEncoder, *, samples: int) -> None:
    """Writes the weights as safetensors, atomically, with the number of samples they were trained on."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_tensors(path, state, metadata={"samples": str(samples)})


def write_tensors(path: Path, tensors: dict[str, Tensor], *, metadata: dict[str, str] | None = None) -> None:
    """Writes tensors on the CPU as safetensors, atomically, readable as every other file (its own writer is not)."""
    atomic_write(path, save(tensors, metadata=metadata))


def read_weights(path: Path) -> tuple[dict[str, Tensor], int]:
    """What `save_weights` wrote: tensors by name, and samples. InputError where the file is damaged, or another's."""
    try:
        with safe_open(path, framework="pt") as file:
            samples = (file.metadata() or {}).get("samples", "")
            if not samples.isdecimal():
                raise InputError(
                    f"{path}: does not say after how many samples, so dualenc did not write it; restore it"
                )
            return {name: file.get_tensor(name) for name in file.keys()}, int(samples)  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path}: these weights are damaged ({error}); restore the file") from None


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest readable checkpoint and its content; an unreadable one is skipped with a warning."""
    for name in (LAST, PREVIOUS):
        path = folder / name
        if path.exists():
            try:
                return path, torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # a torn file can fail in many ways, none of which may stop a resume
                print(f"warning: {path} cannot be read ({type(error).__name__}); trying an older one", file=sys.stderr)
    return None


def model_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of the `DualEncoder` in a checkpoint."""
    prefix = "model."
    return {name.removeprefix(prefix): tensor for name, tensor in checkpoint["state_dict"].items()}

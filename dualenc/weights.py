"""Weights on disk: the checkpoints of a run folder and safetensors files. No Lightning here, so anyone may load."""

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dualenc.errors import InputError
from dualenc.files import atomic_path
from dualenc.models import DualEncoder

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.safetensors"  # in the folder `checkpoints`
FINAL = "weights.safetensors"  # in the run folder, once the training is complete


def save_weights(path: Path, model: DualEncoder, *, samples: int) -> None:
    """Writes the weights as safetensors, atomically, with the number of samples they were trained on."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata={"samples": str(samples)})


def read_weights(path: Path) -> tuple[dict[str, Tensor], int]:
    """What `save_weights` wrote: tensors by name, and samples. InputError where the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, int(file.metadata()["samples"])  # noqa: SIM118
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

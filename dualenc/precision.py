"""The arithmetic of training: `bf16-mixed` for Lightning, with what its own plugin leaves lying."""

from typing import Any, Literal

import torch
from pytorch_lightning.plugins.precision import DoublePrecision, MixedPrecision, Precision
from torch import Tensor


class CachedMixedPrecision(MixedPrecision):
    """Autocast to bfloat16 that casts each weight once a step, and whose backward stays out of autocast.

    Lightning's own casts a weight again at every use: for each chunk of a step, and again to recompute activations. And
    as it runs the whole of a training step in autocast, a backward called there multiplies in bfloat16 what a loss
    had multiplied in float32.
    """

    def __init__(self, device: Literal["cpu", "cuda"]) -> None:
        super().__init__("bf16-mixed", device)

    def autocast_context_manager(self) -> torch.autocast:
        """Around every step; the cache ends with it, so the next one casts the new weights."""
        return torch.autocast(self.device, dtype=torch.bfloat16, cache_enabled=True)

    def backward(self, tensor: Tensor, *args: Any, **kwargs: Any) -> None:
        """Every gradient in the type of its forward pass."""
        with torch.autocast(self.device, enabled=False):
            super().backward(tensor, *args, **kwargs)


def precision_plugins(precision: str, device: torch.device) -> list[Precision]:
    """What `pl.Trainer(plugins=...)` takes, in place of `precision=...`."""
    if precision == "32-true":
        return [Precision()]
    if precision == "64-true":
        return [DoublePrecision()]
    return [CachedMixedPrecision("cuda" if device.type == "cuda" else "cpu")]


def slow_precision(precision: str, device: torch.device) -> str | None:
    """The note to print where a CPU has no instructions for the precision and will be slower than in `32-true`."""
    if precision != "bf16-mixed" or device.type != "cpu" or multiplies_bf16():
        return None
    return (
        "note: trainer.precision=bf16-mixed on a CPU that cannot multiply bfloat16 (AMX or AVX512-BF16) is many times "
        "slower than 32-true"
    )


def multiplies_bf16() -> bool:
    """Whether this CPU has instructions for products of bfloat16."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()

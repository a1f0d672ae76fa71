"""Losses, exact at any world size. A new one is a function of `LossInputs` and a line in `LOSSES`."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from dualenc.losses.contrastive import info_nce, infonce_loss
from dualenc.losses.inputs import Loss, LossInputs, Report

__all__ = ["LOSSES", "Loss", "LossInputs", "Report", "info_nce", "total_loss"]

LOSSES: dict[str, Loss] = {
    "infonce": infonce_loss,
}


def total_loss(inputs: LossInputs, weights: Mapping[str, float]) -> tuple[Float[Tensor, ""], Report]:
    """The weighted sum of the losses named in ``weights``, and a report of its parts.

    The report holds each unweighted loss under its name and what it reports itself under ``name/...``. Raises
    ValueError for a name that is not in :data:`LOSSES`, or no name at all.
    """
    unknown = weights.keys() - LOSSES.keys()
    if unknown or not weights:
        raise ValueError(f"losses must name some of {sorted(LOSSES)}, got {sorted(weights)}")
    total = torch.zeros((), device=inputs.scene.device)
    report: Report = {}
    for name, weight in weights.items():
        loss, details = LOSSES[name](inputs)
        total = total + weight * loss
        report |= {name: loss.detach()} | {f"{name}/{key}": value for key, value in details.items()}
    return total, report

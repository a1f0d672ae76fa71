"""Losses, exact at any world size. A new one is a function of `LossInputs` and a line in `LOSSES`."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dualenc.losses.contrastive import info_nce, infonce_loss
from dualenc.losses.hard_negatives import hard_negatives_loss
from dualenc.losses.inputs import Loss, LossInputs, Report
from dualenc.losses.recognition import recognition_loss
from dualenc.losses.sigmoid import siglip_loss, sigmoid_contrastive
from dualenc.losses.similarity import cka, cka_loss
from dualenc.losses.spectrum import clip_svd_loss, cross_covariance_spectrum, svd_loss
from dualenc.losses.sphere import alignment_loss, uniformity_loss

__all__ = [
    "LOSSES",
    "Loss",
    "LossInputs",
    "Report",
    "cka",
    "cross_covariance_spectrum",
    "info_nce",
    "sigmoid_contrastive",
    "total_loss",
]

LOSSES: dict[str, Loss] = {
    "infonce": infonce_loss,
    "siglip": siglip_loss,
    "recognition": recognition_loss,
    "cka": cka_loss,
    "svd": svd_loss,
    "clip_svd": clip_svd_loss,
    "hard_negatives": hard_negatives_loss,
    "alignment": alignment_loss,
    "uniformity": uniformity_loss,
}


def total_loss(
    inputs: LossInputs, terms: Mapping[str, tuple[float, Mapping[str, Any]]]
) -> tuple[Float[Tensor, ""], Report]:
    """The weighted sum of losses, and a report of its parts.

    ``terms`` holds each loss's weight and options by name. The report holds each unweighted loss under its name and
    what it reports itself under ``name/...``. Raises ValueError for a name that is not in :data:`LOSSES`, or no name.
    """
    unknown = terms.keys() - LOSSES.keys()
    if unknown or not terms:
        raise ValueError(f"losses must be some of {sorted(LOSSES)}, got {sorted(terms)}")
    # Temperature and bias get a gradient, if only zero, from every objective: DDP waits for all parameters.
    total = 0.0 * (torch.as_tensor(inputs.logit_scale) + torch.as_tensor(inputs.logit_bias)).to(inputs.scene.device)
    report: Report = {}
    for name, (weight, options) in terms.items():
        loss, details = LOSSES[name](inputs, **options)
        total = total + weight * loss
        report |= {name: loss.detach()} | {f"{name}/{key}": value for key, value in details.items()}
    return total, report

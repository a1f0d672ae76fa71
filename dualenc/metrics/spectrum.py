"""Spectra of embeddings: how many directions a tower uses, and how many the two towers share."""

import torch
from jaxtyping import Float
from torch import Tensor

from dualenc.errors import NotFinite

COLLAPSED = 1e-3
"""Variance (of unit rows about their mean, at most 1) below which a tower is taken to map everything to one point."""


def spectra(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, " r"]]:
    """Singular values, descending, float64, of unit rows: ``cross`` those of the centred cross-covariance X^T Y / n,
    ``scene`` and ``query`` those of the centred X / sqrt(n) and Y / sqrt(n), whose squares add up to the variance.

    Raises ValueError for NaN or Inf, or fewer than two rows.
    """
    if not (torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise NotFinite("embeddings hold NaN or Inf: the model has diverged")
    if len(x) < 2:
        raise ValueError(f"a spectrum needs at least two rows, got {len(x)}")
    n = len(x)
    x, y = (rows.double() - rows.double().mean(0) for rows in (x, y))
    return {
        "cross": torch.linalg.svdvals(x.T @ y / n),
        "scene": torch.linalg.svdvals(x / n**0.5),
        "query": torch.linalg.svdvals(y / n**0.5),
    }


def spectrum_report(values: dict[str, Float[Tensor, " r"]], *, k: int = 3) -> dict[str, float]:
    """Numbers of :func:`spectra`; those of the cross-covariance without a prefix, of a tower as ``scene_...``.

    With s the singular values, p = s / sum(s): ``effective_rank`` exp(-sum p log p) (Roy & Vetterli 2007),
    ``stable_rank`` sum(s^2) / s_1^2, ``top_energy`` the share of the first k in sum(s^2), ``gap``
    (s_k - s_{k+1}) / s_1. A tower's ``variance`` is sum(s^2), 1 minus the squared length of its mean: near 0 it has
    collapsed, and ``collapsed`` is 1 where it is below COLLAPSED. All zeros give a rank of 0.
    """
    report: dict[str, float] = {}
    for name, s in values.items():
        prefix = "" if name == "cross" else f"{name}_"
        report |= {f"{prefix}{key}": value for key, value in _numbers(s, k).items()}
        if name != "cross":
            variance = float(s.square().sum())
            report |= {f"{prefix}variance": variance, f"{prefix}collapsed": float(variance < COLLAPSED)}
    return report


def _numbers(s: Tensor, k: int) -> dict[str, float]:
    if not float(s[0]):
        return dict.fromkeys(("effective_rank", "stable_rank", "top_energy", "gap"), 0.0)
    energy = s.square()
    after = s[k] if len(s) > k else s.new_zeros(())
    return {
        "effective_rank": float(torch.special.entr(s / s.sum()).sum().exp()),
        "stable_rank": float(energy.sum() / energy[0]),
        "top_energy": float(energy[:k].sum() / energy.sum()),
        "gap": float((s[min(k, len(s)) - 1] - after) / s[0]),
    }

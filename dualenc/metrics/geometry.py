"""Where the two towers' embeddings lie on the sphere: gap, alignment, uniformity, and the cosines of kinds of pairs."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dualenc.errors import NotFinite

_ROWS = 512  # rows of a pair matrix computed at once

BIN_EDGES = torch.linspace(-1, 1, 41, dtype=torch.float64)
"""Edges of the histograms of cosines."""

HISTOGRAMS = ("true", "false", "scenes", "queries")
"""Kinds of pairs: a scene and a query that is true of it, and one that is not; two scenes; two queries."""


def geometry_report(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> dict[str, float]:
    """Scenes x and queries y, unit rows, of which row i of x and row i of y belong together.

    ``modality_gap``: distance of the two means (Liang et al. 2022, arXiv 2203.02053). ``alignment``: mean squared
    distance of x_i and y_i; ``scene_uniformity``, ``query_uniformity``: log of the mean of exp(-2 |a - b|^2) over the
    pairs of distinct rows (Wang & Isola 2020, arXiv 2005.10242), 0 where all rows are one point, lower is more even.

    Raises ValueError for NaN or Inf, or fewer than two rows.
    """
    if not (torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise NotFinite("embeddings hold NaN or Inf: the model has diverged")
    if len(x) < 2:
        raise ValueError(f"uniformity needs at least two rows, got {len(x)}")
    x, y = x.double(), y.double()
    return {
        "modality_gap": float((x.mean(0) - y.mean(0)).norm()),
        "alignment": float((x - y).square().sum(1).mean()),
        "scene_uniformity": _uniformity(x),
        "query_uniformity": _uniformity(y),
    }


def cosine_histograms(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "n d"],
    true: Bool[Tensor, "n n"],
    *,
    undecided: Bool[Tensor, "n n"] | None = None,
) -> dict[str, Float[Tensor, " bins"]]:
    """Shares of pairs per bin between BIN_EDGES, for each kind in HISTOGRAMS; all zeros where there is no such pair.

    ``true[i, j]``: whether query j is true of scene i; ``undecided`` pairs are neither. A pair of scenes (or of
    queries) counts once, a row with itself not at all.
    """
    neither = torch.zeros_like(true) if undecided is None else undecided
    once = torch.ones_like(true).triu(1)
    kept = {"true": true & ~neither, "false": ~true & ~neither, "scenes": once, "queries": once}
    pairs = {"true": (x, y), "false": (x, y), "scenes": (x, x), "queries": (y, y)}
    return {kind: _histogram(*pairs[kind], kept[kind]) for kind in HISTOGRAMS}


def _uniformity(x: Tensor) -> float:
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for rows in x.split(_ROWS):
        total += (4 * (rows @ x.T - 1)).exp().sum()  # -2 |a - b|^2 = 4 (cos - 1) for unit rows
    n = len(x)
    return math.log(max(float(total - n) / (n * (n - 1)), torch.finfo(torch.float64).tiny))


def _histogram(x: Tensor, y: Tensor, kept: Tensor) -> Tensor:
    counts = torch.zeros(len(BIN_EDGES) - 1, dtype=torch.float64)
    for rows, mask in zip(x.double().split(_ROWS), kept.split(_ROWS)):
        cosines = (rows @ y.double().T)[mask].clamp(-1, 1).cpu()
        counts += torch.histogram(cosines, BIN_EDGES).hist
    return counts / counts.sum().clamp(min=1)

"""Retrieval recall@k between scenes and DISTINCT texts, where several texts may be true of a scene."""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

_CELLS = 2**22  # score cells handled at once: keeps temporaries small beside the matrix itself


def retrieval(
    scores: Float[Tensor, "n g"], truth: Bool[Tensor, "n g"], *, ks: tuple[int, ...] = (1, 5, 10)
) -> dict[str, float | None]:
    """Recall@k in both directions. `scores[i, j]` and `truth[i, j]` concern scene i and distinct text j.

    A hit is any true candidate among the top k; false candidates that tie with it rank before it. A row without
    a true candidate is dropped and counted. Keys, with DIR `scene_to_query` and `query_to_scene`:
    `recall_at_{k}_DIR` (None if every row was dropped), `recall_at_{k}_DIR_chance` (random order of the gallery),
    `recall_DIR_candidates` (gallery size), `recall_DIR_dropped`; and `num_texts`. NaN or Inf raises ValueError.
    """
    if scores.shape != truth.shape:
        raise ValueError(f"scores {tuple(scores.shape)} and truth {tuple(truth.shape)} differ in shape")
    report: dict[str, float | None] = {"num_texts": float(scores.shape[1])}
    for direction, s, t in (("scene_to_query", scores, truth), ("query_to_scene", scores.T, truth.T)):
        rank, num_true = _ranks(s, t)
        kept = num_true > 0
        gallery = s.shape[1]
        report[f"recall_{direction}_candidates"] = float(gallery)
        report[f"recall_{direction}_dropped"] = float((~kept).sum())
        for k in ks:
            hits, chance = rank[kept] < k, _chance(gallery, num_true[kept], k)
            report[f"recall_at_{k}_{direction}"] = float(hits.mean()) if len(hits) else None
            report[f"recall_at_{k}_{direction}_chance"] = chance
    return report


def _ranks(
    scores: Float[Tensor, "n g"], truth: Bool[Tensor, "n g"]
) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
    """Number of false candidates scoring at least as high as the best true one; number of true candidates."""
    n, gallery = scores.shape
    ranks, num_true = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    if gallery == 0:
        return ranks, num_true
    step = max(1, _CELLS // gallery)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        s, t = scores[rows], truth[rows]
        if not torch.isfinite(s).all():
            raise ValueError("scores hold NaN or Inf: the model diverged or an input is broken")
        best_true = s.masked_fill(~t, -math.inf).amax(dim=1, keepdim=True)
        ranks[rows] = ((s >= best_true) & ~t).sum(dim=1).cpu().numpy()
        num_true[rows] = t.sum(dim=1).cpu().numpy()
    return ranks, num_true


def _chance(gallery: int, num_true: Int[np.ndarray, "n"], k: int) -> float | None:
    """Mean over rows of 1 - binomial(G - P, k) / binomial(G, k); None without rows."""
    if not len(num_true):
        return None
    k = min(k, gallery)
    distinct, counts = np.unique(num_true, return_counts=True)
    miss = [math.comb(gallery - int(p), k) / math.comb(gallery, k) for p in distinct]
    return float(1 - np.average(miss, weights=counts))

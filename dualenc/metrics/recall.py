"""Retrieval recall@k between scenes and DISTINCT texts, where several texts may be true of a scene."""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from dualenc.errors import NotFinite

_CELLS = 2**22  # score cells handled at once: keeps temporaries small beside the matrix itself


def retrieval(
    scores: Float[Tensor, "n g"],
    truth: Bool[Tensor, "n g"],
    *,
    undecided: Bool[Tensor, "n g"] | None = None,
    ks: tuple[int, ...] = (1, 5, 10),
) -> dict[str, float | None]:
    """Recall@k in both directions. `scores[i, j]` and `truth[i, j]` concern scene i and distinct text j.

    A hit is any true candidate among the top k; false candidates that tie with it rank before it. A candidate that
    is `undecided` for a row is no candidate of that row. A row without a true candidate is dropped and counted. Keys,
    with DIR `scene_to_query` and `query_to_scene`:
    `recall_at_{k}_DIR` (None if every row was dropped), `recall_at_{k}_DIR_chance` (random order of the gallery),
    `recall_DIR_candidates` (gallery size), `recall_DIR_dropped`; and `num_texts`. NaN or Inf raises ValueError.
    """
    undecided = torch.zeros_like(truth) if undecided is None else undecided
    if not scores.shape == truth.shape == undecided.shape:
        raise ValueError(
            f"scores {tuple(scores.shape)}, truth {tuple(truth.shape)}, undecided {tuple(undecided.shape)}: not alike"
        )
    true, false = truth & ~undecided, ~truth & ~undecided
    report: dict[str, float | None] = {"num_texts": float(scores.shape[1])}
    for direction, s, t, f in (("scene_to_query", scores, true, false), ("query_to_scene", scores.T, true.T, false.T)):
        rank, num_true, num_false = _ranks(s, t, f)
        kept = num_true > 0
        report[f"recall_{direction}_candidates"] = float(s.shape[1])
        report[f"recall_{direction}_dropped"] = float((~kept).sum())
        for k in ks:
            hits, chance = rank[kept] < k, _chance(num_true[kept], num_false[kept], k)
            report[f"recall_at_{k}_{direction}"] = float(hits.mean()) if len(hits) else None
            report[f"recall_at_{k}_{direction}_chance"] = chance
    return report


def _ranks(
    scores: Float[Tensor, "n g"], true: Bool[Tensor, "n g"], false: Bool[Tensor, "n g"]
) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
    """Number of false candidates scoring at least as high as the best true one; of true, and of false candidates."""
    n, gallery = scores.shape
    ranks = np.zeros(n, dtype=np.int64)
    if gallery == 0:
        return ranks, ranks, ranks
    step = max(1, _CELLS // gallery)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        s, t = scores[rows], true[rows]
        if not torch.isfinite(s).all():
            raise NotFinite("scores hold NaN or Inf: the model diverged or an input is broken")
        best_true = s.masked_fill(~t, -math.inf).amax(dim=1, keepdim=True)
        ranks[rows] = ((s >= best_true) & false[rows]).sum(dim=1).cpu().numpy()
    return ranks, true.sum(dim=1).cpu().numpy(), false.sum(dim=1).cpu().numpy()


def _chance(num_true: Int[np.ndarray, "n"], num_false: Int[np.ndarray, "n"], k: int) -> float | None:
    """Mean over rows of 1 - binomial(F, k) / binomial(F + P, k), with P true and F false ones; None without rows."""
    if not len(num_true):
        return None
    kinds, counts = np.unique(np.stack([num_true, num_false]), axis=1, return_counts=True)
    miss = []
    for true, false in kinds.T.tolist():
        drawn = min(k, true + false)
        miss.append(math.comb(false, drawn) / math.comb(true + false, drawn))
    return float(1 - np.average(miss, weights=counts))

"""Recognition: is everything in the scene scored above everything that is not?

The criterion of Uselis, Koishigarina and Oh, "How can embedding models bind concepts?" (2026): a scene counts
only if min(score of positives) > max(score of negatives), strictly. For a vocabulary too large for one score
matrix see `dualenc.metrics.vocabulary`.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int, Real
from torch import Tensor

from dualenc.errors import NotFinite


def recognition(
    scores: Real[Tensor, "n c"] | Real[np.ndarray, "n c"],
    labels: Bool[Tensor, "n c"] | Bool[np.ndarray, "n c"],
) -> Bool[Tensor, "n"]:
    """For each scene: min(score of positives) > max(score of negatives), strictly.

    `labels[i, j]` says whether candidate j is true of scene i. A row without negatives is True. Raises
    ValueError for a row without positives, for NaN or Inf anywhere in `scores`, and for shapes that differ.
    """
    scores, labels = torch.as_tensor(scores), torch.as_tensor(labels)
    if scores.shape != labels.shape or scores.ndim != 2:
        raise ValueError(f"scores {tuple(scores.shape)} and labels {tuple(labels.shape)} must be one [n, c] shape")
    if labels.dtype != torch.bool:
        raise ValueError(f"labels must be bool, not {labels.dtype}")
    if not scores.is_floating_point():
        scores = scores.double()
    if not torch.isfinite(scores).all():
        raise NotFinite("scores hold NaN or Inf: the model diverged or an input is broken")
    if not labels.any(dim=1).all():
        row = int((~labels.any(dim=1)).nonzero()[0])
        raise ValueError(f"row {row} has no positives: recognition is undefined without one")
    if scores.shape[0] == 0:
        return labels.new_zeros(0)
    min_positive = scores.masked_fill(~labels, math.inf).amin(dim=1)
    max_negative = scores.masked_fill(labels, -math.inf).amax(dim=1)
    return min_positive > max_negative


def recognition_chance(num_candidates: int, num_positives: Int[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """Per scene 1 / binomial(candidates, positives): the share of random orders that put the positives first.

    The chance level of a split is the mean over its scenes.
    """
    distinct, inverse = np.unique(num_positives, return_inverse=True)
    return np.array([1 / math.comb(num_candidates, int(p)) for p in distinct], dtype=np.float64)[inverse]


def concept_labels(values: Int[np.ndarray, "n m C"], sizes: tuple[int, ...]) -> Bool[np.ndarray, "n num_values"]:
    """Which concept values occur in each scene; values of all concepts side by side, in concept order.

    `values` holds the value index of every object's concepts, -1 where the scene has no such object;
    `sizes` is the number of values of each concept.
    """
    labels = np.zeros((len(values), sum(sizes)), dtype=bool)
    offset = 0
    for concept, size in enumerate(sizes):
        row, slot = np.nonzero(values[:, :, concept] >= 0)
        labels[row, offset + values[row, slot, concept].astype(np.int64)] = True
        offset += size
    return labels


def concept_recognition(
    scores: Real[Tensor, "n num_values"] | Real[np.ndarray, "n num_values"],
    values: Int[np.ndarray, "n m C"],
    *,
    sizes: tuple[int, ...],
) -> tuple[Bool[Tensor, "n"], Bool[Tensor, "n C"]]:
    """Concept recognition, pooled over all values of all concepts, and for each concept on its own.

    Column `sum(sizes[:k]) + v` of `scores` is the one canonical query of value v of concept k. Errors as in
    `recognition`.
    """
    scores = torch.as_tensor(scores)
    labels = torch.as_tensor(concept_labels(values, sizes), device=scores.device)
    pooled = recognition(scores, labels)
    per_concept = [
        recognition(s, p) for s, p in zip(scores.split(list(sizes), 1), labels.split(list(sizes), 1), strict=True)
    ]
    return pooled, torch.stack(per_concept, dim=1)

"""Object recognition against the whole vocabulary, in blocks.

With |O| = 125,000 objects and some thousand scenes the score matrix does not fit in memory. Here queries arrive
block by block; per scene only the scores of its own objects and the few best negatives of each status are kept.
Train objects (status 0) and held-out objects (any other status) are tracked apart, so the same pass also gives
same-status recognition: held-out positives against held-out candidates, train positives against train ones.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, Int8, Int64
from torch import Tensor

from dualenc.errors import NotFinite
from dualenc.metrics.criterion import recognition_chance

_ROWS, _COLUMNS = 1024, 4096  # one tile of scores: 16 MiB in float32


@dataclass(frozen=True)
class VocabularyRecognition:
    """What one pass over the vocabulary leaves per scene, on the CPU. Axis `2` is (train, held-out).

    A scene without positives (negatives) of a status has +inf (-inf) there; ids are -1 where there is none.
    """

    min_positive: Float[Tensor, "n 2"]
    max_negative: Float[Tensor, "n 2"]
    best_negative: Int64[Tensor, "n"]
    """Highest scoring object that is not in the scene."""
    preferred: Int64[Tensor, "n m"]
    """The m highest scoring objects, best first; at equal scores the wrong object comes first."""
    num_positives: Int64[np.ndarray, "n 2"]
    """Distinct objects of the scene, by status."""
    num_candidates: tuple[int, int]

    @property
    def recognised(self) -> Bool[Tensor, "n"]:
        """min positive > max negative over all candidates, strictly."""
        return self.min_positive.amin(dim=1) > self.max_negative.amax(dim=1)

    @property
    def recognised_same_status(self) -> Bool[Tensor, "n"]:
        """The same within each status for which the scene has a positive."""
        return (self.min_positive > self.max_negative).all(dim=1)

    @property
    def margin(self) -> Float[Tensor, "n"]:
        """Min positive minus max negative: the smallest are the worst-bound scenes."""
        return self.min_positive.amin(dim=1) - self.max_negative.amax(dim=1)

    @property
    def chance(self) -> Float64[np.ndarray, "n"]:
        """Probability that a random order of all candidates recognises the scene."""
        return recognition_chance(sum(self.num_candidates), self.num_positives.sum(axis=1))

    @property
    def chance_same_status(self) -> Float64[np.ndarray, "n"]:
        """The same for same-status recognition: a product, since the two orders are independent."""
        train, heldout = self.num_candidates
        return recognition_chance(train, self.num_positives[:, 0]) * recognition_chance(
            heldout, self.num_positives[:, 1]
        )

    @property
    def candidates_same_status(self) -> Int64[np.ndarray, "n"]:
        """Number of candidates of the statuses that occur in the scene."""
        return (self.num_positives > 0) @ np.array(self.num_candidates, dtype=np.int64)


@dataclass
class _Pass:
    """Running state of one pass: scores of the positives, and the m best negatives of each status."""

    scenes: Float[Tensor, "n d"]
    objects: Int64[Tensor, "n m"]
    positive: Float[Tensor, "n m"]
    negative: Float[Tensor, "2 n m"]
    negative_ids: Int64[Tensor, "2 n m"]

    def update(self, status: int, ids: Int64[Tensor, "b"], queries: Float[Tensor, "b d"]) -> None:
        """Score every scene against objects of one status; `ids` ascend."""
        k = self.objects.shape[1]
        for start in range(0, len(self.scenes), _ROWS):
            rows = slice(start, start + _ROWS)
            scores = self.scenes[rows] @ queries.T
            if not torch.isfinite(scores).all():
                raise NotFinite("scores hold NaN or Inf: the model diverged or an input is broken")
            column = torch.searchsorted(ids, self.objects[rows]).clamp(max=len(ids) - 1)
            hit = ids[column] == self.objects[rows]
            self.positive[rows] = torch.where(hit, scores.gather(1, column), self.positive[rows])
            row, slot = hit.nonzero(as_tuple=True)
            scores[row, column[row, slot]] = -math.inf
            best, where = scores.topk(min(k, len(ids)), dim=1)
            merged = torch.cat([self.negative[status, rows], best], dim=1)
            merged_ids = torch.cat([self.negative_ids[status, rows], ids[where]], dim=1)
            self.negative[status, rows], order = merged.topk(k, dim=1)
            self.negative_ids[status, rows] = merged_ids.gather(1, order)


def recognition_blocks(
    scenes: Float[Tensor, "n d"],
    query_blocks: Iterable[tuple[int, Float[Tensor, "b d"]]],
    *,
    objects: Int[np.ndarray, "n m"],
    status: Int8[np.ndarray, "num_objects"],
) -> VocabularyRecognition:
    """Object recognition of `scenes` (embeddings) against every object, one canonical query each.

    `query_blocks` yields (first id, embeddings of consecutive ids) and must run through all ids in order;
    `objects` are the ids in each scene, padded with -1; `status` is 0 for train objects. Scores are dot products
    in at least float32 whatever autocast says: bfloat16 would tie most of a large vocabulary. Two equal queries
    tie exactly only up to the rounding of the matrix product.

    Raises ValueError for a scene without objects, an id outside the vocabulary, blocks that skip, repeat or
    miss objects, and for NaN or Inf in a score.
    """
    if not (objects >= 0).any(axis=1).all():
        raise ValueError("a scene without objects has no positives: recognition is undefined")
    if objects.max(initial=-1) >= len(status):
        raise ValueError(f"object id {objects.max()} is outside the vocabulary of {len(status)} objects")
    with torch.no_grad(), torch.autocast(scenes.device.type, enabled=False):
        dtype, device = torch.promote_types(scenes.dtype, torch.float32), scenes.device
        ids = torch.as_tensor(objects, dtype=torch.int64, device=device)
        heldout = torch.as_tensor(status != 0, device=device)
        n, m = ids.shape
        state = _Pass(
            scenes=scenes.to(dtype),
            objects=ids,
            positive=torch.full((n, m), math.inf, dtype=dtype, device=device),
            negative=torch.full((2, n, m), -math.inf, dtype=dtype, device=device),
            negative_ids=torch.full((2, n, m), -1, dtype=torch.int64, device=device),
        )
        seen = 0
        for start, queries in query_blocks:
            if start != seen or start + len(queries) > len(status):
                raise ValueError(f"blocks must run through ids 0..{len(status) - 1} in order: got {start}, not {seen}")
            seen += len(queries)
            for kind in (0, 1):
                members = (heldout[start:seen] == bool(kind)).nonzero()[:, 0]
                for columns in members.split(_COLUMNS) if len(members) else ():
                    state.update(kind, start + columns, queries[columns].to(device, dtype))
        if seen != len(status):
            raise ValueError(f"blocks cover {seen} of {len(status)} objects")
        return _finish(state, heldout)


def _finish(state: _Pass, heldout: Bool[Tensor, "num_objects"]) -> VocabularyRecognition:
    """Merge the two statuses and move the result to the CPU."""
    ids, m = state.objects, state.objects.shape[1]
    repeated = (ids[:, :, None] == ids[:, None, :]).tril(diagonal=-1).any(dim=2)
    distinct = (ids >= 0) & ~repeated
    of_status = torch.stack([distinct & (heldout[ids.clamp(min=0)] == bool(kind)) for kind in (0, 1)], dim=1)
    per_status = state.positive[:, None].masked_fill(~of_status, math.inf)

    negative_ids = state.negative_ids.masked_fill(state.negative == -math.inf, -1)
    all_ids = torch.cat([*negative_ids, ids], dim=1)
    all_scores = torch.cat([*state.negative, state.positive.masked_fill(~distinct, -math.inf)], dim=1)
    ordered, order = all_scores.sort(dim=1, descending=True, stable=True)
    preferred = all_ids.gather(1, order).masked_fill(ordered == -math.inf, -1)[:, :m]

    max_negative = state.negative.amax(dim=2).T
    best_status = max_negative.argmax(dim=1)
    best_negative = negative_ids[best_status, torch.arange(len(ids), device=ids.device), 0]
    num_heldout = int(heldout.sum())
    return VocabularyRecognition(
        min_positive=per_status.amin(dim=2).cpu(),
        max_negative=max_negative.cpu(),
        best_negative=best_negative.cpu(),
        preferred=preferred.cpu(),
        num_positives=of_status.sum(dim=2).cpu().numpy(),
        num_candidates=(len(heldout) - num_heldout, num_heldout),
    )

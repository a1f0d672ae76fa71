"""Soft multi-label cross-entropy of single scenes: over texts that each alone is asked, or over a pool of queries."""

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dualenc.losses.collectives import all_reduce_sum


def cross_entropies(
    logits: Float[Tensor, "n columns"], true: Bool[Tensor, "n columns"], false: Bool[Tensor, "n columns"]
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """Each row's cross-entropy against the uniform distribution over its true entries, among its true and false ones;
    and whether the row counts: it has both. 0 where it does not."""
    num_true = true.sum(1)
    counts = (num_true > 0) & false.any(1)
    # Finite, so that a row without any entry has a gradient of zero and not NaN. In float32, log_softmax is more exact
    # than a log-sum-exp to subtract: of large logits it takes the difference first.
    kept = logits.masked_fill(~(true | false), torch.finfo(logits.dtype).min / 2)
    losses = -kept.log_softmax(1).masked_fill(~true, 0).sum(1) / num_true.clamp(min=1)
    return losses.masked_fill(~counts, 0), counts


def global_mean(
    totals: Float[Tensor, " m"], count: Int[Tensor, ""], group: dist.ProcessGroup | None
) -> Float[Tensor, " m"]:
    """Sums over my rows, divided by the number of rows that count on all ranks; 0 where none does."""
    *sums, number = all_reduce_sum(torch.cat([totals, count.to(totals)[None]]), group)
    return torch.stack(sums) / number.clamp(min=1)

"""Rows of embeddings in float64, a block at a time: normalised, centred over the global batch, never all at once.

For gradients written by hand: what a backward needs is made anew from the embeddings, which are there anyway.
"""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from dualenc.losses.collectives import all_reduce_sum, world_size

BLOCK = 512
"""Rows at once. Enough for a matrix product to run at full speed, few enough to stay in a cache."""


def blocks(
    *sides: Float[Tensor, "b _"], normalize: bool = False
) -> Iterator[tuple[slice, list[Float[Tensor, "block _"]]]]:
    """The same rows of every side, as copies that may be changed; L2-normalised with ``normalize`` (0 stays 0)."""
    for start in range(0, len(sides[0]), BLOCK):
        part = slice(start, start + BLOCK)
        rows = [side[part].to(torch.float64, copy=True) for side in sides]
        yield part, [block.div_(lengths(block)) for block in rows] if normalize else rows


def lengths(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n 1"]:
    """L2 norms; 1 for a row of zeros, to divide by."""
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return torch.where(norms == 0, 1, norms)


def means(
    x: Float[Tensor, "b dx"],
    y: Float[Tensor, "b dy"],
    group: dist.ProcessGroup | None,
    *,
    normalize: bool = False,
    gathered: bool = False,
) -> tuple[Float[Tensor, " dx"], Float[Tensor, " dy"], Float[Tensor, "2"]]:
    """The mean row of either side over all ranks, and the sum of squares that rounding alone leaves of centred rows.

    Below that floor centred rows are noise: identical rows come out near 1e-16 rather than 0, and any scale-free number
    of them would be arbitrary. One collective, of dx + dy + 2 numbers; none where the rows are ``gathered`` already.
    """
    sums = torch.zeros(x.shape[1] + y.shape[1] + 2, dtype=torch.float64, device=x.device)
    for _, (left, right) in blocks(x, y, normalize=normalize):
        sums += torch.cat([left.sum(0), right.sum(0), torch.stack([left.square().sum(), right.square().sum()])])
    num_rows = len(x) if gathered else len(x) * world_size(group)
    mean_x, mean_y, squares = (
        (sums if gathered else all_reduce_sum(sums, group)).div(num_rows).split([x.shape[1], y.shape[1], 2])
    )
    return mean_x, mean_y, squares * num_rows * (num_rows * torch.finfo(torch.float64).eps) ** 2

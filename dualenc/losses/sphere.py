"""Alignment and uniformity on the unit sphere: Wang and Isola (2020), arXiv 2005.10242, section 4.1."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dualenc.losses.collectives import all_reduce_max, all_reduce_sum, gather, rank, world_size
from dualenc.losses.inputs import LossInputs, Report


def alignment_loss(inputs: LossInputs, *, power: float = 2.0) -> tuple[Float[Tensor, ""], Report]:
    """The mean of ||scene - query||^power over the pairs of a scene and its own query (equation 5).

    The paper's positive pairs are drawn together, so a query that is true of other scenes too counts for its own only.
    Exact at any world size, see :mod:`dualenc.losses.collectives`; computed in float32 or float64.
    """
    with torch.autocast(inputs.scene.device.type, enabled=False):
        dtype = torch.promote_types(inputs.scene.dtype, torch.float32)
        squares = (inputs.scene.to(dtype) - inputs.query.to(dtype)).square().sum(-1)
        # A power below 2 has no gradient where the two are one point; the clamp makes it zero there.
        mine = squares.clamp(min=torch.finfo(dtype).tiny).pow(power / 2).mean()
        return all_reduce_sum(mine, inputs.group) / world_size(inputs.group), {}


def uniformity_loss(inputs: LossInputs, *, t: float = 2.0) -> tuple[Float[Tensor, ""], Report]:
    """log of the mean of exp(-t ||x - y||^2) over all pairs of different rows of the global batch (equation 6), the
    mean of both towers, which are reported too.

    Exact at any world size, see :mod:`dualenc.losses.collectives`; computed in float32 or float64. Memory is linear in
    the global batch: blocks of ``inputs.block`` rows are computed again in the backward pass. ValueError for a global
    batch of one row, which has no pair.
    """
    with torch.autocast(inputs.scene.device.type, enabled=False):
        dtype = torch.promote_types(inputs.scene.dtype, torch.float32)
        towers = torch.stack([inputs.scene.to(dtype), inputs.query.to(dtype)], dim=1)
        everyone, first = gather(towers, inputs.group), rank(inputs.group) * len(towers)
        num_rows = len(everyone)
        if num_rows < 2:
            raise ValueError("uniformity is of pairs: it needs a global batch of at least two rows")
        parts = towers.split(inputs.block)
        arguments = [(part, everyone, first + i * inputs.block, t) for i, part in enumerate(parts)]
        if len(parts) == 1:
            sums = [_log_sums(*arguments[0])]
        else:
            sums = [checkpoint(_log_sums, *some, use_reentrant=False, preserve_rng_state=False) for some in arguments]
        mine = torch.stack(sums).logsumexp(0)
        peak = all_reduce_max(mine, inputs.group)
        total = all_reduce_sum((mine - peak).exp(), inputs.group).log() + peak
        values = total - math.log(num_rows) - math.log(num_rows - 1)
    return values.mean(), {"scene": values[0].detach(), "query": values[1].detach()}


def _log_sums(
    part: Float[Tensor, "n towers d"], everyone: Float[Tensor, "b towers d"], first: int, t: float
) -> Float[Tensor, " towers"]:
    """log of the sum of exp(-t ||x - y||^2) over rows x of a part and all rows y but x itself, row first + i."""
    x, y = part.transpose(0, 1), everyone.transpose(0, 1)
    squares = x.square().sum(-1)[..., None] + y.square().sum(-1)[:, None] - 2 * x @ y.mT
    own = torch.zeros_like(squares[0], dtype=torch.bool)
    own.diagonal(offset=first).fill_(True)
    return (-t * squares).masked_fill(own, -torch.inf).flatten(1).logsumexp(1)

"""Rows of the global batch minus their mean, in float64."""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from dualenc.losses.collectives import all_reduce_sum, world_size


def centred(
    x: Float[Tensor, "b dx"], y: Float[Tensor, "b dy"], group: dist.ProcessGroup | None, *, gathered: bool = False
) -> tuple[Float[Tensor, "b dx"], Float[Tensor, "b dy"], Float[Tensor, "2"]]:
    """This rank's rows of either side minus the mean over all ranks, and what rounding alone leaves of each side.

    That floor is the sum of squares below which centred rows are noise: identical rows come out near 1e-16 rather than
    0, and any scale-free number of them would be arbitrary. One collective, of dx + dy + 2 numbers; none where the rows
    are ``gathered``, those of all ranks already.
    """
    x, y = x.double(), y.double()
    sums = torch.cat([x.sum(0), y.sum(0), x.square().sum()[None], y.square().sum()[None]])
    sums, num_rows = (sums, len(x)) if gathered else (all_reduce_sum(sums, group), len(x) * world_size(group))
    mean_x, mean_y, squares = (sums / num_rows).split([x.shape[1], y.shape[1], 2])
    floor = squares.detach() * num_rows * (num_rows * torch.finfo(torch.float64).eps) ** 2
    return x - mean_x, y - mean_y, floor

"""Collectives with gradients, for losses whose value is that of the global batch.

Convention. Every rank computes the same global loss L and calls ``backward`` on its own copy. The backward of a
collective is its exact adjoint (the adjoint of a sum over ranks is a sum over ranks, that of a gather a
reduce-scatter), so the ranks together differentiate the sum of the W copies, W * L. DDP then averages parameter
gradients over ranks, which divides by W: what remains is dL, the gradient of one process on the whole batch. The
argument holds for any function of a collective's result and for parameters used inside the loss (a temperature).

Without an initialised process group, or with a group of one, nothing is communicated.
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Num, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

# The names of torch >= 2.13; `all_gather_into_tensor` and `reduce_scatter_tensor` warn that they are deprecated.
_all_gather = dist.all_gather_single
_reduce_scatter = dist.reduce_scatter_single


def world_size(group: dist.ProcessGroup | None = None) -> int:
    """Number of ranks that share the global batch; 1 where torch.distributed is not initialised."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def rank(group: dist.ProcessGroup | None = None) -> int:
    """This process's place in the order in which :func:`gather` stacks rows."""
    return dist.get_rank(group) if dist.is_available() and dist.is_initialized() else 0


def gather(x: Shaped[Tensor, "n *rest"], group: dist.ProcessGroup | None = None) -> Shaped[Tensor, "total *rest"]:
    """The rows of all ranks, in rank order, with gradient: [n, ...] -> [world * n, ...]; n is the same everywhere."""
    if world_size(group) == 1:
        return x
    return _Gather.apply(x, group)


def all_reduce_sum(x: Num[Tensor, "*shape"], group: dist.ProcessGroup | None = None) -> Num[Tensor, "*shape"]:
    """The sum over ranks, on every rank, with gradient."""
    if world_size(group) == 1:
        return x
    return _AllReduceSum.apply(x, group)


def all_reduce_max(x: Num[Tensor, "*shape"], group: dist.ProcessGroup | None = None) -> Num[Tensor, "*shape"]:
    """The maximum over ranks, on every rank, as a constant: no gradient."""
    if world_size(group) == 1:
        return x.detach()
    return _all_reduce(x.detach(), dist.ReduceOp.MAX, group)


def _all_reduce(x: Tensor, op: Any, group: dist.ProcessGroup | None) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, op=op, group=group)
    return total


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        return _all_reduce(x, dist.ReduceOp.SUM, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _all_reduce(grad, dist.ReduceOp.SUM, ctx.group), None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        gathered = x.new_empty((world_size(group) * x.shape[0], *x.shape[1:]))
        _all_gather(gathered, x.contiguous(), group=group)
        return gathered

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        own = grad.new_empty((grad.shape[0] // world_size(ctx.group), *grad.shape[1:]))
        _reduce_scatter(own, grad.contiguous(), group=ctx.group)
        return own, None

"""Two small towers and a loss of their embeddings: on a rank under DDP, and in one process on the global batch."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from gloo import DistributedDataParallel
from torch import Tensor, nn

from dualenc.losses import LossInputs, collectives

INPUT_DIM = 5


class TwoTowers(nn.Module):
    """Without a bias at the end, as the real ones: the gradient of one is a sum of rows that nearly cancel where a loss
    centres them, and in float32 that sum alone may miss the tolerances when it is taken in another order."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scene = nn.Sequential(nn.Linear(INPUT_DIM, 8), nn.Tanh(), nn.Linear(8, dim, bias=False))
        self.query = nn.Sequential(nn.Linear(INPUT_DIM, 8), nn.Tanh(), nn.Linear(8, dim, bias=False))

    def forward(self, scenes: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        return F.normalize(self.scene(scenes), dim=-1), F.normalize(self.query(queries), dim=-1)


def make_towers(dim: int, dtype: torch.dtype) -> TwoTowers:
    torch.manual_seed(1)
    return TwoTowers(dim).to(dtype)


def make_batch(num_rows: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    scenes, noise = (torch.randn(num_rows, INPUT_DIM, generator=generator, dtype=torch.float64) for _ in range(2))
    return scenes.to(dtype), (scenes + noise).to(dtype)


def distributed(
    group: dist.ProcessGroup | None, loss: Callable[..., Any], options: dict, rows: int, dim: int, dtype: torch.dtype
) -> dict[str, dict[str, Tensor]]:
    """Loss and DDP's gradients on this rank, with ``rows`` of its own; and what the loss reports."""
    own = slice(dist.get_rank(group) * rows, (dist.get_rank(group) + 1) * rows)
    scenes, queries = make_batch(rows * dist.get_world_size(group), dtype)
    towers = DistributedDataParallel(make_towers(dim, dtype), process_group=group)
    scene, query = towers(scenes[own], queries[own])
    value, report = loss(LossInputs(scene=scene, query=query, logit_scale=1.0, group=group), **options)
    value.backward()
    return {"exact": loss_and_gradients(value, towers.module), "report": report}


def reference(textbook: Callable[..., Tensor], num_rows: int, dim: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Loss and gradients of one process on the global batch.

    The textbook form is taken in float64 of the embeddings as they are: in float32 it would miss the tolerances itself.
    """
    towers = make_towers(dim, dtype)
    value = textbook(*(rows.double() for rows in towers(*make_batch(num_rows, dtype)))).to(dtype)
    value.backward()
    return loss_and_gradients(value, towers)


def loss_and_gradients(value: Tensor, towers: nn.Module) -> dict[str, Tensor]:
    return {"loss": value.detach()} | {name: parameter.grad for name, parameter in towers.named_parameters()}


@contextlib.contextmanager
def without_sum_in_backward(function: type[torch.autograd.Function], module: Any) -> Iterator[None]:
    """The usual mistake in a gradient written by hand: a rank takes its own share of it, so a factor W is missing."""
    correct, reduce = function.backward, module.all_reduce_sum

    def backward(ctx, *grads):
        module.all_reduce_sum = lambda x, group: x
        try:
            return correct(ctx, *grads)
        finally:
            module.all_reduce_sum = reduce

    function.backward = staticmethod(backward)
    try:
        yield
    finally:
        function.backward = staticmethod(correct)


@contextlib.contextmanager
def bytes_sent(sent: list[int]) -> Iterator[None]:
    """Records the bytes that each collective of a loss, forward and backward, is given by this rank."""
    names = ("_all_gather", "_reduce_scatter")
    all_reduce, others = dist.all_reduce, [getattr(collectives, name) for name in names]

    def counted(collective: Callable[..., Any], place: int) -> Callable[..., Any]:
        def call(*args, **kwargs):
            sent.append(args[place].numel() * args[place].element_size())
            return collective(*args, **kwargs)

        return call

    dist.all_reduce = counted(all_reduce, 0)
    for name, collective in zip(names, others):
        setattr(collectives, name, counted(collective, 1))
    try:
        yield
    finally:
        dist.all_reduce = all_reduce
        for name, collective in zip(names, others):
            setattr(collectives, name, collective)

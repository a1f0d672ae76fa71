"""Random embeddings for benchmarks of losses, and what tensors take while a loss runs."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dualenc.losses import LossInputs

LOGIT_SCALE = 1 / 0.07
POOL = 64  # concept queries of a step, and object queries of a step, of all ranks


def unit_rows(num: int, dim: int, seed: int) -> Float[Tensor, "num dim"]:
    """L2-normalised rows, to be differentiated."""
    rows = torch.randn(num, dim, generator=torch.Generator().manual_seed(seed))
    return F.normalize(rows, dim=1).requires_grad_()


def loss_inputs(num: int, dim: int, world: int = 1) -> LossInputs:
    """A rank's share of `num` pairs, each true of itself only, with one edit of each scene, and the query pools."""
    pool = -(-POOL // world)
    some = torch.rand(num, world * pool, generator=torch.Generator().manual_seed(9)) < 0.2
    return LossInputs(
        scene=unit_rows(num, dim, 0),
        query=unit_rows(num, dim, 1),
        logit_scale=torch.tensor(LOGIT_SCALE, requires_grad=True),
        logit_bias=torch.tensor(-10.0, requires_grad=True),
        extra=unit_rows(num, dim, 2),
        extra_owner=torch.arange(num),
        concepts=unit_rows(pool, dim, 3),
        concept_targets=some,
        objects=unit_rows(pool, dim, 4),
        object_targets=some,
    )


def clear(inputs: LossInputs) -> None:
    """Takes the gradients away."""
    for value in vars(inputs).values():
        if isinstance(value, Tensor):
            value.grad = None


def peak_bytes(work: Callable[[], object]) -> int:
    """Most bytes that tensors on the CPU held at once while `work` ran, above what they held before.

    Counted by torch's allocator, so it is exact and repeatable; buffers inside BLAS and LAPACK are not in it.
    """
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    held = peak = 0
    events = profiler.profiler.kineto_results.events()
    for event in sorted((event for event in events if event.name() == "[memory]"), key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak

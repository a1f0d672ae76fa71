"""L-BFGS to convergence, as the fits of the studies use it."""

from collections.abc import Callable

import torch
from torch import Tensor

HISTORY = 20
"""Steps that L-BFGS remembers, each as two tensors of the size of what it moves."""


def minimise(
    weight: Tensor,
    objective: Callable[[], Tensor],
    *,
    tolerance: float,
    max_iterations: int,
    history: int = HISTORY,
) -> tuple[int, float]:
    """Moves `weight`, in place, until no entry of its gradient exceeds `tolerance`; iterations, and the largest entry.

    objective: the loss at `weight`; sets `weight.grad`. A shorter `history` costs iterations and saves memory.
    """
    optimiser = torch.optim.LBFGS(
        [weight],
        max_iter=max_iterations,
        tolerance_grad=tolerance,
        tolerance_change=0,
        history_size=history,
        line_search_fn="strong_wolfe",
    )
    optimiser.step(objective)
    objective()  # the last point the line search tried need not be the one it took
    assert weight.grad is not None
    return optimiser.state[weight]["n_iter"], float(weight.grad.abs().max())

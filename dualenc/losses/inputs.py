"""What every loss is given, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass

import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class LossInputs:
    """One rank's share of the global batch, as far as a loss may know it. Fields mean what they mean in `info_nce`."""

    scene: Float[Tensor, "b d"]
    query: Float[Tensor, "b d"]
    logit_scale: Float[Tensor, ""] | float
    targets: Bool[Tensor, "b columns"] | None = None
    extra: Float[Tensor, "k d"] | None = None
    extra_targets: Bool[Tensor, "b extra_columns"] | None = None
    undecided: Bool[Tensor, "b columns"] | None = None
    extra_undecided: Bool[Tensor, "b extra_columns"] | None = None
    group: dist.ProcessGroup | None = None


Report = dict[str, Tensor]
"""Numbers to log beside a loss: name -> detached scalar, the same on every rank."""

Loss = Callable[[LossInputs], tuple[Tensor, Report]]
"""The scalar to minimise, exact at any world size as `collectives` explains, and its report."""

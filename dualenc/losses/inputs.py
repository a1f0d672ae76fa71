"""What every loss is given, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass

import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor

Judge = Callable[[slice, slice], Tensor]
"""Pairs too many to hold: (rows of mine, columns) -> bool [rows, columns], on any device."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LossInputs:
    """One rank's share of the global batch, as far as a loss may know it.

    scene, query [b, d]: L2-normalised rows, b on every rank; no query where no loss in use reads one. logit_scale,
    logit_bias: of logit = scale * cosine + bias.

    targets [b, b * world]: which query, columns in rank order, is true of my scenes; None is the diagonal. extra
    [k, d]: further text columns of this rank, k may differ; extra_targets [b, world * max k]: which are true of my
    scenes, rank r's in columns r * max k onwards; None is none. extra_owner [k]: my scene that each of my extra texts
    was made from. edited_kind [b]: which of my scenes' own queries are of the kind that edits change (a caption, or an
    object for a tower of tokens), so that the two differ in what was edited alone; None is all. undecided,
    extra_undecided: of the shapes of the targets, pairs that are neither true nor false and no part of a loss; None is
    none.

    concepts, objects [q, d]: this rank's share of the step's concept and object queries, q may differ; concept_targets,
    object_targets [b, world * max q]: which occur in my scenes, laid out like extra_targets.

    Each of the six that say something of pairs may be a `Judge`.

    block: rows of a pair matrix computed at once, and block x block pairs at most; compile: compile such a block.
    """

    scene: Float[Tensor, "b d"]
    query: Float[Tensor, "queries d"]
    logit_scale: Float[Tensor, ""] | float
    logit_bias: Float[Tensor, ""] | float = 0.0
    targets: Bool[Tensor, "b columns"] | Judge | None = None
    extra: Float[Tensor, "k d"] | None = None
    extra_targets: Bool[Tensor, "b extra_columns"] | Judge | None = None
    extra_owner: Int[Tensor, " k"] | None = None
    edited_kind: Bool[Tensor, " b"] | None = None
    undecided: Bool[Tensor, "b columns"] | Judge | None = None
    extra_undecided: Bool[Tensor, "b extra_columns"] | Judge | None = None
    concepts: Float[Tensor, "num_concepts d"] | None = None
    concept_targets: Bool[Tensor, "b concept_columns"] | Judge | None = None
    objects: Float[Tensor, "num_objects d"] | None = None
    object_targets: Bool[Tensor, "b object_columns"] | Judge | None = None
    group: dist.ProcessGroup | None = None
    block: int = 1024
    compile: bool = False


Report = dict[str, Tensor]
"""Numbers to log beside a loss: name -> detached scalar, the same on every rank."""

Loss = Callable[..., tuple[Tensor, Report]]
"""(inputs, **options of its config block) -> the scalar to minimise, exact at any world size as `collectives` explains,
and its report."""

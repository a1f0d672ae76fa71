"""Recognition: each scene against the concept queries, and against the object queries, of a step.

The objective of "How can embedding models bind concepts?" (arXiv 2605.31503) as its released code has it: scene to
query only, soft multi-label. Which queries there are is the data's affair (`dualenc.data.pools`).
"""

from typing import Literal

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dualenc.losses.collectives import gather, world_size
from dualenc.losses.inputs import Judge, LossInputs, Report
from dualenc.losses.multilabel import cross_entropies, global_mean


def recognition_loss(
    inputs: LossInputs,
    *,
    num_concepts: int = 64,
    num_objects: int = 64,
    num_random: int = 0,
    num_swaps: int = 1,
    negatives: Literal["train", "all"] = "train",
) -> tuple[Float[Tensor, ""], Report]:
    """The mean of two cross-entropies, in nats: over concept queries and over object queries; both are reported.

    A scene's target is uniform over the queries that are true of it. Either is averaged over the scenes of the global
    batch with at least one true and one false query, and is 0 where there are none. The options say which queries the
    data asks; the loss reads none of them, only `inputs.concepts`, `inputs.objects` and their targets.

    Exact at any world size, see :mod:`dualenc.losses.collectives`; computed in float32 or float64. Memory is linear in
    the global batch: blocks of rows are computed again in the backward pass. ValueError for missing queries or targets,
    and for targets of the wrong shape.
    """
    with torch.autocast(inputs.scene.device.type, enabled=False):
        scene = inputs.scene.to(torch.promote_types(inputs.scene.dtype, torch.float32))
        logits = scene * inputs.logit_scale
        concepts = _cross_entropy(logits, inputs.concepts, inputs.concept_targets, inputs)
        objects = _cross_entropy(logits, inputs.objects, inputs.object_targets, inputs)
    return (concepts + objects) / 2, {"concepts": concepts.detach(), "objects": objects.detach()}


def _cross_entropy(
    scene: Float[Tensor, "b d"],
    queries: Float[Tensor, "q d"] | None,
    targets: Bool[Tensor, "b columns"] | Judge | None,
    inputs: LossInputs,
) -> Float[Tensor, ""]:
    """Of scenes, scaled already, over the queries of all ranks."""
    if queries is None or targets is None:
        raise ValueError("recognition needs concepts and objects, and the targets of both")
    columns, slots, num_slots = _gathered(queries.to(scene.dtype), scene[:0], inputs.group)
    if isinstance(targets, Tensor) and targets.shape != (len(scene), num_slots):
        raise ValueError(
            f"recognition needs targets {[len(scene), num_slots]} (rows, slots of all ranks), got {list(targets.shape)}"
        )

    def losses(rows: Float[Tensor, "n d"], start: int) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
        some = slice(start, start + len(rows))
        true = targets[some] if isinstance(targets, Tensor) else targets(some, slice(0, num_slots))
        true = true.to(rows.device)[:, slots]
        losses, counts = cross_entropies(rows @ columns.T, true, ~true)
        return losses.sum(), counts.sum()

    height = max(1, inputs.block**2 // max(len(columns), 1))
    parts = scene.split(height)
    if len(parts) == 1:
        found = [losses(scene, 0)]
    else:
        found = [
            checkpoint(losses, part, i * height, use_reentrant=False, preserve_rng_state=False)
            for i, part in enumerate(parts)
        ]
    totals, counts = (torch.stack(column) for column in zip(*found))
    return global_mean(totals.sum()[None], counts.sum(), inputs.group)[0]


def _gathered(
    queries: Float[Tensor, "q d"], anchor: Float[Tensor, "0 d"], group: dist.ProcessGroup | None
) -> tuple[Float[Tensor, "columns d"], Int[Tensor, " columns"], int]:
    """The queries of all ranks, the slots that they have in the targets' padded layout, and the number of slots.

    The anchor makes the gathered tensor need a gradient on a rank without queries too: all take part in its backward.
    """
    lengths = gather(torch.tensor([len(queries)], device=queries.device), group).cpu()
    most = int(lengths.max())
    slots = (torch.arange(most) < lengths[:, None]).flatten().nonzero().squeeze(1).to(queries.device)
    padding = queries.new_zeros(most - len(queries), queries.shape[1])
    columns = gather(torch.cat([anchor, queries, padding]), group)
    return columns[slots], slots, most * world_size(group)

"""Symmetric InfoNCE between scenes and queries, with any number of true queries per scene.

Radford et al. (2021), arXiv 2103.00020, figure 3, is the case where only the diagonal is true; the uniform target
over several true entries is the L_out loss of Khosla et al. (2020), arXiv 2004.11362, equation 2.
"""

from dataclasses import replace

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dualenc.losses.collectives import all_reduce_max, all_reduce_sum, gather, rank, world_size
from dualenc.losses.inputs import LossInputs, Report


def info_nce(
    scene: Float[Tensor, "b d"],
    query: Float[Tensor, "b d"],
    *,
    logit_scale: Float[Tensor, ""] | float,
    targets: Bool[Tensor, "b columns"] | None = None,
    extra: Float[Tensor, "k d"] | None = None,
    extra_targets: Bool[Tensor, "b extra_columns"] | None = None,
    undecided: Bool[Tensor, "b columns"] | None = None,
    extra_undecided: Bool[Tensor, "b extra_columns"] | None = None,
    group: dist.ProcessGroup | None = None,
) -> Float[Tensor, ""]:
    """Mean of the scene-to-query and the query-to-scene cross-entropy of the global batch, in nats.

    ``scene`` and ``query`` are this rank's L2-normalised rows, b on every rank; ``logit_scale`` is the factor itself.
    ``targets`` [b, b * world] says which query, columns in rank order, is true of my scenes; None is the diagonal.
    ``extra`` [k, d] are further query columns; k may differ between ranks. ``extra_targets`` [b, world * max k] says
    which are true of my scenes, rank r's in columns r * max k onwards (slots beyond its own k are ignored); None is
    all false.

    A row's target is uniform over its true entries, and likewise a column's. Either direction is averaged over the
    global number of rows (columns) with at least one true and one false entry, and is 0 where there are none. So an
    extra column has a term of its own only if it is true of some scene; else it is just a negative of every row.

    ``undecided`` and ``extra_undecided``, of the shapes of the targets, say which pairs are neither true nor false (a
    relation inside its margin): they are left out, as if the column were not there for that row, nor the row for that
    column. None is no such pair.

    The value is that of the global batch on every rank; averaging gradients over ranks gives the gradient of one
    process on the whole batch. Computed in float32 (float64 for such inputs), under autocast too.

    Raises ValueError for targets of the wrong shape, or a b that differs between ranks.
    """
    loss, _ = infonce_loss(
        LossInputs(
            scene=scene,
            query=query,
            logit_scale=logit_scale,
            targets=targets,
            extra=extra,
            extra_targets=extra_targets,
            undecided=undecided,
            extra_undecided=extra_undecided,
            group=group,
        )
    )
    return loss


def infonce_loss(inputs: LossInputs, *, edits: bool = True) -> tuple[Float[Tensor, ""], Report]:
    """:func:`info_nce` for the registry, with the extra columns or without; reports the two directions."""
    if not edits:
        inputs = replace(inputs, extra=None, extra_targets=None, extra_undecided=None)
    scene, query, extra, group = inputs.scene, inputs.query, inputs.extra, inputs.group
    with torch.autocast(scene.device.type, enabled=False):
        dtype = torch.promote_types(scene.dtype, torch.float32)
        scene, query = scene.to(dtype), query.to(dtype)
        extra = query[:0] if extra is None else extra.to(dtype)
        num_extra = _num_extra(len(query), len(extra), query.device, group)
        present = _present(num_extra).to(query.device)
        columns = _columns(query, extra, int(num_extra.max()), present, group)
        true = _pairs(inputs, _targets(inputs), inputs.extra_targets, int(num_extra.max()), present)
        undecided = _undecided(inputs, int(num_extra.max()), present)
        # Scaling the scenes rather than the logits spares the temperature's gradient a [b, columns] product.
        to_query, to_scene = _cross_entropies((scene * inputs.logit_scale) @ columns.T, true, undecided, group)
    report = {"scene_to_query": to_query.detach(), "query_to_scene": to_scene.detach()}
    return (to_query + to_scene) / 2, report


def _num_extra(
    num_rows: int, num_extra: int, device: torch.device, group: dist.ProcessGroup | None
) -> Int[Tensor, " world"]:
    """Every rank's number of extra columns, on the host.

    Costs a tiny collective also when this rank has none: ranks must agree on the shapes they are about to exchange.
    """
    if world_size(group) == 1:
        return torch.tensor([num_extra])
    rows, extras = gather(torch.tensor([[num_rows, num_extra]], device=device), group).cpu().unbind(1)
    if (rows != num_rows).any():
        raise ValueError(f"info_nce needs the same number of rows on every rank, got {rows.tolist()}")
    return extras


def _present(num_extra: Int[Tensor, " world"]) -> Int[Tensor, " present"]:
    """Which of the world * max k padded slots hold an extra column."""
    slots = torch.arange(int(num_extra.max()))
    return (slots < num_extra[:, None]).flatten().nonzero().squeeze(1)


def _columns(
    query: Float[Tensor, "b d"],
    extra: Float[Tensor, "k d"],
    max_extra: int,
    present: Int[Tensor, " present"],
    group: dist.ProcessGroup | None,
) -> Float[Tensor, "columns d"]:
    """The queries of all ranks, then the extra columns of all ranks.

    Both travel in one collective. That is one latency instead of two, and it keeps the backward of all ranks alike:
    the gathered tensor needs a gradient everywhere, also where a rank's own (empty) extra does not.
    """
    padding = query.new_zeros(max_extra - len(extra), query.shape[1])
    gathered = gather(torch.cat([query, extra, padding]), group).unflatten(0, (-1, len(query) + max_extra))
    queries, extras = gathered.split([len(query), max_extra], dim=1)
    return torch.cat([queries.flatten(0, 1), extras.flatten(0, 1).index_select(0, present)])


def _targets(inputs: LossInputs) -> Bool[Tensor, "b columns"]:
    """The targets; the diagonal of the global batch where there are none."""
    if inputs.targets is not None:
        return inputs.targets
    num_rows = len(inputs.scene)
    shape = (num_rows, num_rows * world_size(inputs.group))
    targets = torch.zeros(shape, dtype=torch.bool, device=inputs.scene.device)
    targets.diagonal(offset=num_rows * rank(inputs.group)).fill_(True)
    return targets


def _undecided(
    inputs: LossInputs, max_extra: int, present: Int[Tensor, " present"]
) -> Bool[Tensor, "b columns"] | None:
    """Which pairs are left out; None where there are none."""
    if inputs.undecided is None and inputs.extra_undecided is None:
        return None
    queries = inputs.undecided
    if queries is None:
        queries = torch.zeros_like(_targets(inputs))
    return _pairs(inputs, queries, inputs.extra_undecided, max_extra, present)


def _pairs(
    inputs: LossInputs,
    queries: Bool[Tensor, "b columns"],
    extra: Bool[Tensor, "b extra_columns"] | None,
    max_extra: int,
    present: Int[Tensor, " present"],
) -> Bool[Tensor, "b all_columns"]:
    """What is said of this rank's scenes and each query, and each (padded) extra one, over :func:`_columns`."""
    num_rows, world = len(inputs.scene), world_size(inputs.group)
    shape, extra_shape = (num_rows, num_rows * world), (num_rows, max_extra * world)
    if extra is None:
        extra = torch.zeros(extra_shape, dtype=torch.bool, device=inputs.scene.device)
    if queries.shape != shape or extra.shape != extra_shape:
        raise ValueError(
            f"info_nce needs targets {list(shape)} and extra_targets {list(extra_shape)} (rows, columns of all ranks), "
            f"and undecided ones alike, got {list(queries.shape)} and {list(extra.shape)}"
        )
    return torch.cat([queries, extra.index_select(1, present)], dim=1)


def _cross_entropies(
    logits: Float[Tensor, "b columns"],
    true: Bool[Tensor, "b columns"],
    undecided: Bool[Tensor, "b columns"] | None,
    group: dist.ProcessGroup | None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The scene-to-query and the query-to-scene term, from this rank's rows of the global logits.

    Cross-entropy against the uniform distribution over the true entries is the log-sum-exp minus the mean true logit.
    A row lies on one rank. A column is spread over ranks: its log-sum-exp combines the local ones.
    """
    num_columns = logits.shape[1]
    false = ~true
    if undecided is not None:
        true, false = true & ~undecided, false & ~undecided
        # Finite, so that a column without any pair on this rank adds exp(-large) = 0 to the others' and not NaN.
        logits = logits.masked_fill(undecided, torch.finfo(logits.dtype).min / 2)
    row_true = true.sum(1)
    row_counts = (row_true > 0) & false.any(1)
    counts = all_reduce_sum(torch.cat([true.sum(0), false.sum(0), row_counts.sum()[None]]), group)
    column_true, column_false, num_counting_rows = counts.split([num_columns, num_columns, 1])
    column_counts = (column_true > 0) & (column_false > 0)

    true_logits = logits.masked_fill(~true, 0)
    row_losses = logits.logsumexp(1) - true_logits.sum(1) / row_true.clamp(min=1)
    my_row_loss = row_losses.masked_fill(~row_counts, 0).sum()

    my_lse = logits.logsumexp(0)
    peak = all_reduce_max(my_lse, group)
    sums = all_reduce_sum(torch.cat([(my_lse - peak).exp(), true_logits.sum(0), my_row_loss[None]]), group)
    column_exp, column_true_logits, row_loss = sums.split([num_columns, num_columns, 1])
    column_losses = peak + column_exp.log() - column_true_logits / column_true.clamp(min=1)
    column_loss = column_losses.masked_fill(~column_counts, 0).sum()
    counting_rows = num_counting_rows.squeeze(0)
    return row_loss.squeeze(0) / counting_rows.clamp(min=1), column_loss / column_counts.sum().clamp(min=1)

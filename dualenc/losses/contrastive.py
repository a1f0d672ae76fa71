"""Symmetric InfoNCE between scenes and queries, with any number of true queries per scene.

Radford et al. (2021), arXiv 2103.00020, figure 3, is the case where only the diagonal is true; the uniform target
over several true entries is the L_out loss of Khosla et al. (2020), arXiv 2004.11362, equation 2.
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from dualenc.losses.blocks import Block, Pairs, gradients, pair_matrix
from dualenc.losses.collectives import all_reduce_max, all_reduce_sum
from dualenc.losses.inputs import Judge, LossInputs, Report


def info_nce(
    scene: Float[Tensor, "b d"],
    query: Float[Tensor, "b d"],
    *,
    logit_scale: Float[Tensor, ""] | float,
    targets: Bool[Tensor, "b columns"] | Judge | None = None,
    extra: Float[Tensor, "k d"] | None = None,
    extra_targets: Bool[Tensor, "b extra_columns"] | Judge | None = None,
    undecided: Bool[Tensor, "b columns"] | Judge | None = None,
    extra_undecided: Bool[Tensor, "b extra_columns"] | Judge | None = None,
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
    column. None is no such pair. Each of the four may be a :data:`Judge`, which is asked for a block at a time.

    The value is that of the global batch on every rank; averaging gradients over ranks gives the gradient of one
    process on the whole batch. Computed in float32 (float64 for such inputs), under autocast too. Memory is linear in
    the global batch (see :mod:`dualenc.losses.blocks`).

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
    with torch.autocast(inputs.scene.device.type, enabled=False):
        scene, columns, pairs = pair_matrix(inputs, edits=edits)
        # Scaling the scenes rather than the logits spares the temperature's gradient a [b, columns] product.
        to_query, to_scene = _CrossEntropies.apply(scene * inputs.logit_scale, columns, pairs, inputs.group)
    report = {"scene_to_query": to_query.detach(), "query_to_scene": to_scene.detach()}
    return (to_query + to_scene) / 2, report


class _CrossEntropies(torch.autograd.Function):
    """The scene-to-query and the query-to-scene term, from this rank's rows of the global pair matrix.

    Cross-entropy against the uniform distribution over the true entries of a line (row or column) is the log-sum-exp
    minus the mean true logit. A row lies on one rank. A column is spread over ranks, which add up their parts of it.
    Once its log-sum-exp is known, a rank's gradients follow from its own pairs.
    """

    @staticmethod
    def forward(
        ctx: Any, scene: Tensor, columns: Tensor, pairs: Pairs, group: dist.ProcessGroup | None
    ) -> tuple[Tensor, Tensor]:
        ctx.pairs, ctx.group, ctx.kept = pairs, group, []
        row_lines, my_lines = _lines(pairs, scene, columns, ctx.kept)
        row_losses, row_counts = _losses(row_lines)
        peak = all_reduce_max(my_lines[0], group)
        my_exps = my_lines[1] * (my_lines[0] - peak).exp()
        mine = torch.cat([torch.stack([row_losses.sum(), row_counts.sum()]), my_exps, my_lines[2:].flatten()])
        totals, sums = all_reduce_sum(mine, group).split([2, 4 * len(peak)])
        column_lines = torch.cat([peak[None], sums.view(4, -1)])
        column_losses, column_counts = _losses(column_lines)
        num_rows, num_columns = totals[1].clamp(min=1), column_counts.sum().clamp(min=1)
        row_weights = _weights(row_lines, row_counts / num_rows)
        column_weights = _weights(column_lines, column_counts / num_columns)
        ctx.save_for_backward(scene, columns, row_weights, column_weights)
        return totals[0] / num_rows, column_losses.sum() / num_columns

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rows: Tensor, grad_columns: Tensor) -> tuple[Tensor | None, ...]:
        scene, columns, row_weights, column_weights = ctx.saved_tensors
        # All ranks' copies of the value depend on this rank's pairs: see `collectives`.
        grads = all_reduce_sum(torch.stack([grad_rows, grad_columns]), ctx.group)
        row_weights, column_weights = (
            torch.cat([weights[:1], grad * weights[1:]]) for weights, grad in zip((row_weights, column_weights), grads)
        )
        gradient = ctx.pairs.fused(_gradient)

        def of_logits(block: Block) -> Tensor:
            weights = row_weights[:, block.rows], column_weights[:, block.columns]
            return gradient(block.logits, block.true, block.undecided, *weights)

        return *gradients(ctx.pairs, scene, columns, ctx.kept, of_logits), None, None


def _lines(
    pairs: Pairs, scene: Float[Tensor, "b d"], columns: Float[Tensor, "n d"], kept: list[Block]
) -> tuple[Float[Tensor, "5 b"], Float[Tensor, "5 n"]]:
    """Of each line of this rank's pairs: the largest logit, the sum of exponentials relative to it, the sum of true
    logits, and the numbers of true and of false pairs.

    Kept apart, largest and sum lose nothing of large logits. Counts are exact up to 2^24 in float32; as floats they can
    travel with the sums.
    """
    row_lines, column_lines = scene.new_zeros(5, len(scene)), scene.new_zeros(5, len(columns))
    row_lines[0] = column_lines[0] = -torch.inf
    sums = pairs.fused(_sums)
    for block in pairs.blocks(scene, columns, kept):
        parts = sums(block.logits, block.true, block.undecided)
        if kept:
            return parts  # of the whole matrix
        for lines, part in zip((row_lines[:, block.rows], column_lines[:, block.columns]), parts):
            peak = torch.maximum(lines[0], part[0])
            lines[1] = lines[1] * (lines[0] - peak).exp() + part[1] * (part[0] - peak).exp()
            lines[0] = peak
            lines[2:] += part[2:]
    return row_lines, column_lines


def _sums(logits: Tensor, true: Tensor, undecided: Tensor | None) -> tuple[Tensor, Tensor]:
    """:func:`_lines` of one block."""
    mask = true.to(logits.dtype)  # sums of floats are several times as fast as sums of bools
    true_logits = logits * mask
    lines = []
    for dim in (1, 0):
        peak = logits.amax(dim, keepdim=True)
        num_true = mask.sum(dim)
        num_false = logits.shape[dim] - num_true
        if undecided is not None:
            num_false = num_false - undecided.sum(dim)
        exps = (logits - peak).exp_().sum(dim)
        lines.append(torch.stack([peak.squeeze(dim), exps, true_logits.sum(dim), num_true, num_false]))
    return lines[0], lines[1]


def _losses(lines: Float[Tensor, "5 n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Each line's cross-entropy, 0 where it has none, and whether it has one: 1 or 0."""
    peak, exps, true_logits, num_true, num_false = lines
    none = (num_true == 0) | (num_false == 0)
    losses = peak - true_logits / num_true.clamp(min=1) + exps.log()
    return losses.masked_fill(none, 0), 1 - none.to(losses.dtype)


def _weights(lines: Float[Tensor, "5 n"], share: Float[Tensor, " n"]) -> Float[Tensor, "3 n"]:
    """Each line's largest logit, and its share in the mean: per unit of exponentials, and per true entry."""
    peak, exps, _, num_true, _ = lines
    return torch.stack([peak, share / exps, share / num_true.clamp(min=1)])


def _gradient(
    logits: Tensor, true: Tensor, undecided: Tensor | None, row_weights: Tensor, column_weights: Tensor
) -> Tensor:
    """The gradient of a block's logits: softmax minus target along the rows, and along the columns."""
    row_peak, row_share, row_true_share = row_weights.unsqueeze(-1)
    column_peak, column_share, column_true_share = column_weights
    grad = (logits - row_peak).exp_().mul_(row_share)
    grad.addcmul_((logits - column_peak).exp_(), column_share)
    grad.addcmul_(true.to(grad.dtype), row_true_share + column_true_share, value=-1)
    return grad if undecided is None else grad.masked_fill_(undecided, 0)

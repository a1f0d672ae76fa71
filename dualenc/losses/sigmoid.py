"""The sigmoid contrastive loss: a yes-or-no question about every pair.

Zhai et al. (2023), "Sigmoid Loss for Language Image Pre-Training", arXiv 2303.15343, equation 1 and algorithm 1, where
only the diagonal is true; here any set of pairs is.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from dualenc.losses.blocks import Block, Pairs, gradients, pair_matrix
from dualenc.losses.collectives import all_reduce_sum, world_size
from dualenc.losses.inputs import Judge, LossInputs, Report


def sigmoid_contrastive(
    scene: Float[Tensor, "b d"],
    query: Float[Tensor, "b d"],
    *,
    logit_scale: Float[Tensor, ""] | float,
    logit_bias: Float[Tensor, ""] | float,
    targets: Bool[Tensor, "b columns"] | Judge | None = None,
    extra: Float[Tensor, "k d"] | None = None,
    extra_targets: Bool[Tensor, "b extra_columns"] | Judge | None = None,
    undecided: Bool[Tensor, "b columns"] | Judge | None = None,
    extra_undecided: Bool[Tensor, "b extra_columns"] | Judge | None = None,
    group: dist.ProcessGroup | None = None,
) -> Float[Tensor, ""]:
    """The sum over all pairs of -log sigmoid(z * (scale * cosine + bias)), divided by the global number of scenes.

    z is 1 for a true pair and -1 for a false one, in nats. ``logit_bias`` is the bias itself, -10 at the start in the
    paper; all else is as in :func:`dualenc.losses.info_nce`: ``targets`` (None is the diagonal), ``extra`` columns,
    which are negatives of all scenes they are not true of, and undecided pairs, which have no term. So are exactness
    at any world size, precision, memory and errors.
    """
    loss, _ = siglip_loss(
        LossInputs(
            scene=scene,
            query=query,
            logit_scale=logit_scale,
            logit_bias=logit_bias,
            targets=targets,
            extra=extra,
            extra_targets=extra_targets,
            undecided=undecided,
            extra_undecided=extra_undecided,
            group=group,
        )
    )
    return loss


def siglip_loss(inputs: LossInputs, *, edits: bool = True) -> tuple[Float[Tensor, ""], Report]:
    """:func:`sigmoid_contrastive` for the registry, with the extra columns or without.

    Reports the parts of true and of false pairs: the loss is their sum.
    """
    with torch.autocast(inputs.scene.device.type, enabled=False):
        scene, columns, pairs = pair_matrix(inputs, edits=edits)
        bias = torch.as_tensor(inputs.logit_bias).to(scene)
        sums = _PairLosses.apply(scene * inputs.logit_scale, columns, bias, pairs)
        true, false = all_reduce_sum(sums, inputs.group) / (len(scene) * world_size(inputs.group))
    return true + false, {"true": true.detach(), "false": false.detach()}


class _PairLosses(torch.autograd.Function):
    """The sum of the losses of this rank's true pairs, and of its false ones: [2]."""

    @staticmethod
    def forward(ctx: Any, scene: Tensor, columns: Tensor, bias: Tensor, pairs: Pairs) -> Tensor:
        ctx.pairs, ctx.kept = pairs, []
        ctx.save_for_backward(scene, columns, bias)
        sums = pairs.fused(_sums)
        # In float64: the sum of many blocks, most of them small beside those with true pairs.
        total = scene.new_zeros(2, dtype=torch.float64)
        for block in pairs.blocks(scene, columns, ctx.kept):
            total += sums(block.logits, block.true, bias)
        return total.to(scene.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor | None, ...]:
        scene, columns, bias = ctx.saved_tensors
        gradient = ctx.pairs.fused(_gradient)
        grad_bias = torch.zeros_like(bias, dtype=torch.float64)

        def of_logits(block: Block) -> Tensor:
            grad = gradient(block.logits, block.true, bias, grads)
            grad_bias.add_(grad.sum())
            return grad

        return *gradients(ctx.pairs, scene, columns, ctx.kept, of_logits), grad_bias.to(bias.dtype), None


def _sums(logits: Tensor, true: Tensor, bias: Tensor) -> Tensor:
    """:class:`_PairLosses` of one block. Undecided pairs come with a logit of minus infinity: false, at no cost."""
    mask = true.to(logits.dtype)
    losses = F.logsigmoid((logits + bias).mul_(2 * mask - 1)).neg_()
    of_true = (losses * mask).sum()
    return torch.stack([of_true, losses.sum() - of_true])


def _gradient(logits: Tensor, true: Tensor, bias: Tensor, grads: Tensor) -> Tensor:
    """The gradient of a block's logits, given those of the two sums: -sigmoid(-x) if true, sigmoid(x) if false."""
    mask = true.to(logits.dtype)
    return (logits + bias).mul_(1 - 2 * mask).sigmoid_().mul_(grads[1] - (grads[0] + grads[1]) * mask)

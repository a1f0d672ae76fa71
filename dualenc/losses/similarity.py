"""Centred kernel alignment (CKA) of two sets of embeddings of the same samples.

Kornblith et al. (2019), arXiv 1905.00414, equations 3 and 4; the debiased form takes the unbiased estimator of HSIC of
Song et al. (2012), Feature Selection via Dependence Maximization, equation 5, for each of its three terms.

Linear CKA needs the d x d products of the global batch and nothing of the size of n x n; ranks exchange those products
and not their embeddings. The RBF kernel needs all pairs of rows: ranks gather the embeddings, and each goes over its
own rows against all of them, a block at a time, so that memory grows with n and time with n^2 / world size.

Everything is float64 inside, also for float32 embeddings: debiasing subtracts nearly equal numbers, and the gradient
does so again where CKA is near 1; in float32 single elements of it are wrong by 1e-5 of the largest.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from dualenc.losses.collectives import all_reduce_max, all_reduce_sum, gather, rank, world_size
from dualenc.losses.inputs import LossInputs, Report
from dualenc.losses.row_blocks import blocks, means

BLOCK = 2**20
"""Elements of a block of the kernel matrix held at once, of which a backward holds about ten."""
HELD = 2**24
"""Distances of a rank up to which they are held while their median is sought; more are computed anew, five times."""


def cka(
    x: Float[Tensor, "b dx"],
    y: Float[Tensor, "b dy"],
    *,
    debiased: bool = False,
    kernel: Literal["linear", "rbf"] = "linear",
    sigma: float = 0.5,
    group: dist.ProcessGroup | None = None,
) -> Float[Tensor, ""]:
    """CKA of the global batch: HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)), in [0, 1] unless debiased.

    ``x`` and ``y`` are this rank's rows, b on every rank; row i of both is the same sample. Rows are centred here, and
    not normalised. ``debiased`` takes the unbiased estimator of HSIC, which is 0 on average for independent rows (the
    biased one grows with d / n); it may be negative, and needs at least 4 rows in the global batch. ``kernel="rbf"``
    is exp(-|x_i - x_j|^2 / (2 s^2)) with s^2 = ``sigma``^2 times the median of all n^2 squared distances (those of a
    row to itself too; the mean of the middle two), a constant for the gradient.

    Where a self-HSIC is not positive (constant rows; few rows, debiased; more than half of the distances 0, rbf) the
    value and its gradient are 0, never NaN. The value is that of the global batch on every rank; averaging gradients
    over ranks gives the gradient of one process on the whole batch.

    Raises ValueError for another kernel, sigma <= 0, or fewer than 4 rows with ``debiased``.
    """
    return _cka(x, y, debiased, kernel, sigma, group)[0]


def cka_loss(
    inputs: LossInputs, *, kernel: Literal["linear", "rbf"] = "linear", debiased: bool = True, sigma: float = 0.5
) -> tuple[Float[Tensor, ""], Report]:
    """-:func:`cka` of scenes and queries; reports it, and ``flagged``: 1 where a self-HSIC was not positive, else 0.

    Without negatives beside it nothing keeps embeddings apart that CKA does not see: it ignores scale and rotation.
    """
    value, flagged = _cka(inputs.scene, inputs.query, debiased, kernel, sigma, inputs.group)
    return -value, {"cka": value.detach(), "flagged": flagged.to(value.dtype)}


def _cka(
    x: Float[Tensor, "b dx"],
    y: Float[Tensor, "b dy"],
    debiased: bool,
    kernel: str,
    sigma: float,
    group: dist.ProcessGroup | None,
) -> tuple[Float[Tensor, ""], Bool[Tensor, ""]]:
    num_rows = len(x) * world_size(group)
    if kernel not in ("linear", "rbf") or sigma <= 0:
        raise ValueError(f"cka needs kernel linear or rbf and a positive sigma, got {kernel!r} and {sigma}")
    if debiased and num_rows < 4:
        raise ValueError(f"debiased cka needs at least 4 rows in the global batch, got {num_rows}")
    if kernel == "linear":
        terms = _linear_terms(x, y, debiased, group)
    else:
        terms = _rbf_terms(x, y, debiased, sigma, group)
    cross, own, positive = terms
    ok = positive.all()
    # Roots one by one, as their product may underflow; ones in place of what is flagged, as 0 * inf is NaN.
    roots = torch.where(ok, own, 1).sqrt()
    value = torch.where(ok, cross / roots[0] / roots[1], 0)
    return value.to(torch.promote_types(x.dtype, torch.float32)), ~ok


Terms = tuple[Tensor, Tensor, Tensor]
"""HSIC(x, y) [], (HSIC(x, x), HSIC(y, y)) [2], and whether the latter are positive beyond rounding [2]; a NaN counts
as positive, to stay one. All three up to the same factor."""


def _linear_terms(x: Tensor, y: Tensor, debiased: bool, group: dist.ProcessGroup | None) -> Terms:
    """Kornblith et al. (2019), section 3: the Frobenius norms of x^T y, x^T x and y^T y of centred rows."""
    n = len(x) * world_size(group)
    sums, floor = _LinearSums.apply(x, y, group)
    squares, row_products, norms = sums[:3], sums[3:6], sums[6:]
    hsic = squares
    if debiased:
        # Kernels without their diagonal: rows of a centred kernel add up to 0, so they now add up to minus their norm.
        totals = torch.stack([norms[0] * norms[1], norms[0] ** 2, norms[1] ** 2])
        hsic = squares - n / (n - 2) * row_products + totals / ((n - 1) * (n - 2))
    return hsic[0], hsic[1:], ~(norms <= floor) & ~(hsic[1:] <= _rounding(n) * squares[1:])


class _LinearSums(torch.autograd.Function):
    """What linear HSIC is made of, summed over the rows of all ranks: x and y centred, a and b their rows' squares.

    |x^T y|^2, |x^T x|^2, |y^T y|^2 (Frobenius), a.b, a.a, b.b, sum of a, sum of b; beside them the floor of the last
    two. By hand: the d x d products go over the wire once and not back, no float64 copy of the embeddings is held, and
    the backward takes four products of that size rather than six.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, group: dist.ProcessGroup | None) -> tuple[Tensor, Tensor]:
        mean_x, mean_y, floor = means(x, y, group)
        sums = torch.zeros(sum(map(math.prod, _shapes(x, y))), dtype=torch.float64, device=x.device)
        xy, xx, yy, ax, bx, ay, by, of_rows = _parts(sums, x, y)
        for _, (left, right) in blocks(x, y):
            left, right = left.sub_(mean_x), right.sub_(mean_y)
            a, b = left.square().sum(1), right.square().sum(1)
            for product, one, other in ((xy, left, right), (xx, left, left), (yy, right, right)):
                product.addmm_(one.T, other)
            for moment, weights, rows in ((ax, a, left), (bx, b, left), (ay, a, right), (by, b, right)):
                moment.addmv_(rows.T, weights)
            of_rows += torch.stack([a @ b, a @ a, b @ b, a.sum(), b.sum()])
        xy, xx, yy, *_, of_rows = parts = _parts(all_reduce_sum(sums, group), x, y)
        ctx.group = group
        ctx.save_for_backward(x, y, mean_x, mean_y, *parts[:-1])
        ctx.mark_non_differentiable(floor)
        return torch.cat([torch.stack([product.square().sum() for product in (xy, xx, yy)]), of_rows]), floor

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None]:
        x, y, mean_x, mean_y, xy, xx, yy, ax, bx, ay, by = ctx.saved_tensors
        of_xy, of_xx, of_yy, of_ab, of_aa, of_bb, of_a, of_b = 2 * all_reduce_sum(grad, ctx.group)
        num_rows = len(x) * world_size(ctx.group)
        # The gradient of centred rows less its mean is that of the rows; all but these parts add up to 0 already.
        drift_x = (of_ab * bx + 2 * of_aa * ax) / num_rows
        drift_y = (of_ab * ay + 2 * of_bb * by) / num_rows
        from_y, from_x, own_x, own_y = of_xy * xy.T, of_xy * xy, 2 * of_xx * xx, 2 * of_yy * yy
        grad_x, grad_y = torch.empty_like(x), torch.empty_like(y)
        for part, (left, right) in blocks(x, y):
            left, right = left.sub_(mean_x), right.sub_(mean_y)
            a, b = (rows.square().sum(1, keepdim=True) for rows in (left, right))
            of_left, of_right = of_ab * b + 2 * of_aa * a + of_a, of_ab * a + 2 * of_bb * b + of_b
            grad_x[part] = (right @ from_y).addmm_(left, own_x).addcmul_(left, of_left).sub_(drift_x)
            grad_y[part] = (left @ from_x).addmm_(right, own_y).addcmul_(right, of_right).sub_(drift_y)
        return grad_x, grad_y, None


def _shapes(x: Tensor, y: Tensor) -> list[tuple[int, ...]]:
    """Of x^T y, x^T x, y^T y; of the sums of the rows of x times a, times b, of y likewise; and of five scalars."""
    dx, dy = x.shape[1], y.shape[1]
    return [(dx, dy), (dx, dx), (dy, dy), (dx,), (dx,), (dy,), (dy,), (5,)]


def _parts(sums: Tensor, x: Tensor, y: Tensor) -> list[Tensor]:
    """The parts of what travels as one vector."""
    shapes = _shapes(x, y)
    return [part.view(shape) for part, shape in zip(sums.split([math.prod(shape) for shape in shapes]), shapes)]


def _rbf_terms(x: Tensor, y: Tensor, debiased: bool, sigma: float, group: dist.ProcessGroup | None) -> Terms:
    """HSIC from sums over kernel rows, of which each rank has its own."""
    num_rows, first = len(x) * world_size(group), len(x) * rank(group)
    # float64 on the wire too: what comes back are parts of a gradient, one of each rank, that nearly cancel.
    x, y = gather(torch.cat([x, y], dim=1).double(), group).split([x.shape[1], y.shape[1]], dim=1)
    mean_x, mean_y, floor = means(x.detach(), y.detach(), group, gathered=True)
    # Centred, so that distances of a narrow cone are not differences of large numbers; distances know no mean.
    x, y = x - mean_x, y - mean_y
    rows = range(first, first + num_rows // world_size(group))
    medians = torch.stack([_median_distance(side.detach(), rows, group) for side in (x, y)])
    widths = 2 * sigma**2 * torch.where(medians > 0, medians, 1)
    parts = [
        checkpoint(_kernel_sums, x, y, widths, part, use_reentrant=False, preserve_rng_state=False)
        for part in _row_ranges(rows, num_rows)
    ]
    sums = all_reduce_sum(torch.stack(parts).sum(0), group)
    squares, marginals, totals = sums[:3], sums[3:6], sums[6:]
    products = torch.stack([totals[0] * totals[1], totals[0] ** 2, totals[1] ** 2])
    if debiased:
        hsic = squares - 2 / (num_rows - 2) * marginals + products / ((num_rows - 1) * (num_rows - 2))
    else:
        hsic = squares - 2 / num_rows * marginals + products / num_rows**2
    varies = ~(medians <= 0) & ~(torch.stack([x.square().sum(), y.square().sum()]) <= floor)
    return hsic[0], hsic[1:], varies & ~(hsic[1:] <= _rounding(num_rows) * squares[1:])


def _kernel_sums(x: Tensor, y: Tensor, widths: Tensor, rows: range) -> Float[Tensor, "8"]:
    """Over some rows of the kernels K and L, each less 1: sums of KL, KK, LL, of their row sums' products, of K, of L.

    HSIC does not change where a constant is taken off a kernel, and less 1 an RBF kernel has the zero diagonal that
    the unbiased estimator asks for, and keeps its digits where it is wide.
    """
    k, m = (torch.expm1(-_distances(side, rows) / width) for side, width in zip((x, y), widths))
    k_rows, m_rows = k.sum(1), m.sum(1)
    squares = [(k * m).sum(), k.square().sum(), m.square().sum()]
    return torch.stack([*squares, k_rows @ m_rows, k_rows @ k_rows, m_rows @ m_rows, k_rows.sum(), m_rows.sum()])


def _distances(x: Float[Tensor, "n d"], rows: range) -> Float[Tensor, "rows n"]:
    """Squared distances of some rows to all; 0, with gradient 0, where they are within rounding, as on the diagonal."""
    squares = x.square().sum(1)
    own = slice(rows.start, rows.stop)
    scale = squares[own, None] + squares
    distances = scale - 2 * x[own] @ x.T
    return torch.where(distances <= _rounding(x.shape[1]) * scale, 0, distances)


def _median_distance(x: Float[Tensor, "n d"], rows: range, group: dist.ProcessGroup | None) -> Float[Tensor, ""]:
    """The exact median of all n^2 squared distances, of which each rank goes over its own rows.

    A radix selection: the bits of non-negative floats are ordered as the floats, so four histograms of 16 bits each
    find the element of a given place. Ranks exchange the histograms.
    """
    num = len(x) ** 2
    held = [_distances(x, rows)] if len(rows) * len(x) <= HELD else None

    def bits() -> Iterator[Tensor]:
        for block in held or (_distances(x, part) for part in _row_ranges(rows, len(x))):
            yield block.nan_to_num(torch.inf, torch.inf).flatten().view(torch.int64)

    lower = _select(bits, (num - 1) // 2, x.device, group)
    if num % 2:
        return lower.view(torch.float64)
    up_to, least = torch.zeros_like(lower), torch.full_like(lower, torch.iinfo(torch.int64).max)
    for block in bits():
        above = block > lower
        up_to += (~above).sum()
        least = torch.minimum(least, torch.where(above, block, least).min())
    next_above = -all_reduce_max(-least, group)
    upper = torch.where(all_reduce_sum(up_to, group) > num // 2, lower, next_above)
    return torch.stack([lower, upper]).view(torch.float64).mean()


def _select(
    bits: Callable[[], Iterator[Tensor]], place: int, device: torch.device, group: dist.ProcessGroup | None
) -> Tensor:
    """The number at ``place`` among the non-negative int64 numbers of all ranks in order."""
    prefix, left = torch.zeros((), dtype=torch.int64, device=device), torch.tensor(place, device=device)
    for shift in (48, 32, 16, 0):
        counts = torch.zeros(2**16, dtype=torch.int64, device=device)
        for block in bits():
            candidates = block[block >> shift >> 16 == prefix]
            counts += torch.bincount(candidates >> shift & 0xFFFF, minlength=2**16)
        counts = all_reduce_sum(counts, group)
        up_to = counts.cumsum(0)
        digit = torch.searchsorted(up_to, left, right=True)
        left = left - (up_to - counts)[digit]
        prefix = prefix << 16 | digit
    return prefix


def _row_ranges(rows: range, num_columns: int) -> Iterator[range]:
    step = max(1, BLOCK // num_columns)
    return (range(start, min(start + step, rows.stop)) for start in range(rows.start, rows.stop, step))


def _rounding(num_terms: int) -> float:
    """Relative error that sums of so many float64 terms may have."""
    return 4 * math.sqrt(num_terms) * torch.finfo(torch.float64).eps

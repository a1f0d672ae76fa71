"""The spectrum of the towers' cross-covariance: singular values of X^T Y over the global batch, and losses of them.

Kyimpopkin (2025), Sparse Latents for CLIP Spatial Reasoning Performance: a gap after the k-th singular value and large
leading ones push the energy into few directions. The effective rank is that of Roy & Vetterli (2007), The effective
rank: a measure of effective dimensionality: exp of the entropy of the singular values divided by their sum.

Only singular values are differentiated, so equal ones do no harm: the gradient of f(s) at C = U diag(s) V^T is
U diag(f') V^T. Where f is not smooth that is one subgradient: at a tie (a gap of 0) the one of the basis that the
decomposition happened to choose, and at values of 0 the one without them, so that a zero matrix has gradient 0.

Everything is float64 inside, also for float32 embeddings. Ranks exchange a d x d matrix, or their rows where these are
fewer numbers; the backward exchanges the gradient of the values alone.
"""

from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from dualenc.losses.collectives import all_reduce_sum, gather, world_size
from dualenc.losses.inputs import LossInputs, Report
from dualenc.losses.row_blocks import blocks, lengths, means

Scale = Literal["none", "n", "spectral"]


def cross_covariance_spectrum(
    x: Float[Tensor, "b dx"],
    y: Float[Tensor, "b dy"],
    *,
    center: bool = True,
    normalize: bool = True,
    group: dist.ProcessGroup | None = None,
) -> Float[Tensor, " values"]:
    """The min(dx, dy) singular values of X^T Y of the global batch, descending.

    ``x`` and ``y`` are this rank's rows, b on every rank; row i of both belong together. Rows are L2-normalised first
    (``normalize``; a row of zeros stays one), then centred over all ranks (``center``); X^T Y is a sum over rows, not
    divided by their number. Differentiable once. The value is that of the global batch on every rank; averaging
    gradients over ranks gives the gradient of one process on the whole batch.
    """
    values = _spectrum(x, y, None, center, normalize, group)[0]
    return values.to(torch.promote_types(x.dtype, torch.float32))


def svd_loss(
    inputs: LossInputs,
    *,
    k: int = 3,
    alpha: float = 1.0,
    beta: float = 0.5,
    effective_rank: float = 0.0,
    center: bool = True,
    scale: Scale = "spectral",
) -> tuple[Float[Tensor, ""], Report]:
    """-``alpha`` (s_k - s_{k+1}) - ``beta`` (s_1 + ... + s_k) + ``effective_rank`` r / min(n, d), n the global batch.

    s are the singular values of :func:`cross_covariance_spectrum`, divided by nothing (``scale="none"``, as published:
    they grow with n), by n, or by their sum (``"spectral"``: the same at any n, and at any size of a centred cloud). r
    is the effective rank, between 1 and min(n, d); divided by that its weight means the same at any d. A positive
    weight sparsifies, a negative one densifies.

    Reports ``gap`` (s_k - s_{k+1}) and ``magnitude`` (s_1 + ... + s_k) on that scale, ``effective_rank`` (r itself; 0
    of a zero matrix) and ``top_k_energy`` (the share of the squares that is in the first k).

    Alone it has no negatives: nothing tells the pairs of a batch apart. Raises ValueError for k that has no k + 1-th
    value after it.
    """
    whole = scale == "spectral" or effective_rank != 0
    values, every = _spectrum(inputs.scene, inputs.query, None if whole else k + 1, center, True, inputs.group)
    num_rows = len(inputs.scene) * world_size(inputs.group)
    most = min(num_rows, len(every))
    if not 0 < k < most:
        raise ValueError(f"svd needs k from 1 to {most - 1}, one below the smaller of rows and dimensions, got {k}")
    scaled = values if scale == "none" else values / (num_rows if scale == "n" else _or_one(values.sum()))
    gap, magnitude = scaled[k - 1] - scaled[k], scaled[:k].sum()
    loss = -alpha * gap - beta * magnitude
    if effective_rank:
        loss = loss + effective_rank / most * _effective_rank(values)
    energies = every.square()
    report = {
        "gap": gap,
        "magnitude": magnitude,
        "effective_rank": _effective_rank(every),
        "top_k_energy": energies[:k].sum() / _or_one(energies.sum()),
    }
    return _as_inputs(inputs, loss, report)


def clip_svd_loss(
    inputs: LossInputs, *, gamma: float = 1.0, k: int = 3, alpha: float = 1.0, beta: float = 0.5
) -> tuple[Float[Tensor, ""], Report]:
    """-``gamma`` times the mean cosine of the pairs, plus the SVD terms neither centred nor scaled: as published.

    It can collapse. There are no negatives: all pairs in k orthogonal points, as many in each, are its minimum,
    whatever they show, and with ``alpha`` = 0 so is a single point. Its SVD terms grow with the global batch while the
    cosine does not. Kept for comparison; reports what :func:`svd_loss` does, and ``mean_cosine``.
    """
    svd, report = svd_loss(inputs, k=k, alpha=alpha, beta=beta, center=False, scale="none")
    dtype = torch.promote_types(inputs.scene.dtype, torch.float32)
    scene, query = inputs.scene.to(dtype), inputs.query.to(dtype)
    cosines = (scene * query).sum(1) / (lengths(scene) * lengths(query)).squeeze(1)
    mean = all_reduce_sum(cosines.sum(), inputs.group) / (len(cosines) * world_size(inputs.group))
    loss, cosine = _as_inputs(inputs, svd - gamma * mean, {"mean_cosine": mean})
    return loss, report | cosine


def _as_inputs(inputs: LossInputs, loss: Tensor, report: Report) -> tuple[Tensor, Report]:
    """Loss and report as losses give them: float32 unless the embeddings are float64, the report without graph."""
    dtype = torch.promote_types(inputs.scene.dtype, torch.float32)
    return loss.to(dtype), {name: value.detach().to(dtype) for name, value in report.items()}


def _effective_rank(values: Float[Tensor, " values"]) -> Float[Tensor, ""]:
    shares = values / _or_one(values.sum())
    entropy = -(shares * _or_one(shares).log()).sum()  # a value of 0 adds 0, and no infinite slope
    return entropy.exp() * (values[0] > 0)


def _or_one(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """1 in place of 0: a denominator of what is 0 itself, or the argument of a logarithm that is multiplied by 0."""
    return torch.where(x == 0, 1, x)


def _spectrum(
    x: Tensor, y: Tensor, num: int | None, center: bool, normalize: bool, group: dist.ProcessGroup | None
) -> tuple[Float[Tensor, " num"], Float[Tensor, " values"]]:
    """The first ``num`` singular values (None: all), differentiable, and all of them, without graph; float64."""
    num = min(x.shape[1], y.shape[1]) if num is None else num
    values, every = _SingularValues.apply(x, y, num, center, normalize, group)
    return values, every


class _SingularValues(torch.autograd.Function):
    """Singular values of X^T Y over the rows of all ranks, X and Y being x and y normalised and centred as asked.

    By hand, since s_i = sum over rows of (x . u_i) (y . v_i) with u and v constant has the right gradient: a rank's
    share needs its own rows only, no d x d matrix goes back, and no float64 copy of the embeddings is held. Centring
    one side centres the product, so the gradient of X is made of centred rows of Y and adds up to 0 already.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, num: int, center: bool, normalize: bool, group: dist.ProcessGroup | None
    ) -> tuple[Tensor, Tensor]:
        few = 2 * len(x) * world_size(group) <= min(x.shape[1], y.shape[1])
        decompose = _svd_of_rows if few else _svd_of_product
        u, values, v, mean_x, mean_y = decompose(x, y, center, normalize, group)
        ctx.group, ctx.normalize = group, normalize
        ctx.save_for_backward(x, y, mean_x, mean_y, u[:, :num], values, v[:, :num])
        every = values.clone()
        ctx.mark_non_differentiable(every)
        return values[:num], every

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, y, mean_x, mean_y, u, values, v = ctx.saved_tensors
        grad = all_reduce_sum(grad, ctx.group)[: u.shape[1]]
        grad = torch.where(values[: len(grad)] > 0, grad, 0)
        from_y, from_x = _chain(v * grad, u.T), _chain(u * grad, v.T)
        grad_x, grad_y = torch.empty_like(x), torch.empty_like(y)
        for part, (left, right) in blocks(x, y, normalize=ctx.normalize):
            of_left = _through(right - mean_y, from_y)
            of_right = _through(left - mean_x, from_x)
            if ctx.normalize:
                of_left = _before_normalizing(x[part], left, of_left)
                of_right = _before_normalizing(y[part], right, of_right)
            grad_x[part], grad_y[part] = of_left, of_right
        return grad_x, grad_y, None, None, None, None


def _chain(first: Tensor, second: Tensor) -> list[Tensor]:
    """What many rows are to be multiplied by, one after the other: the product where that is less work."""
    return [first @ second] if 2 * first.shape[1] > first.shape[0] else [first, second]


def _through(rows: Tensor, matrices: list[Tensor]) -> Tensor:
    for matrix in matrices:
        rows = rows @ matrix
    return rows


def _before_normalizing(rows: Tensor, unit: Tensor, grad: Tensor) -> Tensor:
    """The gradient of rows from that of the rows divided by their lengths."""
    along = torch.linalg.vecdot(unit, grad).unsqueeze(1)
    return grad.addcmul_(unit, along, value=-1).div_(lengths(rows.double()))


Decomposition = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""u [dx, m], values [min(dx, dy)] and v [dy, m] of X^T Y, and the mean rows that were taken off (0 where none)."""


def _svd_of_product(
    x: Tensor, y: Tensor, center: bool, normalize: bool, group: dist.ProcessGroup | None
) -> Decomposition:
    """By way of the dx x dy product, summed over ranks."""
    mean_x, mean_y, floor = _means(x, y, center, normalize, group)
    sums = torch.zeros(x.shape[1] * y.shape[1] + 2, dtype=torch.float64, device=x.device)
    product, squares = sums[:-2].view(x.shape[1], y.shape[1]), sums[-2:]
    for _, (left, right) in blocks(x, y, normalize=normalize):
        left, right = left.sub_(mean_x), right.sub_(mean_y)
        product.addmm_(left.T, right)
        squares += torch.stack([left.square().sum(), right.square().sum()])
    sums = all_reduce_sum(sums, group)
    return *_svd(sums[:-2].view_as(product), constant=(sums[-2:] <= floor).any()), mean_x, mean_y


def _svd_of_rows(x: Tensor, y: Tensor, center: bool, normalize: bool, group: dist.ProcessGroup | None) -> Decomposition:
    """By way of all rows, n of them: X^T = Q R and Y^T likewise, so that R R^T, n x n, has the values of X^T Y."""
    widths = [x.shape[1], y.shape[1]]
    x, y = gather(torch.cat([x, y], dim=1), group).split(widths, dim=1)
    mean_x, mean_y, floor = _means(x, y, center, normalize, group, gathered=True)
    x, y = (torch.cat(side) for side in zip(*(rows for _, rows in blocks(x, y, normalize=normalize))))
    x, y = x - mean_x, y - mean_y
    constant = (torch.stack([x.square().sum(), y.square().sum()]) <= floor).any()
    (x_basis, x_rest), (y_basis, y_rest) = torch.linalg.qr(x.T), torch.linalg.qr(y.T)
    u, values, v = _svd(x_rest @ y_rest.T, constant)
    return x_basis @ u, F.pad(values, (0, min(widths) - len(values))), y_basis @ v, mean_x, mean_y


def _means(
    x: Tensor, y: Tensor, center: bool, normalize: bool, group: dist.ProcessGroup | None, gathered: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The rows to take off, and the sum of squares at which nothing but rounding is left."""
    if center:
        return means(x, y, group, normalize=normalize, gathered=gathered)
    zeros = torch.zeros(x.shape[1] + y.shape[1] + 2, dtype=torch.float64, device=x.device)
    mean_x, mean_y, floor = zeros.split([x.shape[1], y.shape[1], 2])
    return mean_x, mean_y, floor


def _svd(matrix: Tensor, constant: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """u, values, v, with values of rounding alone made 0: all of them where a factor of the matrix is constant."""
    if not matrix.isfinite().all():  # LAPACK would raise; a diverged training is reported by its loss
        matrix = torch.zeros_like(matrix).fill_diagonal_(torch.nan)
        return matrix, matrix.diagonal(), matrix.T
    u, values, vh = torch.linalg.svd(matrix, full_matrices=False)
    rounding = values[0] * max(matrix.shape) * torch.finfo(values.dtype).eps
    return u, torch.where((values > rounding) & ~constant, values, 0), vh.T

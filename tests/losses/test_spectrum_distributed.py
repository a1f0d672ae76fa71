"""Losses of the cross-covariance spectrum over real gloo processes under DDP, against `svdvals` in one process."""

import pytest
import torch
from gloo import DTYPES, WORLD_SIZES, broken_backward, check
from torch import Tensor
from two_towers import bytes_sent, distributed, reference, without_sum_in_backward

from dualenc.losses import LossInputs, collectives, cross_covariance_spectrum, spectrum
from dualenc.losses.spectrum import clip_svd_loss, svd_loss

ROWS = 4
"""Rows of a rank. With 40 dimensions twice as many are never more than these, with 24 they are at W = 4, and yet fewer
rows than dimensions; with 6 there are more rows at W = 2."""
OPTIONS = {
    "default": {},
    "published": {"center": False, "scale": "none"},
    "by number": {"scale": "n", "alpha": 0.3, "k": 1},
    "sparsify": {"effective_rank": 0.5, "k": 2},
    "densify": {"effective_rank": -1.0, "scale": "n", "center": False, "k": 2},
    "clip_svd": {"gamma": 0.7},
}
DIMS = (6, 24, 40)
K = 2
"""Below the three singular values that four centred rows have."""


def loss_of(name: str):
    return clip_svd_loss if name == "clip_svd" else svd_loss


def textbook(name: str):
    """The formulas as published, and Roy & Vetterli's effective rank, of an SVD of the d x d matrix under autograd."""
    options = {"k": K, "alpha": 1.0, "beta": 0.5} | OPTIONS[name]
    k, published = options["k"], name in ("clip_svd", "published")

    def loss(x: Tensor, y: Tensor) -> Tensor:
        num = min(len(x), x.shape[1])
        rest = -options["gamma"] * torch.cosine_similarity(x, y).mean() if name == "clip_svd" else 0.0
        x, y = (rows / rows.norm(dim=1, keepdim=True) for rows in (x, y))
        if options.get("center", not published):
            x, y, num = x - x.mean(0), y - y.mean(0), min(len(x) - 1, x.shape[1])
        values = torch.linalg.svdvals(x.T @ y)[:num]  # the others are 0, and the logarithm knows no 0
        shares = values / values.sum()
        scale = options.get("scale", "none" if published else "spectral")
        scaled = shares if scale == "spectral" else values / (len(x) if scale == "n" else 1)
        gap, magnitude = -(scaled[k - 1] - scaled[k]), -scaled[:k].sum()
        erank = (-(shares * shares.log()).sum()).exp() / min(len(x), x.shape[1])
        return rest + options["alpha"] * gap + options["beta"] * magnitude + options.get("effective_rank", 0) * erank

    return loss


MISTAKES = {
    "values": (lambda: without_sum_in_backward(spectrum._SingularValues, spectrum), "default"),
    "cosine": (lambda: broken_backward(collectives._AllReduceSum), "clip_svd"),
}


def on_rank(group):
    results = {
        f"{name}/{dim}/{dtype}": distributed(group, loss_of(name), {"k": K} | options, ROWS, dim, dtype)
        for name, options in OPTIONS.items()
        for dim in DIMS
        for dtype in DTYPES
    }
    for mistake, (broken, name) in MISTAKES.items():
        with broken():
            options = {"k": K} | OPTIONS[name]
            results[mistake] = distributed(group, loss_of(name), options, ROWS, DIMS[0], torch.float64)
    return results


def bytes_on_rank(group, rows: int, dim: int) -> tuple[list[int], list[int]]:
    x, y = (torch.randn(rows, dim, requires_grad=True) for _ in range(2))
    with bytes_sent(whole := []):
        cross_covariance_spectrum(x, y, group=group).sum().backward()
    with bytes_sent(leading := []):
        inputs = LossInputs(scene=x, query=y, logit_scale=1.0, group=group)
        svd_loss(inputs, k=K, scale="n")[0].backward()
    return whole, leading


@pytest.fixture(scope="module", params=WORLD_SIZES, ids="W={}".format)
def ranks(request, workers):
    return workers.run(on_rank, world=request.param)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("name", OPTIONS)
def test_equals_one_process_on_the_global_batch(ranks, name, dim, dtype):
    expected = reference(textbook(name), ROWS * len(ranks), dim, dtype)
    for rank in ranks:
        result = rank[f"{name}/{dim}/{dtype}"]
        check(result["exact"], expected)
        assert result["report"] == ranks[0][f"{name}/{dim}/{dtype}"]["report"]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_missing_factor_of_world_size_is_noticed(ranks, mistake):
    expected = reference(textbook(MISTAKES[mistake][1]), ROWS * len(ranks), DIMS[0], torch.float64)
    if len(ranks) == 1:
        check(ranks[0][mistake]["exact"], expected)
    else:
        with pytest.raises(AssertionError):
            check(ranks[0][mistake]["exact"], expected)


def test_ranks_exchange_a_product_or_the_fewer_rows(workers):
    """Forward: means, then the product with two norms, or the rows of a rank; backward: a gradient of the values."""
    dim = 40
    for rows in (dim, 100 * dim):
        for whole, leading in workers.run(bytes_on_rank, rows, dim, world=2):
            assert whole == [8 * num for num in (2 * dim + 2, dim**2 + 2, dim)]
            assert leading == [8 * num for num in (2 * dim + 2, dim**2 + 2, K + 1)]
    for whole, leading in workers.run(bytes_on_rank, ROWS, dim, world=2):
        assert whole == [4 * 2 * ROWS * dim, 8 * dim]
        assert leading == [4 * 2 * ROWS * dim, 8 * (K + 1)]

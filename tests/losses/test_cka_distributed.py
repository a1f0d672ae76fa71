"""CKA over real gloo processes under DDP, against the Gram matrices of one process."""

import numpy as np
import pytest
import torch
from gloo import DTYPES, WORLD_SIZES, broken_backward, check
from torch import Tensor
from two_towers import bytes_sent, distributed, reference, without_sum_in_backward

from dualenc.losses import cka, collectives, similarity
from dualenc.losses.similarity import cka_loss

ROWS, DIM, WIDE = 8, 6, 40
"""Rows per rank, and dimensions below and above the number of rows of all ranks."""
CASES = {
    f"{kernel}, {'debiased' if debiased else 'biased'}, {dim} dimensions": (dim, kernel, debiased)
    for kernel in ("linear", "rbf")
    for debiased in (False, True)
    for dim in (DIM, WIDE)
}


def gram(x: Tensor, kernel: str) -> Tensor:
    if kernel == "linear":
        return x @ x.T
    squared = (x[:, None] - x[None]).square().sum(-1)
    return torch.exp(-squared / (2 * 0.5**2 * float(np.median(squared.detach().numpy()))))


def hsic(k: Tensor, m: Tensor, debiased: bool) -> Tensor:
    """Gretton et al. (2005), and the unbiased estimator of Song et al. (2012), as they are written."""
    n, one = len(k), torch.ones(len(k), dtype=k.dtype)
    if not debiased:
        h = torch.eye(n, dtype=k.dtype) - 1 / n
        return torch.trace(k @ h @ m @ h) / (n - 1) ** 2
    k, m = k - k.diag().diag(), m - m.diag().diag()
    marginals = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * one @ k @ m @ one
    return (torch.trace(k @ m) + marginals) / (n * (n - 3))


def textbook(kernel: str, debiased: bool):
    def loss(x: Tensor, y: Tensor) -> Tensor:
        k, m = gram(x, kernel), gram(y, kernel)
        return -hsic(k, m, debiased) / (hsic(k, k, debiased) * hsic(m, m, debiased)).sqrt()

    return loss


MISTAKES = {
    "sums": (lambda: without_sum_in_backward(similarity._LinearSums, similarity), ("linear", True)),
    "gathered rows": (lambda: broken_backward(collectives._Gather), ("rbf", True)),
    "kernel sums": (lambda: broken_backward(collectives._AllReduceSum), ("rbf", False)),
}
"""Where a sum over ranks can be left out of the backward, and a kernel and an estimator that need it."""


def on_rank(group):
    results = {}
    for name, (dim, kernel, debiased) in CASES.items():
        for dtype in DTYPES:
            options = {"kernel": kernel, "debiased": debiased}
            results[f"{name}/{dtype}"] = distributed(group, cka_loss, options, ROWS, dim, dtype)
    for name, (mistake, (kernel, debiased)) in MISTAKES.items():
        with mistake():
            options = {"kernel": kernel, "debiased": debiased}
            results[name] = distributed(group, cka_loss, options, ROWS, DIM, torch.float64)
    return results


def bytes_on_rank(group, rows: int, debiased: bool) -> list[int]:
    x, y = (torch.randn(rows, DIM, requires_grad=True) for _ in range(2))
    with bytes_sent(sent := []):
        cka(x, y, debiased=debiased, group=group).backward()
    return sent


@pytest.fixture(scope="module", params=WORLD_SIZES, ids="W={}".format)
def ranks(request, workers):
    return workers.run(on_rank, world=request.param)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_equals_the_gram_form_of_the_global_batch(ranks, case, dtype):
    dim, kernel, debiased = CASES[case]
    expected = reference(textbook(kernel, debiased), ROWS * len(ranks), dim, dtype)
    for rank in ranks:
        result = rank[f"{case}/{dtype}"]
        check(result["exact"], expected)
        assert result["report"] == {"cka": -result["exact"]["loss"], "flagged": 0}
        assert result["report"] == ranks[0][f"{case}/{dtype}"]["report"]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_missing_factor_of_world_size_is_noticed(ranks, mistake):
    expected = reference(textbook(*MISTAKES[mistake][1]), ROWS * len(ranks), DIM, torch.float64)
    if len(ranks) == 1:
        check(ranks[0][mistake]["exact"], expected)
    else:
        with pytest.raises(AssertionError):
            check(ranks[0][mistake]["exact"], expected)


@pytest.mark.parametrize("debiased", [False, True])
def test_ranks_exchange_products_and_not_embeddings(workers, debiased):
    """Forward: means, then three d x d products and sums over rows; backward: the gradient of eight numbers."""
    expected = [8 * num for num in (2 * DIM + 2, 3 * DIM**2 + 4 * DIM + 5, 8)]
    for rows in (ROWS, 1000 * ROWS):
        assert workers.run(bytes_on_rank, rows, debiased, world=2) == [expected] * 2

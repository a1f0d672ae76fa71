"""The cross-covariance spectrum in one process: definition, scales, derivatives, degenerate embeddings, refusals."""

import pytest
import torch

from dualenc.losses import LossInputs, cross_covariance_spectrum, row_blocks
from dualenc.losses.spectrum import clip_svd_loss, svd_loss

FORMS = {
    "default": (svd_loss, {}),
    "published": (svd_loss, {"center": False, "scale": "none"}),
    "by number": (svd_loss, {"scale": "n"}),
    "sparsify": (svd_loss, {"effective_rank": 0.5}),
    "densify": (svd_loss, {"effective_rank": -0.5, "scale": "n"}),
    "clip_svd": (clip_svd_loss, {}),
}
each_form = pytest.mark.parametrize("form", FORMS)


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def evaluate(form: str, x: torch.Tensor, y: torch.Tensor, k: int = 2):
    loss, options = FORMS[form]
    return loss(LossInputs(scene=x, query=y, logit_scale=1.0), k=k, **options)


@pytest.mark.parametrize("shape", [(20, 6), (6, 6), (5, 6), (3, 6), (2, 6)], ids=str)
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_is_svdvals_of_the_product(shape, center, normalize):
    x, y = (rows(*shape, seed=seed).requires_grad_() for seed in range(2))
    weights = rows(6, seed=2)
    left, right = (side / side.norm(dim=1, keepdim=True) if normalize else side for side in (x, y))
    if center:
        left, right = left - left.mean(0), right - right.mean(0)
    expected = torch.linalg.svdvals(left.T @ right)
    actual = cross_covariance_spectrum(x, y, center=center, normalize=normalize)
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-9)
    for ours, theirs in zip(*(torch.autograd.grad(value @ weights, (x, y)) for value in (actual, expected))):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("form", ["default", "published"])
def test_in_blocks_of_rows_it_is_the_same(monkeypatch, form):
    x, y = (rows(11, 5, seed=seed).requires_grad_() for seed in range(2))
    results = []
    for block in (11, 3):
        monkeypatch.setattr(row_blocks, "BLOCK", block)
        loss, _ = evaluate(form, x, y)
        results.append([loss, *torch.autograd.grad(loss, (x, y))])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-14)


def test_sides_may_differ_in_dimension():
    x, y = rows(9, 4), rows(9, 7, seed=1)
    values = cross_covariance_spectrum(x, y, center=False, normalize=False)
    torch.testing.assert_close(values, torch.linalg.svdvals(x.T @ y))


def test_small_values_of_float32_embeddings_are_right():
    """A spectrum that falls to 1e-7 of the first, which the Gram matrix of float32 would not keep."""
    shrink = torch.logspace(0, -3.5, 8)
    x, y = rows(64, 8).float() * shrink, rows(64, 8, seed=1).float() * shrink
    values = cross_covariance_spectrum(x, y, normalize=False)
    x, y = (side.double() - side.double().mean(0) for side in (x, y))
    expected = torch.linalg.svdvals(x.T @ y)
    assert expected[-1] < 1e-6 * expected[0]
    torch.testing.assert_close(values.double(), expected, rtol=1e-6, atol=0)


@each_form
@pytest.mark.parametrize("shape", [(9, 4), (4, 9)], ids=str)
def test_gradcheck(form, shape):
    x, y = (rows(*shape, seed=seed).requires_grad_() for seed in range(2))
    assert torch.autograd.gradcheck(lambda x, y: evaluate(form, x, y)[0], (x, y))


def test_published_formula():
    """Kyimpopkin (2025): -(s_k - s_k+1) alpha - (s_1 + ... + s_k) beta - gamma cosine, k = 3, alpha = 1, beta = .5."""
    x, y = rows(20, 6), rows(20, 6, seed=1)
    s = cross_covariance_spectrum(x, y, center=False)
    cosine = torch.cosine_similarity(x, y).mean()
    loss, report = clip_svd_loss(LossInputs(scene=x, query=y, logit_scale=1.0))
    torch.testing.assert_close(loss, -cosine - (s[2] - s[3]) - 0.5 * s[:3].sum())
    shares = s / s.sum()
    expected = {
        "gap": s[2] - s[3],
        "magnitude": s[:3].sum(),
        "effective_rank": (-(shares * shares.log()).sum()).exp(),
        "top_k_energy": s[:3].square().sum() / s.square().sum(),
        "mean_cosine": cosine,
    }
    torch.testing.assert_close(report, expected)


@pytest.mark.parametrize(("form", "same"), [("default", True), ("by number", True), ("published", False)])
def test_the_same_at_any_batch_size(form, same):
    """A batch and four copies of it."""
    x, y = rows(20, 6), rows(20, 6, seed=1)
    once, often = evaluate(form, x, y)[0], evaluate(form, x.repeat(4, 1), y.repeat(4, 1))[0]
    torch.testing.assert_close(often, once if same else 4 * once)


@pytest.mark.parametrize(("weight", "sign"), [(1.0, -1), (-1.0, 1)])
def test_the_sign_of_effective_rank_sparsifies_or_densifies(weight, sign):
    x, y = (rows(40, 6, seed=seed).requires_grad_() for seed in range(2))
    ranks = []
    for _ in range(20):
        inputs = LossInputs(scene=x, query=y, logit_scale=1.0)
        loss, report = svd_loss(inputs, alpha=0.0, beta=0.0, effective_rank=weight)
        torch.testing.assert_close(loss.item(), weight * report["effective_rank"].item() / 6)
        ranks.append(report["effective_rank"].item())
        for side, grad in zip((x, y), torch.autograd.grad(loss, (x, y))):
            side.data -= 3 * grad
    assert sign * (ranks[-1] - ranks[0]) > 0.3


@each_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [4, 20])
@pytest.mark.parametrize("kind", ["zero", "constant", "both constant", "equal values", "few points"])
def test_degenerate_embeddings_are_finite(kind, dim, dtype, form):
    other = rows(8, dim).to(dtype)
    x, y = {
        "zero": (torch.zeros(8, dim), other),
        "constant": (torch.full((8, dim), 0.3), other),
        "both constant": (torch.full((8, dim), 0.3), torch.full((8, dim), -0.7)),
        "equal values": (torch.eye(8, dim), torch.eye(8, dim)),
        "few points": (other[[0] * 4 + [1] * 4], other[[0] * 4 + [1] * 4]),
    }[kind]
    x, y = (side.to(dtype).clone().requires_grad_() for side in (x, y))
    loss, report = evaluate(form, x, y)
    loss.backward()
    assert all(value.isfinite() for value in (loss, *report.values()))
    # Of rows no longer than 1; a collapsed tower is pulled nowhere rather than anywhere with great force.
    assert max(x.grad.abs().max(), y.grad.abs().max()) < 10
    if kind in ("zero", "constant", "both constant") and FORMS[form][1].get("center", form != "clip_svd"):
        assert loss == 0
        assert (x.grad == 0).all()
        assert (y.grad == 0).all()


def test_not_a_number_stays_one():
    x = rows(8, 3)
    x[0, 0] = torch.nan
    assert evaluate("default", x, rows(8, 3))[0].isnan()


@each_form
def test_autocast_changes_nothing(form):
    x, y = (rows(16, 8, seed=seed).float() for seed in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, report = evaluate(form, x, y)
    assert loss.dtype == torch.float32
    assert (loss, report) == evaluate(form, x, y)


@pytest.mark.parametrize(("shape", "most"), [((20, 4), 3), ((4, 20), 3)], ids=str)
def test_k_without_a_value_after_it_is_refused(shape, most):
    x, y = rows(*shape), rows(*shape, seed=1)
    evaluate("default", x, y, k=most)
    for k in (0, most + 1):
        with pytest.raises(ValueError, match=f"k from 1 to {most}"):
            evaluate("default", x, y, k=k)

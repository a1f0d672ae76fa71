"""CKA in one process: published values, definitions, invariances, derivatives, degenerate embeddings, refusals."""

import numpy as np
import pytest
import torch

from dualenc.losses import LossInputs, cka, row_blocks, similarity
from dualenc.losses.similarity import cka_loss

FORMS = [
    {"kernel": kernel, "debiased": debiased, "sigma": sigma}
    for kernel, sigma in (("linear", 0.5), ("rbf", 0.5), ("rbf", 2.0))
    for debiased in (False, True)
]


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def published() -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.RandomState(1337)
    x = generator.randn(100, 10)
    return torch.tensor(x), torch.tensor(generator.randn(100, 10) + x)


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, 0.55761), ({"kernel": "rbf", "sigma": 0.5}, 0.65483), ({"debiased": True}, 0.51346)],
)
def test_published_values(options, expected):
    """Of the notebook of Kornblith et al. (google-research/representation_similarity), to the digits printed there."""
    assert round(cka(*published(), **options).item(), 5) == expected


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_invariant_to_rotation_scale_and_shift(options):
    x, y = rows(12, 5), rows(12, 5, seed=1)
    rotation = torch.linalg.qr(rows(5, 5, seed=2))[0]
    expected = cka(x, y, **options)
    torch.testing.assert_close(cka(3 * x @ rotation + 1, y / 7, **options), expected)
    torch.testing.assert_close(cka(y, x, **options), expected)


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_of_a_thing_with_itself_is_one(options):
    x = rows(12, 5)
    torch.testing.assert_close(cka(x, 2 * x, **options).item(), 1.0)


def test_debiasing_takes_off_what_dimension_adds():
    pairs = [(rows(32, 64, seed=seed), rows(32, 64, seed=100 + seed)) for seed in range(50)]
    biased, debiased = (torch.stack([cka(*pair, debiased=d) for pair in pairs]).mean() for d in (False, True))
    assert biased > 0.6
    assert abs(debiased) < 0.01


@pytest.mark.parametrize("shape", [(8, 3), (6, 9)], ids=str)
@pytest.mark.parametrize("debiased", [False, True])
def test_gradcheck(shape, debiased):
    x, y = (rows(*shape, seed=seed).requires_grad_() for seed in range(2))
    assert torch.autograd.gradcheck(lambda x, y: cka(x, y, debiased=debiased), (x, y))


@pytest.mark.parametrize("num_rows", [9, 10])
@pytest.mark.parametrize("block", [9, 20, 2**20])
def test_rbf_in_blocks_is_the_definition(monkeypatch, num_rows, block):
    """An odd and an even number of distances, a row at a time, two, and all."""
    monkeypatch.setattr(similarity, "BLOCK", block)
    monkeypatch.setattr(similarity, "HELD", block)
    x, y = (rows(num_rows, 4, seed=seed).requires_grad_() for seed in range(2))

    def gram(side: torch.Tensor) -> torch.Tensor:
        squared = (side[:, None] - side[None]).square().sum(-1)
        kernel = torch.exp(-squared / (2 * 0.8**2 * np.median(squared.detach().numpy())))
        return kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()

    k, m = gram(x), gram(y)
    expected = (k * m).sum() / (k.square().sum() * m.square().sum()).sqrt()
    actual = cka(x, y, kernel="rbf", sigma=0.8)
    torch.testing.assert_close(actual, expected)
    for ours, theirs in zip(*(torch.autograd.grad(value, (x, y)) for value in (actual, expected))):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("debiased", [False, True])
def test_linear_in_blocks_of_rows_is_the_same(monkeypatch, debiased):
    x, y = (rows(11, 4, seed=seed).requires_grad_() for seed in range(2))
    results = []
    for block in (11, 3):
        monkeypatch.setattr(row_blocks, "BLOCK", block)
        value = cka(x, y, debiased=debiased)
        results.append([value, *torch.autograd.grad(value, (x, y))])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-14)


def test_median_is_exact():
    x = rows(50, 3)[torch.randint(30, (50,), generator=torch.Generator().manual_seed(0))]  # with ties
    distances = similarity._distances(x, range(50))
    assert similarity._median_distance(x, range(50), None) == np.median(distances.numpy())
    assert (distances.diagonal() == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", FORMS, ids=str)
@pytest.mark.parametrize(
    "x",
    [torch.zeros(8, 3), torch.full((8, 3), 0.3), torch.tensor([[1.0, 0.0, 0.0]]).expand(8, 3)],
    ids=["zero", "constant", "one corner"],
)
def test_a_collapsed_tower_is_flagged(x, options, dtype):
    x, y = x.to(dtype).clone().requires_grad_(), rows(8, 3).to(dtype).requires_grad_()
    loss, report = cka_loss(LossInputs(scene=x, query=y, logit_scale=1.0), **options)
    loss.backward()
    assert report == {"cka": 0, "flagged": 1}
    assert loss == 0
    assert (x.grad == 0).all()
    assert (y.grad == 0).all()


def test_a_negative_self_hsic_is_flagged():
    """Rows that are each alone in their direction have no similarity but with themselves, which debiasing takes off."""
    x = torch.eye(4).requires_grad_()
    inputs = LossInputs(scene=x, query=rows(4, 4).float(), logit_scale=1.0)
    loss, report = cka_loss(inputs, debiased=True)
    loss.backward()
    assert report["flagged"] == 1
    assert (x.grad == 0).all()
    assert cka_loss(inputs, debiased=False)[1]["flagged"] == 0


def test_more_than_half_of_the_distances_zero_has_no_width():
    x = rows(8, 3)[[0] * 7 + [1]]
    assert cka_loss(LossInputs(scene=x, query=rows(8, 3), logit_scale=1.0), kernel="rbf")[1]["flagged"] == 1


def test_a_narrow_cone_keeps_its_digits():
    """Embeddings that differ in the sixth digit, in float32."""
    x, y = 0.5 + 1e-6 * rows(16, 4).float(), rows(16, 4, seed=1).float()
    for options in FORMS:
        torch.testing.assert_close(cka(x, y, **options), cka(x.double() - 0.5, y, **options).float())


def test_not_a_number_stays_one():
    x = rows(8, 3)
    x[0, 0] = torch.nan
    assert all(cka(x, rows(8, 3), **options).isnan() for options in FORMS)


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_autocast_changes_nothing(options):
    x, y = (rows(16, 8, seed=seed).float() for seed in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = cka(x, y, **options)
    assert value.dtype == torch.float32
    assert value == cka(x, y, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"debiased": True}, "at least 4 rows in the global batch, got 3"),
        ({"sigma": 0.0}, "a positive sigma"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        cka(rows(3, 2), rows(3, 2), **options)

"""Spectra of embeddings with a structure that is known."""

import math

import pytest
import torch
import torch.nn.functional as F

from dualenc.metrics import spectra, spectrum_report


def planted(singular: list[float], n: int = 64, dim: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Centred rows (not unit ones) whose cross-covariance X^T Y / n has just these singular values."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(n, dim + 1, generator=generator, dtype=torch.float64))[0]
    basis = basis - basis.mean(0)
    left = torch.linalg.qr(basis)[0][:, : len(singular)] * n**0.5
    turns = [torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0] for _ in range(2)]
    x = left @ turns[0][: len(singular)]
    y = (left * torch.tensor(singular, dtype=torch.float64)) @ turns[1][: len(singular)]
    return x, y


def test_planted_values_are_found_and_summarised() -> None:
    x, y = planted([4.0, 2.0, 1.0, 1.0])
    values = spectra(x + 3, y - 1)  # a shift is centred away
    torch.testing.assert_close(values["cross"][:4], torch.tensor([4.0, 2.0, 1.0, 1.0], dtype=torch.float64))
    report = spectrum_report(values, k=2)
    p = torch.tensor([0.5, 0.25, 0.125, 0.125])
    assert report["effective_rank"] == pytest.approx(float((-(p * p.log()).sum()).exp()), rel=1e-5)
    assert report["stable_rank"] == pytest.approx(22 / 16)
    assert report["top_energy"] == pytest.approx(20 / 22)
    assert report["gap"] == pytest.approx(1 / 4)
    assert report["scene_variance"] == pytest.approx(4.0)  # four directions of variance 1
    assert report["scene_effective_rank"] == pytest.approx(4.0, rel=1e-4)


def test_a_collapsed_tower_is_flagged_and_an_even_one_is_not() -> None:
    generator = torch.Generator().manual_seed(1)
    point = F.normalize(torch.ones(1, 6), dim=1)
    near = F.normalize(point + 1e-3 * torch.randn(50, 6, generator=generator), dim=1)
    spread = F.normalize(torch.randn(50, 6, generator=generator), dim=1)
    report = spectrum_report(spectra(near, spread))
    assert (report["scene_collapsed"], report["query_collapsed"]) == (1.0, 0.0)
    assert report["query_variance"] == pytest.approx(1 - float(spread.mean(0).square().sum()), rel=1e-5)
    still = spectrum_report(spectra(point.expand(50, 6), spread))
    assert still["scene_collapsed"] == 1.0
    assert all(math.isfinite(value) for value in still.values())


def test_fewer_directions_than_asked_for() -> None:
    x, y = planted([2.0], dim=2)
    assert spectrum_report(spectra(x, y), k=3)["top_energy"] == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_cannot_be_measured_is_refused(bad: float) -> None:
    x = torch.ones(4, 3)
    with pytest.raises(ValueError, match="NaN or Inf"):
        spectra(x, x.clone().fill_(bad))
    with pytest.raises(ValueError, match="two rows"):
        spectra(x[:1], x[:1])

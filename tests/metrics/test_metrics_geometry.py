"""Geometry of embeddings, by hand and against plain double loops."""

import math

import pytest
import torch
import torch.nn.functional as F

from dualenc.metrics import BIN_EDGES, HISTOGRAMS, cosine_histograms, geometry_report


def unit(n: int, seed: int, dim: int = 5) -> torch.Tensor:
    return F.normalize(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_numbers_against_double_loops() -> None:
    x, y = unit(600, 0), unit(600, 1)  # more rows than are handled at once
    report = geometry_report(x, y)
    assert report["modality_gap"] == pytest.approx(float((x.mean(0) - y.mean(0)).norm()), rel=1e-5)
    assert report["alignment"] == pytest.approx(sum(float((a - b) @ (a - b)) for a, b in zip(x, y)) / 600, rel=1e-5)
    for name, rows in (("scene", x), ("query", y)):
        squared = torch.pdist(rows.double()).square()
        assert report[f"{name}_uniformity"] == pytest.approx(math.log((-2 * squared).exp().mean()), rel=1e-6)


def test_one_point_is_perfectly_aligned_and_not_at_all_uniform() -> None:
    point = F.normalize(torch.ones(7, 4), dim=1)
    report = geometry_report(point, point)
    assert report["alignment"] == pytest.approx(0, abs=1e-12)
    assert report["modality_gap"] == pytest.approx(0, abs=1e-6)
    assert report["scene_uniformity"] == pytest.approx(0, abs=1e-6)


def test_histograms_hold_every_pair_of_their_kind_once() -> None:
    x, y = unit(30, 2), unit(30, 3)
    generator = torch.Generator().manual_seed(4)
    true = torch.rand(30, 30, generator=generator) < 0.3
    neither = torch.rand(30, 30, generator=generator) < 0.2
    found = cosine_histograms(x, y, true, undecided=neither)
    assert tuple(found) == HISTOGRAMS
    expected: dict[str, list[float]] = {kind: [] for kind in HISTOGRAMS}
    for i in range(30):
        for j in range(30):
            if not neither[i, j]:
                expected["true" if true[i, j] else "false"].append(float(x[i].double() @ y[j].double()))
            if i < j:
                expected["scenes"].append(float(x[i].double() @ x[j].double()))
                expected["queries"].append(float(y[i].double() @ y[j].double()))
    for kind, cosines in expected.items():
        counts = torch.histogram(torch.tensor(cosines, dtype=torch.float64), BIN_EDGES).hist
        torch.testing.assert_close(found[kind], counts / len(cosines))
        assert float(found[kind].sum()) == pytest.approx(1)
    empty = cosine_histograms(x, y, torch.zeros_like(true))
    assert float(empty["true"].sum()) == 0


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN or Inf"):
        geometry_report(unit(3, 0), unit(3, 0) * math.nan)
    with pytest.raises(ValueError, match="two rows"):
        geometry_report(unit(1, 0), unit(1, 0))

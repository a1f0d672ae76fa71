"""The sigmoid contrastive loss in one process: definition, values by hand, derivatives, precision, report."""

import math

import pytest
import torch
import torch.nn.functional as F

from dualenc.losses import LossInputs, sigmoid_contrastive, total_loss


def embeddings(*counts: int, dim: int = 6, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [F.normalize(torch.randn(n, dim, generator=generator, dtype=dtype), dim=-1) for n in counts]


def algorithm_1(scene: torch.Tensor, query: torch.Tensor, t: float, b: float) -> torch.Tensor:
    """The pseudocode of Zhai et al. (2023), with embeddings that are normalised already."""
    logits = scene @ query.T * t + b
    labels = 2 * torch.eye(len(scene)) - torch.ones(len(scene))
    return -F.logsigmoid(labels * logits).sum() / len(scene)


def test_diagonal_is_the_published_pseudocode():
    scene, query = embeddings(7, 7)
    loss = sigmoid_contrastive(scene, query, logit_scale=10.0, logit_bias=-10.0)
    torch.testing.assert_close(loss, algorithm_1(scene, query, 10.0, -10.0))


@pytest.mark.parametrize(
    ("scale", "bias", "expected"),
    [
        (0.0, 0.0, 4 * math.log(2)),  # every pair is a coin toss
        (10.0, -10.0, math.log(2) + 3 * math.log1p(math.exp(-10))),  # orthogonal scenes at the published start
        (30.0, -10.0, math.log1p(math.exp(-20)) + 3 * math.log1p(math.exp(-10))),
    ],
)
def test_values_by_hand(scale, bias, expected):
    rows = torch.eye(4, dtype=torch.float64)
    loss = sigmoid_contrastive(rows, rows, logit_scale=scale, logit_bias=bias)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_extra_columns_and_undecided_pairs():
    """Pairs of an extra column count like others; undecided ones do not; the scenes stay the divisor."""
    scene, query, extra = embeddings(3, 3, 2)
    extra_targets, undecided, extra_undecided = (
        torch.zeros(3, 2).bool(),
        torch.zeros(3, 3).bool(),
        torch.zeros(3, 2).bool(),
    )
    extra_targets[2, 1] = undecided[0, 0] = undecided[0, 1] = extra_undecided[1, 0] = True
    loss = sigmoid_contrastive(
        scene,
        query,
        logit_scale=5.0,
        logit_bias=-1.0,
        extra=extra,
        extra_targets=extra_targets,
        undecided=undecided,
        extra_undecided=extra_undecided,
    )
    expected = 0.0
    for i in range(3):
        for j in range(5):
            if (i, j) not in ((0, 0), (0, 1), (1, 3)):
                logit = (5 * scene[i] @ torch.cat([query, extra])[j] - 1).item()
                expected += math.log1p(math.exp(-logit if i == j or (i, j) == (2, 4) else logit)) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_the_report_adds_up_to_the_loss():
    scene, query = embeddings(4, 4)
    inputs = LossInputs(scene=scene, query=query, logit_scale=10.0, logit_bias=-10.0)
    total, report = total_loss(inputs, {"siglip": (2.0, {})})
    torch.testing.assert_close(total, 2 * report["siglip"])
    torch.testing.assert_close(report["siglip/true"] + report["siglip/false"], report["siglip"])
    true = -F.logsigmoid(10 * (scene * query).sum(1) - 10).mean()
    torch.testing.assert_close(report["siglip/true"], true)


def test_without_edits_extra_columns_are_left_out():
    scene, query, extra = embeddings(4, 4, 3)
    inputs = LossInputs(scene=scene, query=query, logit_scale=10.0, logit_bias=-1.0, extra=extra)
    total, _ = total_loss(inputs, {"siglip": (1.0, {"edits": False})})
    torch.testing.assert_close(total, sigmoid_contrastive(scene, query, logit_scale=10.0, logit_bias=-1.0))


def test_targets_of_the_wrong_shape_are_refused():
    scene, query = embeddings(4, 4)
    with pytest.raises(ValueError, match=r"targets \[4, 4\]"):
        sigmoid_contrastive(scene, query, logit_scale=10.0, logit_bias=0.0, targets=torch.ones(4, 5).bool())

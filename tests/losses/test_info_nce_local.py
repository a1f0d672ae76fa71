"""InfoNCE in one process: definition, precision, derivatives, refusals, and the registry of losses."""

import math

import pytest
import torch
import torch.nn.functional as F

from dualenc.losses import LOSSES, LossInputs, info_nce, total_loss


def embeddings(*counts: int, dim: int = 6, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [F.normalize(torch.randn(n, dim, generator=generator, dtype=dtype), dim=-1) for n in counts]


def test_diagonal_is_clip():
    scene, query = embeddings(7, 7)
    logits = 10 * scene @ query.T
    labels = torch.arange(7)
    clip = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    torch.testing.assert_close(info_nce(scene, query, logit_scale=10.0), clip)


def test_extra_columns_are_negatives_of_rows_only():
    scene, query, extra = embeddings(5, 5, 3)
    labels = torch.arange(5)
    logits = 10 * scene @ query.T
    to_query = F.cross_entropy(10 * scene @ torch.cat([query, extra]).T, labels)
    expected = (to_query + F.cross_entropy(logits.T, labels)) / 2
    torch.testing.assert_close(info_nce(scene, query, logit_scale=10.0, extra=extra), expected)


def test_identical_scenes_are_not_pushed_apart():
    """Truth targets have their minimum, the targets' own entropy, where identical scenes share one embedding."""
    scene = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    query = scene.clone().requires_grad_()
    loss = info_nce(scene, query, logit_scale=100.0, targets=scene @ scene.T > 0.5)
    loss.backward()
    torch.testing.assert_close(loss.item(), 2 / 3 * math.log(2))
    torch.testing.assert_close(query.grad, torch.zeros_like(query), atol=1e-9, rtol=0)


def test_gradcheck():
    scene, query, extra = embeddings(4, 4, 3, dim=3, dtype=torch.float64)
    targets = torch.eye(4, dtype=torch.bool)
    targets[0, 2] = targets[2, 0] = True
    targets[1] = False
    extra_targets = torch.zeros(4, 3, dtype=torch.bool)
    extra_targets[3, 1] = True
    scale = torch.tensor(5.0, dtype=torch.float64)

    def loss(scene, query, extra, scale):
        return info_nce(scene, query, logit_scale=scale, targets=targets, extra=extra, extra_targets=extra_targets)

    assert torch.autograd.gradcheck(loss, [x.requires_grad_() for x in (scene, query, extra, scale)])


def test_float32_inside_autocast():
    scene, query, extra = embeddings(8, 8, 2)
    expected = info_nce(scene, query, logit_scale=100.0, extra=extra)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = info_nce(scene, query, logit_scale=100.0, extra=extra)
    assert loss.dtype == torch.float32
    assert loss == expected
    halves = [x.bfloat16() for x in (scene, query)]
    rounded = info_nce(*halves, logit_scale=100.0)
    assert rounded == info_nce(*(x.float() for x in halves), logit_scale=100.0)


def test_a_single_row_has_nothing_to_contrast():
    scene, query = (x.requires_grad_() for x in embeddings(1, 1))
    loss = info_nce(scene, query, logit_scale=10.0)
    loss.backward()
    assert loss == 0
    assert (scene.grad == 0).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"targets": torch.ones(4, 5).bool()},
        {"extra_targets": torch.ones(4, 2).bool()},
        {"undecided": torch.ones(3, 4).bool()},
        {"extra_undecided": torch.ones(4, 2).bool()},
    ],
)
def test_targets_of_the_wrong_shape_are_refused(wrong):
    scene, query, extra = embeddings(4, 4, 3)
    with pytest.raises(ValueError, match=r"targets \[4, 4\] and extra_targets \[4, 3\]"):
        info_nce(scene, query, logit_scale=10.0, extra=extra, **wrong)


def test_total_is_the_weighted_sum_of_named_losses(monkeypatch):
    scene, query = embeddings(4, 4)
    inputs = LossInputs(scene=scene, query=query, logit_scale=10.0)
    monkeypatch.setitem(LOSSES, "drift", lambda x: (x.scene.mean(), {"norm": x.scene.norm()}))
    total, report = total_loss(inputs, {"infonce": (2.0, {}), "drift": (-0.5, {})})
    value = info_nce(scene, query, logit_scale=10.0)
    torch.testing.assert_close(total, 2 * value - 0.5 * scene.mean())
    assert report["infonce"] == value
    assert report["drift/norm"] == scene.norm()
    both = report["infonce/scene_to_query"] + report["infonce/query_to_scene"]
    torch.testing.assert_close(both / 2, value)


@pytest.mark.parametrize("weights", [{}, {"infonse": 1.0}])
def test_unknown_losses_are_refused(weights):
    scene, query = embeddings(4, 4)
    with pytest.raises(ValueError, match="infonce"):
        total_loss(LossInputs(scene=scene, query=query, logit_scale=10.0), weights)

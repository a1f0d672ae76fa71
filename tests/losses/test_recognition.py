"""Recognition over real gloo processes under DDP, against one process that loops over scenes."""

import pytest
import torch
from asked import ROWS, Batch, Case, distributed, distributed_broken, reference
from gloo import DTYPES, WORLD_SIZES, check
from torch import Tensor
from torch.autograd import gradcheck

from dualenc.losses import LossInputs
from dualenc.losses.recognition import recognition_loss


def nothing_true(batch: Batch) -> None:
    batch.concept_true[:] = False
    batch.object_true[:] = False


def no_scene_of_rank_0_counts(batch: Batch) -> None:
    batch.object_true[:ROWS] = True


CASES = {
    "pools": Case("recognition"),
    "judges": Case("recognition", judges=True),
    "blocks": Case("recognition", judges=True, block=2),
    "a_rank_without_terms": Case("recognition", change=no_scene_of_rank_0_counts),
    "nothing_true": Case("recognition", change=nothing_true),
}


def naive(
    batch: Batch, scene: Tensor, query: Tensor, extra: Tensor, concepts: Tensor, objects: Tensor, scale: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    terms = {
        "concepts": cross_entropy(scale * scene @ concepts.T, batch.concept_true),
        "objects": cross_entropy(scale * scene @ objects.T, batch.object_true),
    }
    return (terms["concepts"] + terms["objects"]) / 2, terms


def cross_entropy(logits: Tensor, true: Tensor) -> Tensor:
    terms = [-row.log_softmax(0)[t].mean() for row, t in zip(logits, true) if t.any() and not t.all()]
    return torch.stack(terms).mean() if terms else 0 * logits.sum()


@pytest.mark.parametrize("world", WORLD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_equals_one_process_on_the_global_batch(workers, name, dtype, world):
    expected = reference(CASES[name], world, dtype, naive)
    for rank in workers.run(distributed, CASES[name], dtype, world=world):
        check(rank, expected)
        if name == "nothing_true":
            assert all((value == 0).all() for value in rank.values())


@pytest.mark.parametrize("collective", ["_AllReduceSum", "_Gather"])
def test_a_missing_factor_of_world_size_is_noticed(workers, collective):
    expected = reference(CASES["pools"], 2, torch.float64, naive)
    [rank, _] = workers.run(distributed_broken, CASES["pools"], torch.float64, collective, world=2)
    with pytest.raises(AssertionError):
        check(rank, expected)


def unit_rows(count: int) -> Tensor:
    rows = torch.nn.functional.normalize(torch.randn(count, 5, dtype=torch.float64), dim=-1)
    return rows.requires_grad_()


@pytest.mark.parametrize("block", [1024, 2])
def test_gradients_by_finite_differences(block):
    torch.manual_seed(0)
    true = torch.rand(6, 4) < 0.5, torch.rand(6, 9) < 0.3
    arguments = unit_rows(6), unit_rows(4), unit_rows(9), torch.tensor(3.0, dtype=torch.float64, requires_grad=True)

    def loss(scene: Tensor, concepts: Tensor, objects: Tensor, scale: Tensor) -> Tensor:
        targets = {"concept_targets": true[0], "object_targets": true[1]}
        texts = {"query": scene, "concepts": concepts, "objects": objects}
        return recognition_loss(LossInputs(scene=scene, logit_scale=scale, block=block, **texts, **targets))[0]

    assert gradcheck(loss, arguments)


def test_what_is_missing_or_of_another_shape_is_refused():
    rows = unit_rows(3)
    with pytest.raises(ValueError, match="needs concepts and objects"):
        recognition_loss(LossInputs(scene=rows, query=rows, logit_scale=1.0))
    wrong = torch.ones(3, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"needs targets \[3, 3\]"):
        recognition_loss(LossInputs(scene=rows, query=rows, logit_scale=1.0, concepts=rows, concept_targets=wrong))

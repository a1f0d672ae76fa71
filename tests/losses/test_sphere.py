"""Alignment and uniformity over real gloo processes under DDP, against one process that loops over rows and pairs."""

from functools import partial
from itertools import combinations

import pytest
import torch
from asked import Batch, Case, distributed, distributed_broken, reference
from gloo import DTYPES, WORLD_SIZES, check
from torch import Tensor
from torch.autograd import gradcheck

from dualenc.losses import LossInputs
from dualenc.losses.sphere import alignment_loss, uniformity_loss
from dualenc.metrics.geometry import geometry_report


def duplicates(batch: Batch) -> None:
    batch.scenes[1], batch.queries[-1] = batch.scenes[0], batch.queries[0]


CASES = {
    "alignment": Case("alignment"),
    "alignment, power 1": Case("alignment", (("power", 1.0),)),
    "uniformity": Case("uniformity"),
    "uniformity, duplicates": Case("uniformity", change=duplicates),
    "uniformity, sharp, in blocks": Case("uniformity", (("t", 4.0),), block=4),
}


def naive(case: Case, batch: Batch, scene: Tensor, query: Tensor, *_: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    options = dict(case.options)
    if case.loss == "alignment":
        terms = [(x - y).norm() ** options.get("power", 2.0) for x, y in zip(scene, query)]
        return torch.stack(terms).mean(), {}
    towers = {"scene": scene, "query": query}
    parts = {
        name: torch.stack([(-options.get("t", 2.0) * (x - y).square().sum()).exp() for x, y in combinations(rows, 2)])
        .mean()
        .log()
        for name, rows in towers.items()
    }
    return (parts["scene"] + parts["query"]) / 2, parts


@pytest.mark.parametrize("world", WORLD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_equals_one_process_on_the_global_batch(workers, name, dtype, world):
    expected = reference(CASES[name], world, dtype, partial(naive, CASES[name]))
    for rank in workers.run(distributed, CASES[name], dtype, world=world):
        check(rank, expected)


@pytest.mark.parametrize(
    ("name", "collective"), [("alignment", "_AllReduceSum"), ("uniformity", "_AllReduceSum"), ("uniformity", "_Gather")]
)
def test_a_missing_factor_of_world_size_is_noticed(workers, name, collective):
    expected = reference(CASES[name], 2, torch.float64, partial(naive, CASES[name]))
    [rank, _] = workers.run(distributed_broken, CASES[name], torch.float64, collective, world=2)
    with pytest.raises(AssertionError):
        check(rank, expected)


def unit_rows() -> Tensor:
    return torch.nn.functional.normalize(torch.randn(7, 5, dtype=torch.float64), dim=-1).requires_grad_()


@pytest.mark.parametrize("block", [1024, 3])
@pytest.mark.parametrize("loss", [alignment_loss, uniformity_loss])
def test_gradients_by_finite_differences(loss, block):
    torch.manual_seed(0)

    def value(scene: Tensor, query: Tensor) -> Tensor:
        return loss(LossInputs(scene=scene, query=query, logit_scale=1.0, block=block))[0]

    assert gradcheck(value, (unit_rows(), unit_rows()))


def test_the_metrics_are_the_same_numbers():
    torch.manual_seed(0)
    scene, query = unit_rows().detach(), unit_rows().detach()
    inputs, numbers = LossInputs(scene=scene, query=query, logit_scale=1.0), geometry_report(scene, query)
    assert float(alignment_loss(inputs)[0]) == pytest.approx(numbers["alignment"], rel=1e-12)
    _, report = uniformity_loss(inputs)
    assert float(report["scene"]) == pytest.approx(numbers["scene_uniformity"], rel=1e-12)
    assert float(report["query"]) == pytest.approx(numbers["query_uniformity"], rel=1e-12)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.0])
def test_pairs_at_one_point_have_no_gradient(power):
    scene = unit_rows()
    query = scene.detach().clone().requires_grad_()
    loss, _ = alignment_loss(LossInputs(scene=scene, query=query, logit_scale=1.0), power=power)
    loss.backward()
    assert loss < 1e-9
    assert (scene.grad == 0).all()


def test_uniformity_of_far_points_does_not_underflow():
    rows = torch.eye(4)
    loss, _ = uniformity_loss(LossInputs(scene=rows, query=rows, logit_scale=1.0), t=100.0)
    torch.testing.assert_close(loss, torch.tensor(-200.0))  # exp(-200) is 0 in float32


def test_one_row_has_no_pair():
    row = torch.eye(2)[:1]
    with pytest.raises(ValueError, match="at least two rows"):
        uniformity_loss(LossInputs(scene=row, query=row, logit_scale=1.0))

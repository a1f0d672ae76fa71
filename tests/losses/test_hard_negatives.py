"""Hard negatives over real gloo processes under DDP, against one process that loops over scenes and their texts."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from asked import Batch, Case, distributed, distributed_broken, reference
from gloo import DTYPES, WORLD_SIZES, check
from torch import Tensor
from torch.autograd import gradcheck

from dualenc.losses import LossInputs, info_nce
from dualenc.losses.hard_negatives import hard_negatives_loss

CROSS_ENTROPY, MARGIN = (("form", "cross_entropy"),), (("form", "margin"), ("margin", 0.7))


def nothing_false(batch: Batch) -> None:
    batch.true[:] = True


def only_negatives(batch: Batch) -> None:
    batch.true[:], batch.undecided[:] = False, False


CASES = {
    "cross_entropy": Case("hard_negatives", CROSS_ENTROPY),
    "margin": Case("hard_negatives", MARGIN),
    "cross_entropy, judges": Case("hard_negatives", CROSS_ENTROPY, judges=True),
    "margin, only negatives": Case("hard_negatives", MARGIN, change=only_negatives),
    "cross_entropy, only negatives": Case("hard_negatives", CROSS_ENTROPY, change=only_negatives),
    "cross_entropy, nothing false": Case("hard_negatives", CROSS_ENTROPY, change=nothing_false),
    "margin, nothing false": Case("hard_negatives", MARGIN, change=nothing_false),
}


def naive(
    case: Case,
    batch: Batch,
    scene: Tensor,
    query: Tensor,
    extra: Tensor,
    concepts: Tensor,
    objects: Tensor,
    scale: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    options, terms, correct = dict(case.options), [], []
    for i in range(len(scene)):
        own = [j for j in range(len(extra)) if batch.owner[j] == i and not batch.undecided[i, j]]
        true = [scene[i] @ query[i]] + [scene[i] @ extra[j] for j in own if batch.true[i, j]]
        false = [scene[i] @ extra[j] for j in own if not batch.true[i, j]]
        if not false:
            continue
        correct.append(float(min(true) > max(false)))
        if options["form"] == "margin":
            hinges = [(options["margin"] - min(true) + cosine).relu() for cosine in false]
            terms.append(torch.stack(hinges).mean())
        else:
            terms.append(-(scale * torch.stack(true + false)).log_softmax(0)[: len(true)].mean())
    if not terms:
        return 0 * scene.sum(), {"correct": scene.new_zeros(())}
    return torch.stack(terms).mean(), {"correct": scene.new_tensor(correct).mean()}


@pytest.mark.parametrize("world", WORLD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_equals_one_process_on_the_global_batch(workers, name, dtype, world):
    case = CASES[name]
    expected = reference(case, world, dtype, partial(naive, case))
    for rank in workers.run(distributed, case, dtype, world=world):
        check(rank, expected)
        if name.endswith("nothing false"):
            assert all((value == 0).all() for value in rank.values())


@pytest.mark.parametrize("form", ["cross_entropy", "margin"])
def test_a_missing_factor_of_world_size_is_noticed(workers, form):
    case = CASES[form]
    expected = reference(case, 2, torch.float64, partial(naive, case))
    [rank, _] = workers.run(distributed_broken, case, torch.float64, "_AllReduceSum", world=2)
    with pytest.raises(AssertionError):
        check(rank, expected)


def local_inputs(scene: Tensor, query: Tensor, extra: Tensor, scale: Tensor) -> LossInputs:
    true = torch.tensor([[1, 0, 0, 0, 1], [0, 0, 0, 1, 0], [0, 1, 0, 0, 0], [1, 0, 0, 1, 0]], dtype=torch.bool)
    owner = torch.tensor([3, 0, 3, 3, 2])
    return LossInputs(scene=scene, query=query, logit_scale=scale, extra=extra, extra_targets=true, extra_owner=owner)


def arguments() -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    rows = [torch.nn.functional.normalize(torch.randn(n, 5, dtype=torch.float64), dim=-1) for n in (4, 4, 5)]
    return tuple(x.requires_grad_() for x in (*rows, torch.tensor(3.0, dtype=torch.float64)))


@pytest.mark.parametrize("form", ["columns", "cross_entropy", "margin"])
def test_gradients_by_finite_differences(form):
    assert gradcheck(lambda *x: hard_negatives_loss(local_inputs(*x), form=form, margin=0.7)[0], arguments())


def test_columns_are_those_of_info_nce_where_a_text_true_of_another_scene_is_a_positive():
    inputs = local_inputs(*arguments())
    loss, report = hard_negatives_loss(inputs, form="columns")
    given = {"extra": inputs.extra, "extra_targets": inputs.extra_targets}
    assert torch.equal(loss, info_nce(inputs.scene, inputs.query, logit_scale=inputs.logit_scale, **given))
    assert set(report) == {"scene_to_query", "query_to_scene"}


def test_the_margin_form_costs_nothing_only_where_every_true_text_leads_by_the_margin():
    scene, other = torch.eye(3)[:1], torch.eye(3)[1:2]

    def loss(true: float, paraphrase: float, false: float) -> Tensor:
        texts = [cosine * scene + (1 - cosine**2) ** 0.5 * other for cosine in (true, paraphrase, false)]
        inputs = LossInputs(
            scene=scene,
            query=texts[0],
            logit_scale=10.0,
            extra=torch.cat(texts[1:]),
            extra_owner=torch.tensor([0, 0]),
            extra_targets=torch.tensor([[True, False]]),
        )
        return hard_negatives_loss(inputs, form="margin", margin=0.2)[0]

    assert loss(0.9, 0.8, 0.5) == 0
    torch.testing.assert_close(loss(0.9, 0.6, 0.5), torch.tensor(0.1))
    torch.testing.assert_close(loss(0.6, 0.9, 0.5), torch.tensor(0.1))


@pytest.mark.parametrize("form", ["cross_entropy", "margin"])
def test_a_query_of_another_kind_than_the_edits_is_no_text_of_its_scene(form):
    scene, query, extra, scale = arguments()
    inputs = replace(local_inputs(scene, query, extra, scale), edited_kind=torch.tensor([True, True, True, False]))
    loss, report = hard_negatives_loss(inputs, form=form)
    loss.backward()
    assert torch.all(query.grad[3] == 0)
    assert torch.any(scene.grad[3] != 0)  # scene 3 has a paraphrase beside its edits; scene 0 has edits alone
    without = replace(inputs, edited_kind=torch.tensor([False, True, True, False]))
    loss, report = hard_negatives_loss(without, form=form)
    alone = hard_negatives_loss(
        replace(
            inputs,
            scene=scene[3:],
            query=extra[[3]],  # one of its two paraphrases
            extra=extra[[0, 2]],
            extra_targets=torch.tensor([[True, False]]),
            extra_owner=torch.tensor([0, 0]),
            edited_kind=None,
        ),
        form=form,
    )
    num_counted = 2  # scenes 2 and 3: no other has a true text and a false one
    of_scene_2 = hard_negatives_loss(
        replace(
            inputs,
            scene=scene[2:3],
            query=query[2:3],
            extra=extra[[4]],
            extra_targets=torch.zeros(1, 1, dtype=torch.bool),
            extra_owner=torch.tensor([0]),
            edited_kind=None,
        ),
        form=form,
    )
    torch.testing.assert_close(loss, (alone[0] + of_scene_2[0]) / num_counted)
    torch.testing.assert_close(report["correct"], (alone[1]["correct"] + of_scene_2[1]["correct"]) / num_counted)


def test_extra_texts_need_owners():
    rows = torch.eye(3)
    with pytest.raises(ValueError, match="extra_owner"):
        hard_negatives_loss(LossInputs(scene=rows, query=rows, logit_scale=1.0, extra=rows))
    without = LossInputs(scene=rows, query=rows, logit_scale=1.0)
    assert hard_negatives_loss(without)[0] == 0

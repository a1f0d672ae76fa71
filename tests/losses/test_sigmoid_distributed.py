"""The sigmoid contrastive loss over real gloo processes under DDP, against one process that writes out all pairs."""

import pytest
import torch
from gloo import WORLD_SIZES, check
from pair_cases import CASES, FORMS, all_forms, distributed, reference
from torch import Tensor

from dualenc.losses import collectives


def textbook(cosines: Tensor, scale: Tensor, bias: Tensor, true: Tensor, kept: Tensor) -> Tensor:
    """In float64 of cosines as they are: where the pairs are many, float32 would miss the tolerances itself."""
    logits = scale.double() * cosines.double() + bias.double()
    losses = -torch.where(true, logits, -logits).sigmoid().log()
    return (losses[kept].sum() / len(cosines)).to(cosines.dtype)


@pytest.mark.parametrize("world", WORLD_SIZES)
@pytest.mark.parametrize("case", CASES)
def test_equals_one_process_on_the_global_batch(workers, case, world):
    for rank in workers.run(all_forms, "siglip", case, world=world):
        for form, actual in rank.items():
            check(actual, reference(textbook, case, world, FORMS[form][0]))


@pytest.mark.parametrize("world", WORLD_SIZES)
@pytest.mark.parametrize("function", [collectives._AllReduceSum, collectives._Gather])
def test_a_missing_factor_of_world_size_is_noticed(workers, function, world):
    expected = reference(textbook, "everything", world, torch.float64)
    ranks = workers.run(distributed, "siglip", "everything", "whole", function, world=world)
    if world == 1:
        check(ranks[0], expected)
    else:
        with pytest.raises(AssertionError):
            check(ranks[0], expected)

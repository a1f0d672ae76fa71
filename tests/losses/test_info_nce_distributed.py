"""InfoNCE over real gloo processes under DDP, against one process that loops over the rows of the global batch."""

import contextlib

import pytest
import torch
import torch.distributed as dist
from gloo import WORLD_SIZES, check
from pair_cases import CASES, EXTRA, FORMS, ROWS, all_forms, distributed, reference
from torch import Tensor

from dualenc.losses import collectives, contrastive, info_nce

WITHOUT_TERMS = ("nothing_true", "everything_true", "undecided_everywhere")


def textbook(cosines: Tensor, scale: Tensor, bias: Tensor, true: Tensor, kept: Tensor) -> Tensor:
    logits = scale * cosines
    return (direction(logits, true, kept) + direction(logits.T, true.T, kept.T)) / 2 + 0 * bias


def direction(logits: Tensor, true: Tensor, kept: Tensor) -> Tensor:
    rows = [(row[k], t[k]) for row, t, k in zip(logits, true, kept)]
    terms = [-row.log_softmax(0)[t].mean() for row, t in rows if t.any() and not t.all()]
    return torch.stack(terms).mean() if terms else 0 * logits.sum()


@contextlib.contextmanager
def largest_message(sizes: list[int]):
    """Records how many elements each collective of the loss leaves on a rank."""
    reduce, collect = dist.all_reduce, collectives._all_gather

    def all_reduce(x, *, op, group):
        sizes.append(x.numel())
        return reduce(x, op=op, group=group)

    def all_gather(out, x, *, group):
        sizes.append(out.numel())
        return collect(out, x, group=group)

    dist.all_reduce, collectives._all_gather = all_reduce, all_gather
    try:
        yield
    finally:
        dist.all_reduce, collectives._all_gather = reduce, collect


def sizes_of_messages(group: dist.ProcessGroup | None) -> list[int]:
    sizes: list[int] = [0]
    with largest_message(sizes):
        distributed(group, "infonce", "everything", "blocks, of judges")
    return sizes


def refuses_unequal_rows(group: dist.ProcessGroup | None) -> bool:
    rows = torch.eye(4)[: 2 + dist.get_rank(group) % 2]
    try:
        info_nce(rows, rows, logit_scale=10.0, group=group)
    except ValueError as error:
        return "same number of rows on every rank, got [2, 3" in str(error)
    return False


@pytest.mark.parametrize("world", WORLD_SIZES)
@pytest.mark.parametrize("case", CASES)
def test_equals_one_process_on_the_global_batch(workers, case, world):
    for rank in workers.run(all_forms, "infonce", case, world=world):
        for form, actual in rank.items():
            check(actual, reference(textbook, case, world, FORMS[form][0]))
            if case in WITHOUT_TERMS:  # nothing to learn is zero, not NaN
                assert all((value == 0).all() for value in actual.values())


@pytest.mark.parametrize("world", WORLD_SIZES)
@pytest.mark.parametrize("function", [contrastive._CrossEntropies, collectives._Gather])
def test_a_missing_factor_of_world_size_is_noticed(workers, function, world):
    expected = reference(textbook, "everything", world, torch.float64)
    ranks = workers.run(distributed, "infonce", "everything", "whole", function, world=world)
    if world == 1:
        check(ranks[0], expected)
    else:
        with pytest.raises(AssertionError):
            check(ranks[0], expected)


@pytest.mark.parametrize("world", WORLD_SIZES)
def test_nothing_of_the_size_of_all_pairs_is_exchanged(workers, world):
    num_rows, num_extra = ROWS * world, max(EXTRA[:world])
    num_columns = num_rows + sum(EXTRA[:world])
    largest = max(max(sizes) for sizes in workers.run(sizes_of_messages, world=world))
    expected = max((num_rows + num_extra * world) * 6, 4 * num_columns + 2)
    assert largest == (0 if world == 1 else expected)
    assert expected < num_rows**2 or world == 1


@pytest.mark.parametrize("world", WORLD_SIZES)
def test_unequal_rows_are_refused_on_every_rank(workers, world):
    assert workers.run(refuses_unequal_rows, world=world) == [world > 1] * world

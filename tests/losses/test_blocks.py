"""Losses of all pairs in blocks: derivatives at any size of a block, judges, precision, compiled blocks, and memory."""

import itertools
import shutil

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from embeddings import peak_bytes
from torch import Tensor

from dualenc.losses import LossInputs, total_loss

LOSSES = ("infonce", "siglip")


def rows(*counts: int, dim: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    embeddings = [F.normalize(torch.randn(n, dim, generator=generator, dtype=dtype), dim=-1) for n in counts]
    return [*embeddings, torch.tensor(5.0, dtype=dtype), torch.tensor(-1.0, dtype=dtype)]


def loss_of(name: str, leaves: list[Tensor], **options) -> Tensor:
    scene, query, extra, scale, bias = leaves
    inputs = LossInputs(scene=scene, query=query, extra=extra, logit_scale=scale, logit_bias=bias, **options)
    return total_loss(inputs, {name: (1.0, {})})[0]


def loss_and_gradients(name: str, leaves: list[Tensor], **options) -> list[Tensor]:
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    loss = loss_of(name, leaves, **options)
    loss.backward()
    return [loss.detach(), *(leaf.grad for leaf in leaves)]


def some_pairs(num_rows: int, num_columns: int, share: float, seed: int) -> Tensor:
    return torch.rand(num_rows, num_columns, generator=torch.Generator().manual_seed(seed)) < share


@pytest.mark.parametrize(("name", "block"), [*itertools.product(LOSSES, (1, 3, 1024))])
def test_gradcheck(name, block):
    leaves = [leaf.requires_grad_() for leaf in rows(4, 4, 3, dim=2, dtype=torch.float64)]
    targets, undecided = some_pairs(4, 4, 0.3, 1) | torch.eye(4).bool(), some_pairs(4, 4, 0.2, 2)
    targets[1] = False
    pairs = {"targets": targets, "extra_targets": some_pairs(4, 3, 0.3, 3), "undecided": undecided}
    assert torch.autograd.gradcheck(lambda *leaves: loss_of(name, leaves, **pairs, block=block), leaves)


@pytest.mark.parametrize("name", LOSSES)
def test_judges_are_asked_for_blocks_only(name):
    leaves = rows(33, 33, 20, dim=6, dtype=torch.float64)
    pairs = {
        "targets": some_pairs(33, 33, 0.1, 1),
        "extra_targets": some_pairs(33, 20, 0.1, 2),
        "undecided": some_pairs(33, 33, 0.1, 3),
        "extra_undecided": some_pairs(33, 20, 0.1, 4),
    }
    asked = []

    def judge(name):
        def answer(rows, columns):
            asked.append((name, rows.stop - rows.start, columns.stop - columns.start))
            return pairs[name][rows, columns]

        return answer

    expected = loss_and_gradients(name, leaves, **pairs)
    actual = loss_and_gradients(name, leaves, **{name: judge(name) for name in pairs}, block=8)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)
    assert {name for name, _, _ in asked} == pairs.keys()
    assert max(height * width for _, height, width in asked) <= 8 * 8


def test_a_judge_of_the_wrong_shape_is_refused():
    leaves = rows(4, 4, 2, dim=6, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"must return bool \[4, 4\], got torch.bool \[4, 3\]"):
        loss_of("infonce", leaves, targets=lambda rows, columns: torch.ones(4, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"must return bool \[4, 4\], got torch.int64 \[4, 4\]"):
        loss_of("infonce", leaves, targets=lambda rows, columns: torch.ones(4, 4, dtype=torch.int64))


@pytest.mark.parametrize(("name", "block"), [*itertools.product(LOSSES, (5, 1024))])
def test_float32_inside_autocast_backwards_too(name, block):
    leaves = rows(8, 8, 2, dim=6, dtype=torch.float32)
    expected = loss_and_gradients(name, leaves, block=block)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = loss_and_gradients(name, leaves, block=block)
    for got, wanted in zip(actual, expected):
        assert got.dtype == torch.float32
        assert torch.equal(got, wanted)


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler")
@pytest.mark.parametrize("name", LOSSES)
def test_compiled_blocks_give_the_same(name):
    leaves = rows(40, 40, 9, dim=6, dtype=torch.float32)
    pairs = {"targets": some_pairs(40, 40, 0.1, 1), "undecided": some_pairs(40, 40, 0.1, 2), "block": 16}
    expected = loss_and_gradients(name, leaves, **pairs)
    for got, wanted in zip(loss_and_gradients(name, leaves, **pairs, compile=True), expected):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6 * wanted.abs().max().item())


def peak_memory(group: dist.ProcessGroup | None, name: str, num_rows: int) -> int:
    """Bytes that tensors hold at once, at most, in forward and backward beyond the embeddings."""
    leaves = rows(num_rows, num_rows, 0, dim=16, dtype=torch.float32)
    return peak_bytes(lambda: loss_and_gradients(name, leaves, group=group))


@pytest.mark.parametrize("name", LOSSES)
def test_memory_is_not_that_of_all_pairs(workers, name):
    (peak,) = workers.run(peak_memory, name, 8192, world=1)
    assert peak < 8192 * 8192 * 4 / 4  # a quarter of the logits alone

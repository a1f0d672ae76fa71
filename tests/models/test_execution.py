"""How a tower is computed changes nothing in what it computes: packing, attention, checkpointing, compilation."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dualenc.errors import InputError
from dualenc.models import CompiledEncoder, DualEncoder, TextTower, VisionTower, check_compiler
from dualenc.models.transformer import Block, attend_in_one_product

SMALL = {"width": 32, "depth": 2, "heads": 4, "output_dim": 16}


def make(depth: int = 2, dropout: float = 0.0) -> DualEncoder:
    torch.manual_seed(0)
    sizes = {**SMALL, "depth": depth, "dropout": dropout}
    return DualEncoder(VisionTower(image_size=16, patch_size=8, **sizes), TextTower(12, max_length=14, **sizes))


def captions(number: int, length: int) -> Tensor:
    tokens = torch.randint(1, 12, (number, length), generator=torch.Generator().manual_seed(0))
    tokens[::2, length - 3 :] = 0
    return tokens


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("readout", ["eos", "mean"])
def test_a_padded_batch_has_the_gradients_of_its_sequences_one_by_one(readout: str, causal: bool) -> None:
    torch.manual_seed(0)
    tower = TextTower(12, max_length=14, readout=readout, causal=causal, **SMALL).double()
    direction = torch.randn(6, 16, dtype=torch.float64)
    tokens = captions(6, 9)
    (tower(tokens) * direction).sum().backward()
    together = gradients(tower)
    for row, vector in zip(tokens, direction):
        (tower(row[row != 0][None]) * vector).sum().backward()
    alone = gradients(tower)
    assert together.keys() == alone.keys()
    for name in together:
        torch.testing.assert_close(together[name], alone[name], rtol=1e-9, atol=1e-12)


def test_linear_layers_see_no_padding() -> None:
    tower, rows = make().query_tower, []
    tower.transformer.blocks[0].mlp_in.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    tokens = captions(6, 9)
    tower(tokens)
    assert rows == [int((tokens != 0).sum())]


@pytest.mark.parametrize(("masked", "causal"), [(False, False), (True, False), (False, True)])
def test_attention_in_one_product_is_the_fused_one(masked: bool, causal: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(3, 2, 7, 4, dtype=torch.float64, generator=generator, requires_grad=True) for _ in range(3)]
    mask = (captions(3, 7) != 0)[:, None, None] if masked else None
    one = attend_in_one_product(*inputs, mask, causal)
    other = F.scaled_dot_product_attention(*inputs, attn_mask=mask, is_causal=causal)
    torch.testing.assert_close(one, other)
    direction = torch.randn(one.shape, dtype=torch.float64, generator=generator)
    found = torch.autograd.grad(one, inputs, direction), torch.autograd.grad(other, inputs, direction)
    torch.testing.assert_close(*found)


def test_checkpointing_computes_blocks_twice_and_gives_the_same_gradients() -> None:
    model = make(dropout=0.3)
    pictures, tokens = torch.rand(6, 16, 16, 3), captions(6, 9)
    passes = 0

    def count(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        nonlocal passes
        passes += 1

    for module in model.modules():
        if isinstance(module, Block):
            module.mlp_norm.register_forward_pre_hook(count)  # a last block that is only read is not called as a whole
    found = []
    for enabled in (False, True):
        model.set_activation_checkpointing(enabled)
        torch.manual_seed(1)
        passes = 0
        scene, query, scale = model(pictures, tokens)
        (scale * scene * query.flip(0)).sum().backward()
        assert passes == (8 if enabled else 4)
        found.append(gradients(model))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    with torch.no_grad():
        passes = 0
        model(pictures, tokens)
    assert passes == 4


def test_compiled_queries_have_the_embeddings_and_gradients_of_plain_ones() -> None:
    check_compiler()
    compiled_before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    plain = make(depth=1)
    model = copy.deepcopy(plain)
    encoder = CompiledEncoder(model)
    for number, length in ((6, 8), (5, 5)):  # one compilation serves both
        tokens = captions(number, length)
        expected, found = plain.encode_queries(tokens), encoder.encode_queries(tokens)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        for embeddings in (expected, found):
            embeddings[:, 0].sum().backward()
        wanted, got = gradients(plain), gradients(model)
        assert wanted.keys() == got.keys()
        for name, gradient in wanted.items():
            assert (got[name] - gradient).norm() <= 1e-5 * gradient.norm(), name
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled_before + 1
    assert list(model.state_dict()) == list(plain.state_dict())


def test_tokens_are_padded_to_multiples_of_eight_within_the_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda call: call)
    model = make()
    encoder, lengths = CompiledEncoder(model), []
    model.query_tower.register_forward_pre_hook(lambda module, args: lengths.append(args[0].shape[1]))
    for length in (5, 8, 9, 14):
        tokens = captions(4, length)
        torch.testing.assert_close(encoder.encode_queries(tokens), model.encode_queries(tokens), rtol=0, atol=1e-6)
    assert lengths[::2] == [8, 8, 14, 14]
    with pytest.raises(ValueError, match="15 tokens, but max_length is 14"):
        encoder.encode_queries(captions(4, 15))


def test_a_missing_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"^trainer.compile: no C\+\+ compiler .* set trainer.compile=false$"):
        check_compiler()

"""Towers: shapes, padding, readouts, pictures, refusals, initialisation."""

import math

import pytest
import torch
from torch import nn

from dualenc.models import ObjectTower, SymbolicTower, TextTower, TokenTower, Transformer, VisionTower

SMALL = {"width": 32, "depth": 2, "heads": 4, "output_dim": 16}
DEFAULT = {"width": 512, "depth": 6, "heads": 8, "output_dim": 512}
READOUTS = ("eos", "mean")


def token_tower(kind: type[TokenTower] = TextTower, **options) -> TokenTower:
    torch.manual_seed(0)
    return kind(20, **SMALL, max_length=12, **options)


def vision_tower(**options) -> VisionTower:
    torch.manual_seed(0)
    return VisionTower(**({"image_size": 32, "patch_size": 8} | SMALL | options))


def pictures(count: int, size: int = 32) -> torch.Tensor:
    return torch.randint(256, (count, size, size, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def sentences() -> torch.Tensor:
    return torch.tensor([[3, 4, 5, 1], [6, 1, 0, 0], [1, 0, 0, 0]])


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("kind", [SymbolicTower, TextTower])
def test_token_tower_gives_one_vector_per_sequence(kind, readout):
    out = token_tower(kind, readout=readout)(sentences())
    assert out.shape == (3, 16)
    assert out.isfinite().all()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("readout", READOUTS)
def test_padding_and_company_do_not_change_an_embedding(readout, causal):
    tower = token_tower(readout=readout, causal=causal).eval()
    together = tower(sentences())
    padded = tower(nn.functional.pad(sentences(), (0, 8)))
    alone = torch.cat([tower(row[row != 0][None]) for row in sentences()])
    torch.testing.assert_close(padded, together, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("readout", READOUTS)
def test_every_token_and_its_place_matter(readout):
    tower = token_tower(readout=readout).eval()
    one, other, swapped = tower(torch.tensor([[3, 4, 1], [3, 5, 1], [4, 3, 1]]))
    assert (one - other).norm() > 1e-3 * one.norm()
    assert (one - swapped).norm() > 1e-3 * one.norm()


def test_causal_states_ignore_what_follows():
    torch.manual_seed(0)
    trunk = Transformer(16, depth=2, heads=2, causal=True)
    x = torch.randn(1, 5, 16)
    changed = x.clone()
    changed[:, 3:] *= -1
    before, after = trunk(x), trunk(changed)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


def test_masked_positions_are_not_attended_to():
    torch.manual_seed(0)
    trunk = Transformer(16, depth=2, heads=2)
    x = torch.randn(2, 5, 16)
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    changed = x.clone()
    changed[:, 3:] *= -1
    before, after = trunk(x, mask), trunk(changed, mask)
    torch.testing.assert_close(before[0, :3], after[0, :3])
    assert not torch.allclose(before[1, :3], after[1, :3])


def object_tower(**options) -> ObjectTower:
    torch.manual_seed(0)
    sizes = {"width": 16, "depth": 2, "heads": 2, "output_dim": 8, "max_length": 13}
    return ObjectTower(12, object_length=4, **{**sizes, **options})


SCENES = torch.tensor([[1, 4, 8, 2, 1, 5, 9, 2, 3, 0, 0, 0, 0], [1, 4, 9, 2, 1, 5, 8, 2, 1, 6, 7, 2, 3]])
"""Two objects and [EOS]; three objects, the first two of which have exchanged a value."""


@pytest.mark.parametrize("readout", READOUTS)
def test_a_tower_of_objects_reads_a_set(readout):
    tower = object_tower(readout=readout)
    swapped = SCENES.clone()
    swapped[:, :4], swapped[:, 4:8] = SCENES[:, 4:8], SCENES[:, :4]
    torch.testing.assert_close(tower(swapped), tower(SCENES))
    exchanged = SCENES[:1].clone()
    exchanged[0, [2, 6]] = SCENES[0, [6, 2]]
    assert not torch.allclose(tower(exchanged), tower(SCENES[:1]))


@pytest.mark.parametrize("readout", READOUTS)
def test_a_tower_of_objects_ignores_padding_and_reads_one_place_per_object(readout):
    tower = object_tower(readout=readout)
    torch.testing.assert_close(tower(SCENES[:1, :9]), tower(SCENES)[:1])
    x, mask = tower.embed(SCENES)
    assert x.shape == (2, 4, 16)
    assert mask.tolist() == [[True, True, True, False], [True] * 4]
    assert tower.lengths(SCENES).tolist() == mask.sum(1).tolist() == [3, 4]
    torch.testing.assert_close(x[1, 2], tower.embedding.weight[[1, 6, 7, 2]].sum(0))


def test_too_long_a_sequence_is_refused():
    with pytest.raises(ValueError, match="13 tokens, but max_length is 12"):
        token_tower()(torch.ones(1, 13, dtype=torch.int64))


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize(("size", "patch"), [(32, 8), (48, 16), (30, 10)])
def test_vision_tower_takes_any_multiple_of_the_patch(size, patch, readout):
    tower = vision_tower(image_size=size, patch_size=patch, readout=readout)
    assert tower(pictures(2, size)).shape == (2, 16)
    assert len(tower.positions) == (size // patch) ** 2


@pytest.mark.parametrize("readout", READOUTS)
def test_bytes_and_floats_of_the_same_picture_agree(readout):
    tower = vision_tower(readout=readout)
    torch.testing.assert_close(tower(pictures(2)), tower(pictures(2) / 255), rtol=1e-4, atol=1e-5)


def test_pixels_reach_the_patch_layer_between_minus_one_and_one():
    tower = vision_tower()
    seen = []
    tower.patch.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    black_to_white = torch.arange(256, dtype=torch.uint8).repeat(12)[:, None].expand(-1, 3).reshape(3, 32, 32, 3)
    tower(black_to_white)
    assert seen[0].min() == -1
    assert seen[0].max() == 1
    # Patch 1 of picture 0 starts at pixel (0, 8), whose grey value is 8.
    assert seen[0][0, 1, 0] == 8 / 127.5 - 1


@pytest.mark.parametrize(("size", "fix"), [(30, 32), (35, 32), (4, 8)])
def test_a_picture_that_is_no_multiple_of_the_patch_is_refused_with_the_fix(size, fix):
    with pytest.raises(ValueError, match=f"image_size {size} .* patch_size 8: use image_size {fix}$"):
        vision_tower(image_size=size)


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(ValueError, match="64x64x3 in a tower for 32x32x3"):
        vision_tower()(pictures(1, 64))


def test_width_must_be_a_multiple_of_heads():
    with pytest.raises(ValueError, match="width 30 is not a multiple of heads 4: use width 28"):
        Transformer(30, depth=1, heads=4)


def test_default_size_is_about_20_million_parameters():
    with torch.device("meta"):
        towers = [
            SymbolicTower(154, **DEFAULT, max_length=32),
            TextTower(200, **DEFAULT, max_length=32),
            VisionTower(image_size=128, patch_size=16, **DEFAULT),
            VisionTower(image_size=224, patch_size=16, readout="eos", **DEFAULT),
        ]
    for tower in towers:
        assert 18e6 < sum(parameter.numel() for parameter in tower.parameters()) < 22e6


def test_initialisation_is_seeded_and_scaled():
    first, second = vision_tower(depth=8), vision_tower(depth=8)
    for one, other in zip(first.parameters(), second.parameters()):
        assert torch.equal(one, other)
    block = first.transformer.blocks[0].requires_grad_(False)
    spread = 0.88  # of a unit normal truncated at two standard deviations
    assert math.isclose(block.qkv.weight.std() * 32**0.5, spread, rel_tol=0.1)
    assert math.isclose(block.mlp_out.weight.std() * (128 * 2 * 8) ** 0.5, spread, rel_tol=0.1)


def first_attention(tower: TokenTower) -> torch.Tensor:
    """Weights [h, n, t, t] of the first block."""
    x, _ = tower.embed(torch.randint(2, 20, (64, 12), generator=torch.Generator().manual_seed(0)))
    block = tower.transformer.blocks[0]
    q, k, _ = block.qkv(block.attention_norm(x)).unflatten(2, (3, block.heads, -1)).permute(2, 3, 0, 1, 4)
    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)


@torch.no_grad()
def test_large_positions_and_queries_start_as_sharp_maps_from_place_to_place():
    usual, sharp = (first_attention(token_tower(**start)) for start in ({}, {"position_std": 0.4, "attention_gain": 3}))
    assert usual.amax(-1).mean() < 0.35
    assert sharp.amax(-1).mean() > 0.8
    assert sharp.std(1).mean() < 0.1 * sharp.mean(1).std()  # whatever tokens stand there


def test_dropout_acts_in_training_only():
    tower = token_tower(dropout=0.5)
    assert not torch.equal(tower(sentences()), tower(sentences()))
    tower.eval()
    assert torch.equal(tower(sentences()), tower(sentences()))

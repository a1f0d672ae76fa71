"""The dual encoder: normalisation, temperature, precision, gradients, parameter groups."""

import pytest
import torch

from dualenc.losses import info_nce
from dualenc.models import DualEncoder, SymbolicTower, TextTower, VisionTower, no_decay, parameter_groups

SMALL = {"width": 32, "depth": 2, "heads": 4, "output_dim": 16}


def make(scene: str = "vision", readout: str = "eos", **options) -> DualEncoder:
    torch.manual_seed(0)
    if scene == "vision":
        scene_tower = VisionTower(image_size=16, patch_size=8, readout=readout, **SMALL)
    else:
        scene_tower = SymbolicTower(12, max_length=8, readout=readout, **SMALL)
    return DualEncoder(scene_tower, TextTower(12, max_length=8, readout=readout, **SMALL), **options)


def batch(scene: str = "vision") -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 12, (6, 5), generator=generator)
    tokens[:3, 4:] = 0
    pictures = torch.randint(256, (6, 16, 16, 3), generator=generator).to(torch.uint8)
    return (pictures if scene == "vision" else tokens.flip(0)), tokens


@pytest.mark.parametrize("readout", ["eos", "mean"])
@pytest.mark.parametrize("scene", ["vision", "symbolic"])
def test_a_gradient_reaches_every_parameter(scene, readout):
    model = make(scene, readout)
    scenes, queries, logit_scale = model(*batch(scene))
    info_nce(scenes, queries, logit_scale=logit_scale).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_embeddings_are_unit_float32_also_under_bf16_autocast():
    model = make()
    scenes, tokens = batch()
    exact = model.encode_scenes(scenes), model.encode_queries(tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model.encode_scenes(scenes), model.encode_queries(tokens)
        loss = info_nce(*rounded, logit_scale=model.logit_scale)
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    for one, other in zip(exact, rounded):
        assert one.dtype == other.dtype == torch.float32
        torch.testing.assert_close(other.norm(dim=1), torch.ones(6))
        torch.testing.assert_close(one, other, atol=0.05, rtol=0)
        assert not torch.equal(one, other)


def test_logit_scale_is_limited_but_never_stuck():
    model = make(max_logit_scale=100.0)
    torch.testing.assert_close(model.logit_scale, torch.tensor(1 / 0.07))
    model.log_logit_scale.data.fill_(10.0)
    assert model.logit_scale == 100
    (gradient,) = torch.autograd.grad(model.logit_scale, model.log_logit_scale)
    assert gradient > 0
    model.clamp_()
    torch.testing.assert_close(model.log_logit_scale.detach().exp(), torch.tensor(100.0))
    assert model.logit_scale <= 100
    optimizer = torch.optim.SGD([model.log_logit_scale], lr=1e-3)
    model.logit_scale.backward()
    optimizer.step()
    model.clamp_()
    assert model.logit_scale < 99


def test_towers_must_agree_on_the_space():
    with pytest.raises(ValueError, match="output_dim is 8 for the scene tower and 16 for the query tower"):
        DualEncoder(TextTower(12, max_length=8, **(SMALL | {"output_dim": 8})), TextTower(12, max_length=8, **SMALL))


def test_num_parameters_leaves_out_only_the_temperature():
    model = make()
    counted = model.num_parameters()
    assert counted["query"] == sum(p.numel() for p in model.query_tower.parameters())
    assert sum(counted.values()) + 1 == sum(p.numel() for p in model.parameters())


def test_decay_acts_on_weight_matrices_only():
    model = make()
    plain = no_decay(model)
    decayed = {name for name, _ in model.named_parameters()} - plain
    matrices = ("qkv", "attention_out", "mlp_in", "mlp_out", "projection", "patch")
    assert decayed == {
        name for name, _ in model.named_parameters() if name.endswith(tuple(f"{m}.weight" for m in matrices))
    }
    expected = {"log_logit_scale", "query_tower.embedding.weight", "query_tower.positions", "scene_tower.class_token"}
    assert expected | {"scene_tower.transformer.norm.weight", "scene_tower.patch.bias"} <= plain


def test_parameter_groups_hold_each_trainable_parameter_once():
    model = make()
    model.query_tower.positions.requires_grad_(False)
    decayed, plain = parameter_groups(model, 0.2)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.2, 0.0)
    together = [id(p) for p in decayed["params"] + plain["params"]]
    assert len(together) == len(set(together))
    assert set(together) == {id(p) for p in model.parameters() if p.requires_grad}
    before = model.log_logit_scale.item(), model.scene_tower.projection.weight.norm().item()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    torch.optim.AdamW([decayed, plain], lr=0.1).step()
    assert model.log_logit_scale.item() == before[0]
    assert model.scene_tower.projection.weight.norm().item() == pytest.approx(before[1] * 0.98)

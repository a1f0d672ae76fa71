"""Counted operations against torch's own counter."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dualenc.models import DualEncoder, ObjectTower, SymbolicTower, TextTower, VisionTower, step_flops

SIZES = {"width": 64, "depth": 2, "heads": 4, "output_dim": 24, "mlp_ratio": 3.0}


def counted(model: DualEncoder, scenes: torch.Tensor, tokens: torch.Tensor) -> int:
    # The fused attention of the CPU is unknown to the counter.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        scene, query, _ = model(scenes, tokens)
        (scene.sum() + query.sum()).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("readout", ["mean", "eos"])
def test_operations_are_those_that_torch_counts(readout: str) -> None:
    vision = VisionTower(image_size=24, patch_size=8, readout=readout, **SIZES)
    model = DualEncoder(vision, TextTower(30, max_length=16, readout=readout, **SIZES))
    pictures = torch.rand(5, 24, 24, 3, requires_grad=True)  # else the first layer has one product less to make
    tokens = torch.randint(1, 30, (7, 12))
    assert step_flops(model, num_scenes=5, num_queries=7, query_length=12) == counted(model, pictures, tokens)
    tokens[:3, 8:] = 0
    length = float((tokens != 0).sum() / 7)
    estimated = step_flops(model, num_scenes=5, num_queries=7, query_length=length)
    assert estimated == pytest.approx(counted(model, pictures, tokens), rel=0.01)


def test_towers_of_tokens_on_both_sides() -> None:
    model = DualEncoder(SymbolicTower(30, max_length=9, **SIZES), SymbolicTower(30, max_length=4, **SIZES))
    scenes, queries = torch.randint(1, 30, (5, 9)), torch.randint(1, 30, (6, 4))
    estimated = step_flops(model, num_scenes=5, num_queries=6, query_length=4, scene_length=9)
    assert estimated == counted(model, scenes, queries)
    with pytest.raises(ValueError, match="give its length"):
        step_flops(model, num_scenes=5, num_queries=6, query_length=4)


def test_a_tower_of_objects_reads_one_token_for_each() -> None:
    scene = ObjectTower(30, object_length=4, max_length=9, **SIZES)
    model = DualEncoder(scene, SymbolicTower(30, max_length=4, **SIZES))
    scenes, queries = torch.randint(1, 30, (5, 9)), torch.randint(1, 30, (6, 4))
    estimated = step_flops(model, num_scenes=5, num_queries=6, query_length=4, scene_length=9)
    assert estimated == counted(model, scenes, queries)


def test_an_unknown_tower_is_refused() -> None:
    class Other(nn.Module):
        output_dim = 24

    model = DualEncoder(Other(), TextTower(30, max_length=16, **SIZES))
    with pytest.raises(ValueError, match="operations of a Other are not known"):
        step_flops(model, num_scenes=1, num_queries=1, query_length=1)

"""Gradient caching without a Trainer: the gradient of the plain step, the same dropout both times, and less memory."""

import math
from collections import defaultdict
from typing import Any

import pytest
import torch
from torch import Tensor

from dualenc.losses import info_nce
from dualenc.models import DualEncoder, SymbolicTower, VisionTower
from dualenc.replay import backward_in_chunks

SCENES, TEXTS = 10, 7


def make_model(*, dropout: float = 0.0, dtype: torch.dtype = torch.float64, width: int = 16) -> DualEncoder:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"width": width, "depth": 2, "heads": 2, "output_dim": 8, "dropout": dropout}
    scene = VisionTower(image_size=16, patch_size=4, **sizes)
    return DualEncoder(scene, SymbolicTower(20, max_length=6, **sizes)).to(dtype)


def make_rows(scenes: int = SCENES, texts: int = TEXTS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randint(256, (scenes, 16, 16, 3), generator=generator, dtype=torch.uint8)
    return pictures, torch.randint(1, 20, (texts, 6), generator=generator)


def objective(scene: Tensor, texts: Tensor, scale: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """InfoNCE where several scenes share a text."""
    owner = torch.arange(len(scene)) % len(texts)
    loss = info_nce(scene, texts[owner], logit_scale=scale, targets=owner[:, None] == owner)
    return loss, {"loss": loss.detach()}


def gradients(model: DualEncoder) -> dict[str, Tensor]:
    found = {name: weight.grad for name, weight in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return found


def plain_step(model: DualEncoder, scenes: Tensor, texts: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    loss, _ = objective(model.encode_scenes(scenes), model.encode_queries(texts), model.logit_scale)
    loss.backward()
    return loss.detach(), gradients(model)


def step_in_chunks(model: Any, scenes: Tensor, texts: Tensor, chunks: int) -> tuple[Tensor, list[bool]]:
    calls: list[bool] = []

    def backward(scalar: Tensor, last: bool) -> None:
        calls.append(last)
        scalar.backward()

    loss, report = backward_in_chunks(
        model,
        scenes,
        texts,
        loss_parameters=[model.logit_scale],
        chunks=chunks,
        objective=objective,
        backward=backward,
    )
    assert torch.equal(loss, report["loss"])
    return loss, calls


@pytest.mark.parametrize("chunks", [1, 2, 3, 8, 10, 16])
def test_any_number_of_chunks_gives_the_plain_gradient(chunks: int) -> None:
    model, rows = make_model(), make_rows()
    loss, expected = plain_step(model, *rows)
    ours, calls = step_in_chunks(model, *rows, chunks)
    torch.testing.assert_close(ours, loss, rtol=1e-12, atol=0)
    assert calls == [False] * (min(chunks, SCENES) - 1) + [True]
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-12, msg=name)


def test_every_weight_has_a_gradient_from_the_last_chunk_alone() -> None:
    """DDP averages in the last backward pass and waits for all weights there, also with fewer texts than chunks."""
    model, (scenes, texts) = make_model(), make_rows(texts=2)
    reached: list[set[str]] = []

    def backward(scalar: Tensor, last: bool) -> None:
        found = torch.autograd.grad(scalar, list(model.parameters()), allow_unused=True)
        reached.append({name for (name, _), g in zip(model.named_parameters(), found) if g is not None})

    backward_in_chunks(
        model,
        scenes,
        texts,
        loss_parameters=[model.logit_scale],
        chunks=4,
        objective=objective,
        backward=backward,
    )
    assert len(reached) == 4
    assert reached[-1] == {name for name, _ in model.named_parameters()}
    assert not any(name.startswith("query_tower") for name in reached[0])


class Recorder:
    """An encoder that keeps what it returned for each chunk, with and without a graph."""

    def __init__(self, model: DualEncoder) -> None:
        self.model, self.logit_scale = model, model.logit_scale
        self.made: dict[bool, list[Tensor]] = defaultdict(list)

    def encode_scenes(self, rows: Tensor) -> Tensor:
        return self._keep(self.model.encode_scenes(rows))

    def encode_queries(self, rows: Tensor) -> Tensor:
        return self._keep(self.model.encode_queries(rows))

    def _keep(self, embedding: Tensor) -> Tensor:
        self.made[embedding.requires_grad].append(embedding.detach())
        return embedding


@pytest.mark.parametrize("checkpointing", [False, True])
def test_dropout_is_the_same_both_times_bit_for_bit(checkpointing: bool) -> None:
    model, rows = make_model(dropout=0.3, dtype=torch.float32), make_rows()
    model.set_activation_checkpointing(checkpointing)
    encoder = Recorder(model)
    torch.manual_seed(5)
    step_in_chunks(encoder, *rows, 3)
    first = sorted(encoder.made[False], key=lambda x: x.sum().item())
    again = sorted(encoder.made[True], key=lambda x: x.sum().item())
    assert len(first) == len(again) == 6
    assert all(torch.equal(x, y) for x, y in zip(first, again))
    assert not any(torch.equal(x, y) for x in first for y in first if x is not y)


def test_dropout_in_chunks_has_the_gradient_of_what_was_drawn() -> None:
    """Against one graph over chunks that draw what the replay drew."""
    model, (scenes, texts) = make_model(dropout=0.3), make_rows(9, 6)
    torch.manual_seed(5)
    embedded = [
        torch.cat([encode(part) for part in rows.split(len(rows) // 3)])
        for encode, rows in ((model.encode_scenes, scenes), (model.encode_queries, texts))
    ]
    objective(*embedded, model.logit_scale)[0].backward()
    expected = gradients(model)
    torch.manual_seed(5)
    step_in_chunks(model, scenes, texts, 3)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-12, msg=name)


class KeptBytes:
    """The most bytes of activations that graphs kept for their backward passes at any moment."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def pack(self, x: Tensor) -> Any:
        return _Kept(self, x)

    def __enter__(self) -> "KeptBytes":
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda kept: kept.tensor)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.hooks.__exit__(*error)


class _Kept:
    def __init__(self, bytes_: KeptBytes, tensor: Tensor) -> None:
        self.bytes, self.tensor = bytes_, tensor
        self.bytes.now += tensor.numel() * tensor.element_size()
        self.bytes.most = max(self.bytes.most, self.bytes.now)

    def __del__(self) -> None:
        self.bytes.now -= self.tensor.numel() * self.tensor.element_size()


def test_memory_of_a_step_is_that_of_a_chunk() -> None:
    model, rows = make_model(dtype=torch.float32), make_rows(64, 64)
    with KeptBytes() as plain:
        plain_step(model, *rows)
    most = {}
    for chunks in (1, 4, 16):
        with KeptBytes() as kept:
            step_in_chunks(model, *rows, chunks)
        assert kept.now == 0
        most[chunks] = kept.most / plain.most
    assert math.isclose(most[1], 1, rel_tol=0.05)
    assert most[4] < 0.3
    assert most[16] < 0.1

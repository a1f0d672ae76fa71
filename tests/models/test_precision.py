"""Training in bf16-mixed: what is cast, when, and that it trains as float32 does."""

from collections import Counter
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from dualenc.models import DualEncoder, TextTower, VisionTower
from dualenc.precision import precision_plugins, slow_precision

CPU = torch.device("cpu")
STEPS, BATCH = 20, 16


class Recorder(TorchDispatchMode):
    """Which types matrix products have, and what is cast to bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[torch.dtype] = Counter()
        self.casts: Counter[tuple[int, ...]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm"):
            self.products[args[-1].dtype] += 1
        if name == "_to_copy" and (kwargs or {}).get("dtype") == torch.bfloat16:
            self.casts[tuple(args[0].shape)] += 1
        return func(*args, **(kwargs or {}))


class Training(pl.LightningModule):
    """Contrastive training of small towers; two chunks of each batch share a step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.automatic_optimization = False
        sizes = {"width": 24, "depth": 1, "heads": 2, "output_dim": 16, "readout": "mean"}
        vision = VisionTower(image_size=16, patch_size=8, **sizes)
        self.model = DualEncoder(vision, TextTower(12, max_length=8, **sizes))
        self.losses: list[float] = []

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.forward_pass, self.backward_pass = Recorder(), Recorder()
        loss = torch.zeros(())
        for scenes, tokens in zip(*(part.chunk(2) for part in batch)):
            with self.forward_pass:
                scene, query, scale = self.model(scenes, tokens)
            with torch.autocast("cpu", enabled=False):
                logits = scale * scene @ query.T
                part = F.cross_entropy(logits, torch.arange(len(logits)))
            with self.backward_pass:
                self.manual_backward(part)
            loss += part.detach()
        optimizer.step()
        self.losses.append(float(loss))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3, fused=True)


def trained(precision: str) -> Training:
    module = Training()
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 12, (BATCH, 4), generator=generator)
    pictures = tokens.repeat_interleave(64, 1)[..., None].expand(-1, -1, 3).reshape(BATCH, 16, 16, 3) / 12
    batches = torch.utils.data.DataLoader([(pictures, tokens)] * STEPS, batch_size=None)
    trainer = pl.Trainer(
        accelerator="cpu",
        plugins=precision_plugins(precision, CPU),
        max_steps=STEPS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    assert trainer.precision == precision
    trainer.fit(module, batches)
    return module


def test_bf16_trains_as_float32_casts_weights_once_a_step_and_leaves_losses_alone() -> None:
    exact, rounded = trained("32-true"), trained("bf16-mixed")
    assert set(exact.forward_pass.products) == {torch.float32}
    assert set(rounded.forward_pass.products) == {torch.bfloat16}
    # Of a chunk, the two products of the logits have float32 gradients as they have float32 values.
    assert rounded.backward_pass.products[torch.float32] == 2 * 2
    weight = tuple(rounded.model.query_tower.transformer.blocks[0].mlp_in.weight.shape)
    assert rounded.forward_pass.casts[weight] == 2  # one for each tower, though each has seen two chunks
    assert exact.losses != rounded.losses
    assert exact.losses[-1] < 0.5 * exact.losses[0]
    differences = torch.tensor(exact.losses) - torch.tensor(rounded.losses)
    assert differences.abs().max() < 0.05
    gradient = rounded.model.query_tower.transformer.blocks[0].mlp_in.weight.grad
    assert gradient.dtype == torch.float32


def test_a_cpu_without_bf16_products_is_told_that_they_are_slow() -> None:
    assert slow_precision("32-true", CPU) is None
    assert slow_precision("bf16-mixed", torch.device("cuda")) is None
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert (slow_precision("bf16-mixed", CPU) is None) == native

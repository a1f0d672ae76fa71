"""The one LightningModule: a dual encoder, its objective, AdamW and a schedule in samples."""

import math
from typing import Any

import pytorch_lightning as pl
import torch

from dualenc.config import LossConfig, OptimConfig, loss_terms
from dualenc.data import TrainBatch
from dualenc.errors import InputError
from dualenc.losses import LossInputs, total_loss
from dualenc.models import DualEncoder, parameter_groups


class DualEncoderModule(pl.LightningModule):
    """Trains a `DualEncoder`; every step is a function of the weights, the batch and (seed, samples, rank).

    Optimisation is manual: losses are exact over the global batch, so gradients are never accumulated over steps.
    `samples` counts training samples so far, over all processes; it is the clock of schedule and logs.
    """

    def __init__(
        self,
        model: DualEncoder,
        *,
        loss: LossConfig,
        optim: OptimConfig,
        seed: int,
        batch_size: int,
        max_samples: int,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.loss, self.optim, self.seed = loss, optim, seed
        self.batch_size, self.max_samples = batch_size, max_samples
        self.samples = 0
        # A list hides the compiled towers from the module tree: weights keep their names whether compiled or not.
        self._compiled = [torch.compile(model)] if compile else [model]

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, torch.Tensor]:
        """One optimiser step; returns numbers to log."""
        if batch.position != self.samples:
            raise RuntimeError(f"a batch of position {batch.position} came at {self.samples} samples: a defect of ours")
        # Reseeding makes dropout a function of the position, so a resumed run draws what the uninterrupted one drew.
        torch.manual_seed(step_seed(self.seed, self.samples, self.global_rank))
        optimizer = self.optimizers()
        assert isinstance(optimizer, pl.core.optimizer.LightningOptimizer)
        rate = self.learning_rate(self.samples)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss, report = self._objective(batch)
        optimizer.zero_grad(set_to_none=True)
        self.manual_backward(loss)
        limit = self.optim.clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        if not torch.isfinite(loss + norm):
            raise InputError(
                f"the training diverged after {self.samples} samples: loss {loss.item():g}, gradient norm "
                f"{norm.item():g}; lower optim.lr and train anew"
            )
        optimizer.step()
        self.model.clamp_()
        self.samples += self.batch_size
        scale = self.model.logit_scale.detach()
        numbers = {"loss": loss.detach(), "grad_norm": norm, "temperature": 1 / scale, "lr": torch.tensor(rate)}
        return {f"train/{name}": value for name, value in {**numbers, **report}.items()}

    def _objective(self, batch: TrainBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        num_extra = len(batch.extra)
        queries = _joined(batch.queries, batch.extra) if num_extra else batch.queries
        # A text that occurs several times is embedded once (and shares one dropout mask).
        distinct, rows = torch.unique(queries, dim=0, return_inverse=True)
        scene, query, scale = self._compiled[0](batch.scenes, distinct)
        query = query[rows]
        exact = self.loss.targets == "truth"
        inputs = LossInputs(
            scene=scene,
            query=query[: len(scene)],
            logit_scale=scale,
            targets=batch.targets if exact else None,
            extra=query[len(scene) :],
            extra_targets=batch.extra_targets if exact else None,
            undecided=batch.undecided if exact else None,
            extra_undecided=batch.extra_undecided if exact else None,
        )
        return total_loss(inputs, loss_terms(self.loss))

    def learning_rate(self, samples: int) -> float:
        """Linear warm-up, then cosine decay to `final_lr` of the peak, as a function of samples seen."""
        optim, warmup = self.optim, self.optim.warmup * self.max_samples
        if samples < warmup:
            return optim.lr * (samples + self.batch_size) / (warmup + self.batch_size)
        progress = (samples - warmup) / max(self.max_samples - warmup, 1)
        return optim.lr * (optim.final_lr + (1 - optim.final_lr) * 0.5 * (1 + math.cos(math.pi * progress)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW, one kernel for all parameters; no decay on gains, biases, embeddings and the temperature."""
        optim = self.optim
        groups: Any = parameter_groups(self.model, optim.weight_decay)
        return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, fused=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the clock."""
        checkpoint["samples"] = self.samples

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the clock."""
        self.samples = checkpoint["samples"]


def _joined(queries: torch.Tensor, extra: torch.Tensor) -> torch.Tensor:
    """Token ids [b, T] and [k, T'] as [b + k, max(T, T')], so that one pass of the tower embeds both."""
    length = max(queries.shape[1], extra.shape[1])
    pads = [torch.nn.functional.pad(tokens, (0, length - tokens.shape[1])) for tokens in (queries, extra)]
    return torch.cat(pads)


def step_seed(seed: int, samples: int, rank: int) -> int:
    """A 63-bit seed for the random draws of one step on one process."""
    mixed = (seed * 0x9E3779B97F4A7C15 + samples * 0xC2B2AE3D27D4EB4F + rank * 0x165667B19E3779F9) & (2**64 - 1)
    return (mixed ^ (mixed >> 29)) & (2**63 - 1)

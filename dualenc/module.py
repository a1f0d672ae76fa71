"""The one LightningModule: a dual encoder, its objective, AdamW and a schedule in samples."""

import math
from contextlib import nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int
from pytorch_lightning.strategies import ParallelStrategy
from torch import Tensor

from dualenc.config import LossConfig, OptimConfig, loss_terms
from dualenc.data import TrainBatch
from dualenc.divergence import diverged, not_finite, weights_not_finite
from dualenc.errors import InputError
from dualenc.losses import LossInputs, Report, total_loss
from dualenc.losses.collectives import all_reduce_max
from dualenc.models import CompiledEncoder, DualEncoder, parameter_groups
from dualenc.replay import Encoder, backward_in_chunks


class DualEncoderModule(pl.LightningModule):
    """Trains a `DualEncoder`; every step is a function of the weights, the batch and (seed, samples, rank).

    Optimisation is manual: losses are exact over the global batch, so gradients are never accumulated over steps.
    With ``chunks`` above 1 a process embeds its share in that many parts (see `dualenc.replay`); the step is the same.
    ``share_identical`` embeds a text, or a scene of tokens, that occurs several times in the share once, with one
    dropout mask.
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
        chunks: int = 1,
        share_identical: bool = True,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.loss, self.optim, self.seed = loss, optim, seed
        self.batch_size, self.max_samples = batch_size, max_samples
        self.chunks, self.share_identical, self.compiles = chunks, share_identical, compile
        self.samples = 0
        self.embedded: tuple[Tensor, Tensor] | None = None  # scenes and texts of the newest step, to count its work by
        # A list hides the compiled towers from the module tree: weights keep their names whether compiled or not.
        self._encoder: list[Encoder] = [CompiledEncoder(model) if compile else model]

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, Tensor]:
        """One optimiser step; returns numbers to log. InputError where one of them is not finite, in all processes and
        before any weight has changed."""
        if batch.position != self.samples:
            raise RuntimeError(f"a batch of position {batch.position} came at {self.samples} samples: a defect of ours")
        # Reseeding makes dropout a function of the position, so a resumed run draws what the uninterrupted one drew.
        torch.manual_seed(step_seed(self.seed, self.samples, self.global_rank))
        optimizer = self.optimizers()
        assert isinstance(optimizer, pl.core.optimizer.LightningOptimizer)
        rate = self.learning_rate(self.samples)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        loss, report = self._forward_backward(batch)
        weights = list(self.model.parameters())
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        numbers = {"loss": loss, "grad_norm": norm, "temperature": 1 / self.model.logit_scale.detach(), **report}
        self._refuse_divergence(batch, numbers)
        if self.optim.clip:
            torch.nn.utils.clip_grads_with_norm_(weights, self.optim.clip, norm)
        optimizer.step()
        self.model.clamp_()
        self.samples += self.batch_size
        numbers["lr"] = torch.tensor(rate, dtype=torch.float64)
        numbers["samples_crc32"] = torch.tensor(batch.crc32, dtype=torch.float64)  # equal for any number of processes
        return {f"train/{name}": value for name, value in numbers.items()}

    def _refuse_divergence(self, batch: TrainBatch, numbers: dict[str, Tensor]) -> None:
        """InputError on all processes where a number of this step, on any of them, is not finite."""
        finite = torch.stack([torch.isfinite(value).to(batch.queries.device) for value in numbers.values()])
        if not all_reduce_max((~finite).int().max()):
            return
        names = [name for name, value in numbers.items() if not torch.isfinite(value)]
        where = not_finite(self.model, batch) or ", ".join(names) or "a number of another process"
        if self.samples:
            said, help = "diverged", "the last checkpoint is kept; lower optim.lr and train anew"
        else:
            said, help = (
                "cannot start",
                "no weight has changed yet, so the cause is the objective: look at loss.*",
            )
        raise InputError(
            f"the training {said} at step {self.samples // self.batch_size + 1} (after {self.samples} samples): loss "
            f"{numbers['loss'].item():g}, gradient norm {numbers['grad_norm'].item():g}; not finite: {where}; the step "
            f"changed no weight; {help}"
        )

    def _forward_backward(self, batch: TrainBatch) -> tuple[Float[Tensor, ""], Report]:
        """Loss and report of the global batch; leaves the gradients, averaged over processes, in the weights."""
        encoder, model = self._encoder[0], self.model
        objective = BatchObjective(batch, self.loss, share_identical=self.share_identical, compile=self.compiles)
        self.embedded = objective.scenes, objective.texts
        parameters = [model.logit_scale] + ([] if model.logit_bias is None else [model.logit_bias])
        if self.chunks == 1:
            scene, query = encoder.encode_scenes(objective.scenes), encoder.encode_queries(objective.texts)
            loss, report = objective(scene, query, *parameters)
            self.manual_backward(loss)
            return loss.detach(), report
        return backward_in_chunks(
            encoder,
            objective.scenes,
            objective.texts,
            loss_parameters=parameters,
            chunks=self.chunks,
            objective=objective,
            backward=self._backward,
        )

    def _backward(self, scalar: Float[Tensor, ""], last: bool) -> None:
        """Lightning hands DDP the gradients at the end of a `manual_backward`, unless it is told to wait."""
        strategy = self.trainer.strategy
        wait = not last and isinstance(strategy, ParallelStrategy)
        with strategy.block_backward_sync() if wait else nullcontext():  # type: ignore[attr-defined]
            self.manual_backward(scalar)

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
        """Adds the clock. InputError where a weight is not finite: such a checkpoint must not replace a good one."""
        if names := weights_not_finite(self.model):
            raise diverged(self.samples, self.batch_size, f"weights of {names}")
        checkpoint["samples"] = self.samples

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the clock."""
        self.samples = checkpoint["samples"]


ANY_TOKEN = 4
"""A token id that every vocabulary has."""


class BatchObjective:
    """The loss of a batch as a function of what the towers make of `scenes` and `texts`.

    All texts of a share go through the query tower together: queries, extra texts, concept and object queries. With
    ``share_identical``, texts, and scenes of tokens, that occur several times in the share are there once.
    """

    def __init__(self, batch: TrainBatch, loss: LossConfig, *, share_identical: bool, compile: bool) -> None:
        self.batch, self.loss, self.compile = batch, loss, compile
        none = batch.queries[:0]
        given = [batch.queries, batch.extra, batch.concept_queries, batch.object_queries]
        parts = [none if part is None else part for part in given]
        self.sizes = [len(part) for part in parts]
        self.texts: Int[Tensor, "m t"] = _joined(parts)
        self.scenes: Tensor = batch.scenes
        self.rows: Int[Tensor, " n"] | None = None
        self.scene_rows: Int[Tensor, " b"] | None = None
        if not len(self.texts):  # a process may have no share in few queries, but DDP waits for its query tower
            self.texts, self.rows = self.texts.new_full((1, 1), ANY_TOKEN), self.texts.new_zeros(0)
        elif share_identical:
            self.texts, self.rows = torch.unique(self.texts, dim=0, return_inverse=True)
        if share_identical and self.scenes.ndim == 2:  # pictures are hardly ever the same
            self.scenes, self.scene_rows = torch.unique(self.scenes, dim=0, return_inverse=True)

    def __call__(
        self,
        scenes: Float[Tensor, "k d"],
        texts: Float[Tensor, "m d"],
        logit_scale: Float[Tensor, ""],
        logit_bias: Float[Tensor, ""] | float = 0.0,
    ) -> tuple[Float[Tensor, ""], Report]:
        """Loss and report of the global batch."""
        batch = self.batch
        scene = scenes if self.scene_rows is None else scenes[self.scene_rows]
        query, extra, concepts, objects = self.embedded(texts).split(self.sizes)
        exact = self.loss.targets == "truth"
        inputs = LossInputs(
            scene=scene,
            query=query,
            logit_scale=logit_scale,
            logit_bias=logit_bias,
            targets=batch.targets if exact else None,
            extra=extra,
            extra_targets=batch.extra_targets if exact else None,
            extra_owner=batch.extra_owner,
            edited_kind=batch.edited_kind,
            undecided=batch.undecided if exact else None,
            extra_undecided=batch.extra_undecided if exact else None,
            concepts=None if batch.concept_queries is None else concepts,
            concept_targets=batch.concept_targets,
            objects=None if batch.object_queries is None else objects,
            object_targets=batch.object_targets,
            compile=self.compile,
        )
        loss, report = total_loss(inputs, loss_terms(self.loss))
        # DDP waits for a gradient of every weight, also where an objective does not look at one of the towers.
        return loss + 0.0 * (scene.sum() + texts.sum()), report

    def embedded(self, texts: Float[Tensor, "m d"]) -> Float[Tensor, "n d"]:
        """The embeddings of all the share's texts, from those of `texts`."""
        return texts if self.rows is None else texts[self.rows]


def _joined(parts: list[Int[Tensor, "n t"]]) -> Int[Tensor, "m t"]:
    """Token ids [n_i, T_i] as [sum of n_i, max T_i], padded at the end."""
    length = max(part.shape[1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, length - part.shape[1])) for part in parts])


def step_seed(seed: int, samples: int, rank: int) -> int:
    """A 63-bit seed for the random draws of one step on one process."""
    mixed = (seed * 0x9E3779B97F4A7C15 + samples * 0xC2B2AE3D27D4EB4F + rank * 0x165667B19E3779F9) & (2**64 - 1)
    return (mixed ^ (mixed >> 29)) & (2**63 - 1)

"""Whole training steps as Lightning drives them over four gloo processes, in chunks or not, against plain autograd."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from gloo import DTYPES, check
from pytorch_lightning.plugins.environments import ClusterEnvironment
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from dualenc import config as configuration
from dualenc import module as module_under_test
from dualenc import replay
from dualenc.build import build_model, build_source, model_spec
from dualenc.config import Config
from dualenc.data import TrainBatch
from dualenc.data.datamodule import SceneDataModule
from dualenc.data.open import open_data
from dualenc.errors import InputError
from dualenc.losses import LOSSES
from dualenc.models import DualEncoder
from dualenc.module import BatchObjective, DualEncoderModule
from dualenc.precision import precision_plugins
from dualenc.training import ddp_strategy

STEPS, BATCH = 3, 32
WORLD = 4
CHUNKS = (1, 2, 3, 8)
"""Of the 8 scenes and (fewer, distinct) texts of a rank: even, uneven, and more than there are texts."""


def make_config(*overrides: str) -> Config:
    tower = "{width: 16, depth: 1, heads: 2, kind: %s}"
    return configuration.load(
        None,
        [
            "data.kind=symbolic",
            "data.symbolic={num_values: 6, coverage: 0.7, objects: {1: 0.3, 2: 0.7}}",
            "data.queries={captions: 0.5, objects: 0.3, concepts: 0.2}",
            "data.num_workers=0",
            f"model.scene={tower % 'symbolic'}",
            f"model.query={tower % 'text'}",
            "model.output_dim=8",
            "optim={lr: 0.01, clip: 0.0}",
            f"trainer={{batch_size: {BATCH}, max_samples: {BATCH * STEPS}, timeout: 60}}",
            *overrides,
        ],
    )


def only(loss: str) -> list[str]:
    return [f"loss.infonce.weight={int(loss == 'infonce')}", f"loss.{loss}.weight=1"]


class Ranks(ClusterEnvironment):
    """Lightning in processes that exist already."""

    creates_processes_externally = True
    main_address, main_port = "127.0.0.1", 0

    @staticmethod
    def detect() -> bool:
        return True

    def world_size(self) -> int:
        return dist.get_world_size()

    def set_world_size(self, size: int) -> None: ...

    def global_rank(self) -> int:
        return dist.get_rank()

    def set_global_rank(self, rank: int) -> None: ...

    local_rank = global_rank

    def node_rank(self) -> int:
        return 0


class Record(pl.Callback):
    """Every step's loss, weights before it, gradients after averaging, and (``count``) how many numbers DDP sent."""

    def __init__(self, *, count: bool) -> None:
        self.steps: list[dict[str, Any]] = []
        self.count = count

    def on_train_start(self, trainer, pl_module) -> None:
        if self.count:
            trainer.strategy.model.register_comm_hook(None, self.send)

    def send(self, _: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        self.steps[-1]["sent"] += bucket.buffer().numel()
        return allreduce_hook(dist.group.WORLD, bucket)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        weights = {name: weight.detach().clone() for name, weight in pl_module.model.named_parameters()}
        self.steps.append({"weights": weights, "sent": 0})

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        named = pl_module.model.named_parameters()
        self.steps[-1]["gradients"] = {
            name: torch.zeros_like(weight) if weight.grad is None else weight.grad.clone() for name, weight in named
        }

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.steps[-1]["loss"] = outputs["train/loss"]


def make_model(config: Config, dtype: torch.dtype) -> tuple[DualEncoder, Any]:
    source = build_source(config, open_data(config.data, config.model)[0])
    torch.manual_seed(0)
    return build_model(model_spec(config, source)).to(dtype), source


def make_trainer(config: Config, *callbacks: pl.Callback) -> pl.Trainer:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    together = dist.is_initialized()
    return pl.Trainer(
        accelerator="cpu",
        devices=dist.get_world_size() if together else 1,
        strategy=ddp_strategy(config.trainer) if together else "auto",
        plugins=[*precision_plugins(config.trainer.precision, torch.device("cpu")), *([Ranks()] if together else [])],
        max_steps=config.trainer.max_samples // BATCH,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=list(callbacks),
    )


def make_parts(config: Config, dtype: torch.dtype) -> tuple[DualEncoderModule, SceneDataModule]:
    model, source = make_model(config, dtype)
    settings = {"batch_size": BATCH, "max_samples": config.trainer.max_samples}
    module = DualEncoderModule(
        model, loss=config.loss, optim=config.optim, seed=0, chunks=config.trainer.chunks, **settings
    )
    return module, SceneDataModule(source, num_workers=0, **settings)


def train(
    group: dist.ProcessGroup | None, config: Config, dtype: torch.dtype, mistake: str = "", count: bool = False
) -> list[dict[str, Any]]:
    """What Lightning does on this rank (in the group of all ranks, or alone), step by step."""
    record = Record(count=count)
    module, data = make_parts(config, dtype)
    with MISTAKES[mistake]():
        make_trainer(config, record).fit(module, datamodule=data)
    return record.steps


def reference(config: Config, dtype: torch.dtype, step: int, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Loss and gradients of one pass over the global batch of a step, from the weights that the step began with."""
    model, source = make_model(config, dtype)
    model.load_state_dict(weights)
    arrays = source.train_batch(step * BATCH, batch_size=BATCH, rank=0, world=1)
    batch = TrainBatch(*(torch.as_tensor(x) if isinstance(x, np.ndarray) else x for x in arrays))
    objective = BatchObjective(batch, config.loss, share_identical=False, compile=False)
    scene, texts = model.encode_scenes(batch.scenes), model.encode_queries(objective.texts)
    parameters = [model.logit_scale] + ([] if model.logit_bias is None else [model.logit_bias])
    loss, _ = objective(scene, texts, *parameters)
    loss.backward()
    return {"loss": loss.detach()} | {name: weight.grad for name, weight in model.named_parameters()}


def check_step(steps: list[dict[str, Any]], config: Config, dtype: torch.dtype, number: int) -> None:
    """Law 2. In float32 the plain pass itself is up to 4e-6 of the largest element away from float64: norms only."""
    step = steps[number]
    expected = reference(config, dtype, number, step["weights"])
    if dtype == torch.float64:
        check({"loss": step["loss"], **step["gradients"]}, expected)
    for name, gradient in step["gradients"].items():
        assert (gradient - expected[name]).norm() <= 1e-5 * expected[name].norm(), name


@contextlib.contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


def forgotten_parameters() -> contextlib.AbstractContextManager:
    """The last replay leaves temperature and bias out."""

    def without(*arguments, loss_parameters, backward, **named):
        fixed = [theta.detach().requires_grad_() for theta in loss_parameters]
        return replay.backward_in_chunks(*arguments, loss_parameters=fixed, backward=backward, **named)

    return patched(module_under_test, "backward_in_chunks", without)


def never_shared() -> contextlib.AbstractContextManager:
    """Every replay waits, the last one too."""
    backward = DualEncoderModule._backward
    return patched(DualEncoderModule, "_backward", lambda self, scalar, last: backward(self, scalar, False))


MISTAKES = {
    "": contextlib.nullcontext,
    "forgotten_parameters": forgotten_parameters,
    "never_shared": never_shared,
}


def check_ranks(ranks: list[list[dict[str, Any]]], config: Config, dtype: torch.dtype) -> None:
    """All ranks hold the same bits, and those of rank 0 are right at every step."""
    for steps in ranks:
        for step, first in zip(steps, ranks[0]):
            for kind in ("weights", "gradients"):
                assert all(torch.equal(value, first[kind][name]) for name, value in step[kind].items())
    for number in range(STEPS):
        check_step(ranks[0], config, dtype, number)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("chunks", CHUNKS)
def test_chunks_and_ranks_make_no_difference_to_a_step(workers, chunks, dtype):
    config = make_config("loss.siglip.weight=0.5", f"trainer.chunks={chunks}")  # with a temperature and a bias
    check_ranks([train(None, config, dtype)], config, dtype)
    check_ranks(workers.run(train, config, dtype, world=WORLD), config, dtype)


def test_a_bfloat16_step_in_chunks_keeps_every_gradient():
    """bfloat16 has three digits: 2% by norm. A weight cast for an embedding without a graph must not lose its own."""
    found = []
    for chunks in (1, 3):
        config = make_config(f"trainer.chunks={chunks}", "trainer.precision=bf16-mixed", f"trainer.max_samples={BATCH}")
        module, data = make_parts(config, torch.float32)
        record = Record(count=False)
        make_trainer(config, record).fit(module, datamodule=data)
        found.append(record.steps[0]["gradients"])
    for name, plain in found[0].items():
        assert plain.norm() > 0
        assert (found[1][name] - plain).norm() <= 0.02 * plain.norm(), name


@pytest.mark.parametrize("loss", list(LOSSES))
def test_every_loss_in_chunks_over_ranks(workers, loss):
    config = make_config(*only(loss), "trainer.chunks=3")
    check_ranks(workers.run(train, config, torch.float64, world=WORLD), config, torch.float64)


@pytest.mark.parametrize("chunks", [1, 3])
def test_ranks_without_a_share_in_few_queries_take_part(workers, chunks):
    few = ["loss.recognition.num_concepts=2", "loss.recognition.num_objects=1", "loss.recognition.num_swaps=0"]
    queries = "data.queries={captions: 0, objects: 0.6, concepts: 0.4}"
    recognition = ["loss.infonce.weight=0", "loss.recognition.weight=1", *few]
    config = make_config(*recognition, queries, f"trainer.chunks={chunks}")
    check_ranks(workers.run(train, config, torch.float64, world=WORLD), config, torch.float64)


@pytest.mark.parametrize("mistake", ["forgotten_parameters", "never_shared"])
def test_a_mistake_in_the_last_replay_is_noticed_at_step_0(workers, mistake):
    config = make_config("trainer.chunks=3", "trainer.max_samples=32")
    for steps in workers.run(train, config, torch.float64, mistake, world=WORLD):
        with pytest.raises(AssertionError):
            check_step(steps, config, torch.float64, 0)


@pytest.mark.parametrize("chunks", [1, 3])
def test_gradients_are_shared_once_a_step(workers, chunks):
    config = make_config(f"trainer.chunks={chunks}")
    for steps in workers.run(train, config, torch.float32, "", True, world=WORLD):
        size = sum(weight.numel() for weight in steps[0]["weights"].values())
        assert [step["sent"] for step in steps] == [size] * STEPS


class Spoiler(pl.Callback):
    """At step 1 a number of the last rank's query tower stops being finite: in a weight, or in a gradient only."""

    def __init__(self, what: str) -> None:
        self.what = what

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if batch_idx == 1 and trainer.global_rank == trainer.world_size - 1:
            weight = pl_module.model.query_tower.transformer.blocks[0].mlp_in.weight
            if self.what == "weight":
                weight.data[0, 0] = torch.nan
            else:
                weight.register_hook(lambda gradient: gradient * torch.inf)


def diverge(group: dist.ProcessGroup | None, config: Config, what: str) -> tuple[str, bool]:
    """The error that this rank ends with, and whether the weights are those that the bad step began with."""
    record = Record(count=False)
    module, data = make_parts(config, torch.float32)
    with pytest.raises(InputError) as error:
        make_trainer(config, Spoiler(what), record).fit(module, datamodule=data)
    weights, before = dict(module.model.named_parameters()), record.steps[-1]["weights"]
    same = all(torch.allclose(weights[name], value, rtol=0, atol=0, equal_nan=True) for name, value in before.items())
    return str(error.value), same


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("what", ["weight", "gradient"])
def test_all_ranks_leave_at_a_step_that_is_not_finite_and_change_nothing(workers, what, chunks):
    config = make_config(f"trainer.chunks={chunks}")
    *others, last = workers.run(diverge, config, what, world=WORLD)
    for error, same in (*others, last):
        assert same
        assert f"diverged at step 2 (after {BATCH} samples)" in error
        assert ("loss nan" in error) == (what == "weight")
    culprit = "query_tower (1 of 17: transformer.blocks.0.mlp_in.weight)"
    everything = "log_logit_scale, scene_tower (all 17), query_tower (all 17)"
    if what == "weight":
        assert f"not finite: weights of {culprit}, gradients of {everything};" in last[0]
    else:
        assert f"not finite: gradients of {culprit};" in last[0]

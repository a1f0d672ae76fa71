"""Symbolic scenes: preparing batches, and a whole training step, beside the published form of both.

    python benchmarks/symbolic.py [--quick] [--json PATH]

The published form (`published_symbolic.py`) prepares scenes, queries and labels in Python loops and trains two
`torch.nn.TransformerEncoder`; it is written from its description. Both sides: scenes of two train objects, batches of
512, the objective `recognition` with at most 64 concept queries, 64 object queries that some scene shows, one random
negative for each of those and one swap for each scene; towers of width 256, 4 heads, 6 layers, feed-forward width 2048,
output 512, readout at the last token; AdamW. Three spaces: the published one (3 concepts of 50 values), and 100 and 36
objects of two concepts, where most swaps of a batch are the same few objects, and some scenes the same too. One
process, one thread, CPU seconds, medians of alternating rounds; before that, the two towers with the same weights must
give the same loss and gradients on the same batch.

The bound is the step's counted operations at the rate of its largest matrix product, and `work_ratio` how many
operations the published step counts for one of ours: identical scenes and queries are embedded once, and the last block
computes the read place alone. Where nearly all scenes and queries of a batch differ, as in the published space, that
is all there is to save. Names that end in _ratio are ratios.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch

import itertools
import statistics
from collections.abc import Callable

import numpy as np
import torch
from common import alternated, options, report, speed_ratio
from published_symbolic import Batch, Encoder, Preparation, loss_of
from torch import Tensor

from dualenc import config as configuration
from dualenc.build import build_model, build_source, model_spec
from dualenc.data.open import symbolic_sampler
from dualenc.hardware import set_up_torch
from dualenc.losses import LossInputs, total_loss
from dualenc.models import DualEncoder, SymbolicTower, embedded_flops, parameter_groups
from dualenc.models.flops import linear_flops, transformer_flops
from dualenc.module import BatchObjective

SPACES = {"published": (3, 50, 0.4), "100": (2, 10, 0.8), "36": (2, 6, 0.75)}
BATCH, LR = 512, 3e-5
SHAPE = {"width": 256, "depth": 6, "heads": 4}
HIDDEN, OUTPUT = 2048, 512
_ASKED = {"preparation_ratio": 20.0, "step_ratio": 2.0}
AT_LEAST = {f"{name}/{ratio}": least for name in SPACES for ratio, least in _ASKED.items()}


class Ours:
    """Batches and steps of dualenc."""

    def __init__(self, num_concepts: int, num_values: int, coverage: float, batch_size: int) -> None:
        sizes = [f"model.{side}.{key}={value}" for side in ("scene", "query") for key, value in SHAPE.items()]
        towers = [f"model.{side}.{key}" for side in ("scene", "query") for key in ("kind=symbolic", "readout=eos")]
        self.config = configuration.load(
            None,
            [
                *(
                    "data.kind=symbolic",
                    "data.edits=[]",
                    f"data.coverage={coverage}",
                    f"trainer.batch_size={batch_size}",
                ),
                *(f"data.symbolic.num_concepts={num_concepts}", f"data.symbolic.num_values={num_values}"),
                *("loss.infonce.weight=0", "loss.recognition.weight=1", "loss.recognition.num_random=1"),
                *(
                    f"model.output_dim={OUTPUT}",
                    "model.scene.mlp_ratio=8",
                    "model.query.mlp_ratio=8",
                    "trainer.threads=1",
                ),
                *(f"optim.lr={LR}", *sizes, *towers),
            ],
        )
        set_up_torch(self.config)
        self.source = build_source(self.config, symbolic_sampler(self.config.data))
        self.model = build_model(model_spec(self.config, self.source))
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model, 0.1), lr=LR, fused=True)
        self.position = itertools.count(0, batch_size)

    def prepare(self) -> dict[str, Tensor]:
        """The arrays of the next batch as tensors."""
        batch = self.source.train_batch(next(self.position), batch_size=self.config.trainer.batch_size, rank=0, world=1)
        return batch._make(torch.from_numpy(value) if isinstance(value, np.ndarray) else value for value in batch)

    def step(self) -> None:
        """As `dualenc.module` does it."""
        batch = self.prepare()
        self.optimizer.zero_grad(set_to_none=True)
        objective = BatchObjective(batch, self.config.loss, share_identical=True, compile=False)
        scene, texts = self.model.encode_scenes(objective.scenes), self.model.encode_queries(objective.texts)
        loss, _ = objective(scene, texts, self.model.logit_scale)
        loss.backward()
        self.optimizer.step()
        self.model.clamp_()

    def flops(self) -> int:
        """Operations of a step."""
        batch = self.prepare()
        objective = BatchObjective(batch, self.config.loss, share_identical=True, compile=False)
        return embedded_flops(self.model, objective.scenes, objective.texts)


class Published:
    """Batches and steps of the published form."""

    def __init__(self, ours: Ours, num_values: int) -> None:
        space = ours.source.space
        train = [tuple(values) for values in space.decode(ours.source.split.train).tolist()]
        self.prepare = Preparation(train, num_values=num_values, batch_size=ours.config.trainer.batch_size, seed=0)
        sizes = {**SHAPE, "hidden": HIDDEN, "output_dim": OUTPUT}
        length = 2 * (space.num_concepts + 2) + 1
        self.towers = torch.nn.ModuleList(
            Encoder(4 + space.num_values, max_length=length, **sizes) for _ in ("scenes", "queries")
        )
        self.log_scale = torch.nn.Parameter(torch.tensor(1.15))
        weights = [*self.towers.parameters(), self.log_scale]
        self.optimizer = torch.optim.AdamW(weights, lr=LR, weight_decay=0.1)

    def loss(self, batch: Batch) -> Tensor:
        """The mean of both recognition losses."""
        scenes, queries = self.towers
        scene, scale = scenes(batch.scenes), self.log_scale.exp()
        concepts = loss_of(scene, queries(batch.concepts), batch.concept_labels, scale)
        return (concepts + loss_of(scene, queries(batch.objects), batch.object_labels, scale)) / 2

    def flops(self, ours: Ours) -> int:
        """Operations of a step: every query as often as it stands in the batch, and every place in every block."""
        batch = self.prepare()
        tower = ours.model.query_tower
        forward = sum(
            len(tokens) * (transformer_flops(tower.transformer, tokens.shape[1]) + linear_flops(tower.projection))
            for tokens in (batch.scenes, batch.concepts, batch.objects)
        )
        return round(3 * forward)

    def step(self) -> None:
        """A whole step."""
        self.optimizer.zero_grad()
        self.loss(self.prepare()).backward()
        self.optimizer.step()


def copy_weights(encoder: Encoder, tower: SymbolicTower) -> None:
    """Gives our tower the weights of the published one."""
    with torch.no_grad():
        tower.embedding.weight.copy_(encoder.embedding.weight)
        tower.positions.copy_(encoder.positions[: len(tower.positions)])
        tower.projection.weight.copy_(encoder.projection.weight)
        for block, layer in zip(tower.transformer.blocks, encoder.layers.layers):
            attention = layer.self_attn
            pairs = (
                *((block.qkv, attention.in_proj_weight, attention.in_proj_bias),),
                *(
                    (ours, theirs.weight, theirs.bias)
                    for ours, theirs in (
                        (block.attention_out, attention.out_proj),
                        (block.attention_norm, layer.norm1),
                        (block.mlp_norm, layer.norm2),
                        (block.mlp_in, layer.linear1),
                        (block.mlp_out, layer.linear2),
                    )
                ),
            )
            for ours, weight, bias in pairs:
                ours.weight.copy_(weight)
                ours.bias.copy_(bias)
        tower.transformer.norm.load_state_dict(encoder.layers.norm.state_dict())


def check_same(ours: Ours, published: Published) -> None:
    """Loss and a gradient of both on one batch of the published form, with its weights."""
    model: DualEncoder = build_model(model_spec(ours.config, ours.source))
    for encoder, tower in zip(published.towers, (model.scene_tower, model.query_tower)):
        copy_weights(encoder, tower)
    model.log_logit_scale.data.copy_(published.log_scale)
    batch = published.prepare()
    unique, rows = torch.unique(batch.objects, dim=0, return_inverse=True)
    inputs = LossInputs(
        scene=(scene := model.encode_scenes(batch.scenes)),
        query=scene,
        logit_scale=model.logit_scale,
        concepts=model.encode_queries(batch.concepts),
        concept_targets=batch.concept_labels.bool(),
        objects=model.encode_queries(unique)[rows],
        object_targets=batch.object_labels.bool(),
    )
    loss, _ = total_loss(inputs, {"recognition": (1.0, {})})
    loss.backward()
    expected = published.loss(batch)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    for encoder, tower in zip(published.towers, (model.scene_tower, model.query_tower)):
        theirs = encoder.layers.layers[0].linear1.weight.grad
        own = tower.transformer.blocks[0].mlp_in.weight.grad
        assert (own - theirs).norm() <= 1e-4 * theirs.norm()
    published.optimizer.zero_grad()


def product() -> tuple[Callable[[], object], int]:
    """The widest product of a block over all tokens of the scenes, and its operations."""
    rows, width = 9 * BATCH, SHAPE["width"]
    x, weight = torch.randn(rows, width), torch.randn(HIDDEN, width)
    return lambda: x @ weight.T, 2 * rows * width * HIDDEN


def measure(name: str, quick: bool) -> dict[str, float]:
    """All figures of one space."""
    num_concepts, num_values, coverage = SPACES[name]
    torch.manual_seed(0)
    batch_size = 128 if quick else BATCH
    preparing = Ours(num_concepts, num_values, coverage, BATCH)
    described = Published(preparing, num_values)
    number = 4
    works: dict[str, Callable[[], object]] = {
        "ours": lambda: [preparing.prepare() for _ in range(4 * number)],
        "published": lambda: [described.prepare() for _ in range(number)],
    }
    seconds = alternated(works, 5 if quick else 15)
    seconds["ours"] = [taken / 4 for taken in seconds["ours"]]
    found = {f"{side}_prepared_per_s": number * BATCH / statistics.median(taken) for side, taken in seconds.items()}
    found["preparation_ratio"] = speed_ratio(seconds, "ours", "published")
    ours = Ours(num_concepts, num_values, coverage, batch_size)
    published = Published(ours, num_values)
    check_same(ours, published)
    multiply, operations = product()
    seconds = alternated({"ours": ours.step, "published": published.step, "product": multiply}, 2 if quick else 5)
    rate = operations / statistics.median(seconds.pop("product"))
    found |= {f"{side}_step_per_s": batch_size / statistics.median(taken) for side, taken in seconds.items()}
    found["step_ratio"] = speed_ratio(seconds, "ours", "published")
    found["step_gflop"] = ours.flops() / 1e9
    found["work_ratio"] = published.flops(ours) / ours.flops()
    found["of_bound_ratio"] = ours.flops() / rate / statistics.median(seconds["ours"])
    return {f"{name}/{key}": value for key, value in found.items()}


def main() -> None:
    """Measures, prints, writes the JSON."""
    chosen = options(__doc__)
    found: dict[str, float] = {}
    for name in SPACES:
        found |= measure(name, chosen.quick)
    report(found, chosen.json, at_least=AT_LEAST)


if __name__ == "__main__":
    main()

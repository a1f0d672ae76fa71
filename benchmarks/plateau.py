"""Why training on symbolic scenes stays at the bag level, and what shortens it: one change at a time.

    python benchmarks/plateau.py [--rows NAME ...] [--seeds N] [--samples N] [--results FOLDER] [--quick] [--json PATH]

Two objects of 8 x 8 values, four fifths of the 64 objects in training, one thread. T is a transformer, M a tower that
is a sum over values plus a sum over objects of products; scene tower / query tower. A run trains until object
recognition on val, measured every 2,048 samples on 250 scenes, is above the bag ceiling of the split twice in a row: no
bag of concepts reaches it, not even one that remembers which objects training shows. `escape` is the number of samples
then; a dash says that the run did not get there within its budget. `passes ceiling` is the same for the plain bag
ceiling. The conjunctive share is measured before training: of the variance of a tower's embeddings, the part that a sum
over objects explains beyond a sum over values. `attention` is measured at the end, in the first block of a transformer
that reads every value of a scene as a token: the share of a value's attention that stays within its own object, in the
head with most of it; spread evenly it would be 4/9. Finished runs stand in FOLDER/plateau.jsonl and are not run again.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch

import numpy as np
import torch
from common import table, write
from torch import Tensor

from dualenc import config as configuration
from dualenc import configs, metrics
from dualenc.build import build_model, build_source, model_spec
from dualenc.config import Config
from dualenc.data import Source
from dualenc.data.open import symbolic_sampler
from dualenc.data.queries import SymbolicScenes
from dualenc.hardware import set_up_torch
from dualenc.models import DualEncoder, MultiplicativeTower, SymbolicTower, TokenTower
from dualenc.module import BatchObjective, DualEncoderModule
from dualenc.scenes import Scenes

BASE = [
    *("data.kind=symbolic", "data.symbolic.num_values=8", "data.coverage=0.8", "data.edits=[]"),
    *("model.scene.kind=symbolic", "model.query.kind=symbolic", "model.preset=tiny"),
    *(f"model.{side}.{key}" for side in ("scene", "query") for key in ("width=32", "heads=2", "readout=eos")),
    *("loss.infonce.weight=0", "loss.recognition.weight=1", "optim.lr=0.004", "optim.final_lr=1"),
    *("trainer.batch_size=128", "trainer.max_samples=102400", "trainer.threads=1"),
]
EVERY, NUM_SCENES = 2048, 250

Prepare = Callable[[DualEncoder], None]


@dataclass(frozen=True)
class Row:
    """One line of the table: what differs from the base in the config, and in the fresh model; before: in the config
    too, for the first quarter of the budget only."""

    overrides: Sequence[str] = ()
    prepare: Prepare | None = None
    before: Sequence[str] = ()


def embeddings_times(factor: float) -> Prepare:
    """Larger token and position embeddings (standard deviation 0.02 by default)."""

    def prepare(model: DualEncoder) -> None:
        for tower in (model.scene_tower, model.query_tower):
            tower.embedding.weight.data.mul_(factor)
            tower.positions.data.mul_(factor)

    return prepare


def within_objects(model: DualEncoder) -> None:
    """In the first block of the scene tower a token sees the tokens of its own object only; [EOS] sees all."""
    tower = model.scene_tower
    mask = own_object(tower)
    mask[-1] = True
    tower.transformer.blocks[0].register_forward_pre_hook(lambda _, inputs: (inputs[0], mask, *inputs[2:]))


def own_object(tower: TokenTower) -> Tensor:
    """[t, t]: whether two places of a scene belong to the same object of four tokens."""
    owner = torch.arange(tower.max_length) // 4
    return owner[:, None] == owner


def sinusoidal(model: DualEncoder) -> None:
    """Positions as sines and cosines, which the release has, and values as large."""
    for tower in (model.scene_tower, model.query_tower):
        length, width = tower.positions.shape
        angles = torch.arange(length)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
        tower.positions.data.copy_(torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1))
        tower.embedding.weight.data.mul_(0.5**0.5 / 0.02)


def planted(*, scene: float | None = None, query: float | None = None, freeze: str = "") -> Prepare:
    """Multiplicative towers in place of transformers, on the sides that are given: their products, which are as large
    as their sums by default, times a number. A tower that is frozen stays as it starts."""

    def prepare(model: DualEncoder) -> None:
        for side, factor in (("scene", scene), ("query", query)):
            if factor is not None:
                tower = MultiplicativeTower(4 + 2 * 8, num_concepts=2, output_dim=64, rank=64)
                tower.per_object.projection.weight.data.mul_(factor)
                setattr(model, f"{side}_tower", tower)
        if freeze:
            getattr(model, freeze).requires_grad_(False)

    return prepare


SIZES = (1.0, 0.1, 0.01, 0.001)
INFONCE = [
    "loss.infonce.weight=1",
    "loss.recognition.weight=0",
    "data.queries={captions: 0, objects: 0.6, concepts: 0.4}",
]

OBJECTS_ONLY = [*INFONCE[:2], "data.queries={captions: 0, objects: 1, concepts: 0}"]
MANY_HEADS = ["model.scene.width=64", "model.query.width=64", "model.scene.heads=16"]
SHARP = [*MANY_HEADS, "model.scene.position_std=0.1", "model.scene.attention_gain=3"]

ROWS: dict[str, Row] = {
    **{f"M x {a:g} / M x {b:g}": Row(prepare=planted(scene=a, query=b)) for a in SIZES for b in SIZES},
    **{f"M x {a:g} / M frozen": Row(prepare=planted(scene=a, query=1, freeze="query_tower")) for a in SIZES},
    **{f"M frozen / M x {a:g}": Row(prepare=planted(scene=1, query=a, freeze="scene_tower")) for a in SIZES},
    "T / M": Row(prepare=planted(query=1)),
    "M / T": Row(prepare=planted(scene=1)),
    "base": Row(),
    "a token per object": Row(["model.scene.kind=objects"]),
    "a token per object / M": Row(["model.scene.kind=objects"], planted(query=1)),
    "attention within objects": Row(prepare=within_objects),
    "sinusoidal positions": Row(prepare=sinusoidal),
    "T / M x 0.01": Row(prepare=planted(query=0.01)),
    "T / M frozen": Row(prepare=planted(query=1, freeze="query_tower")),
    "embeddings x 25": Row(prepare=embeddings_times(25)),
    "lr 0.001": Row(["optim.lr=0.001"]),
    "lr 0.002": Row(["optim.lr=0.002"]),
    "lr 0.008": Row(["optim.lr=0.008"]),
    "batch 32": Row(["trainer.batch_size=32"]),
    "batch 512": Row(["trainer.batch_size=512"]),
    "mean readout": Row(["model.scene.readout=mean", "model.query.readout=mean"]),
    "released temperature": Row(["model.initial_logit_scale=3.158", "model.max_logit_scale=10"]),
    "logit scale 40": Row(["model.initial_logit_scale=40"]),
    "width 64": Row(["model.scene.width=64", "model.query.width=64"]),
    "width 128": Row(["model.scene.width=128", "model.query.width=128"]),
    "16 heads of width 4": Row(MANY_HEADS),
    "16 heads, lr 0.001": Row([*MANY_HEADS, "optim.lr=0.001"]),
    "16 heads, positions x 5": Row([*MANY_HEADS, "model.scene.position_std=0.1"]),
    "16 heads, queries and keys x 3": Row([*MANY_HEADS, "model.scene.attention_gain=3"]),
    "sharp attention": Row(SHARP),
    "sharp attention, lr 0.002": Row([*SHARP, "optim.lr=0.002"]),
    "sharp attention, lr 0.001": Row([*SHARP, "optim.lr=0.001"]),
    "depth 1": Row(["model.scene.depth=1", "model.query.depth=1"]),
    "depth 4": Row(["model.scene.depth=4", "model.query.depth=4"]),
    "8 object queries": Row(["loss.recognition.num_objects=8"]),
    "no swaps": Row(["loss.recognition.num_swaps=0"]),
    "random negatives": Row(["loss.recognition.num_random=1"]),
    "collisions 0.9": Row(["data.symbolic.collision_rate=0.9"]),
    "infonce": Row(INFONCE),
    "infonce, swaps": Row([*INFONCE, "data.edits=[swap]"]),
    "infonce, object queries only": Row(OBJECTS_ONLY),
    "object queries only at first": Row(before=OBJECTS_ONLY),
}


class Study:
    """One run: a model, its data, and where it stands."""

    def __init__(self, config: Config, prepare: Prepare | None) -> None:
        set_up_torch(config)
        self.masked = prepare is within_objects
        self.turn_to(config)
        torch.manual_seed(config.run.seed)
        self.model = build_model(model_spec(config, self.source))
        if prepare:
            prepare(self.model)
        settings = config.trainer
        self.module = DualEncoderModule(
            self.model,
            loss=config.loss,
            optim=config.optim,
            seed=config.run.seed,
            batch_size=settings.batch_size,
            max_samples=settings.max_samples,
        )
        self.optimizer = self.module.configure_optimizers()
        self.samples = 0

    def turn_to(self, config: Config) -> None:
        """Goes on with the objective and the queries of another config."""
        self.config = config
        self.source: Source = build_source(config, symbolic_sampler(config.data))

    def step(self) -> None:
        """As `dualenc.module` does it."""
        size = self.config.trainer.batch_size
        batch = self.source.train_batch(self.samples, batch_size=size, rank=0, world=1)
        arrays = {
            name: torch.as_tensor(value) for name, value in batch._asdict().items() if isinstance(value, np.ndarray)
        }
        for group in self.optimizer.param_groups:
            group["lr"] = self.module.learning_rate(self.samples)
        self.optimizer.zero_grad(set_to_none=True)
        objective = BatchObjective(batch._replace(**arrays), self.config.loss, share_identical=True, compile=False)
        scene = self.model.encode_scenes(objective.scenes)
        loss, _ = objective(scene, self.model.encode_queries(objective.texts), self.model.logit_scale)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optim.clip)
        self.optimizer.step()
        self.model.clamp_()
        self.samples += size

    @torch.no_grad()
    def recognised(self, split: str) -> dict[str, float]:
        """Object recognition on a split against all objects, and what bags of concepts reach there."""
        batch = self.source.eval_batch(split, 0, NUM_SCENES)
        objects = torch.as_tensor(batch.scenes.objects)
        scores = self.model.encode_scenes(torch.as_tensor(batch.inputs)) @ self.queries().T
        shown = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, objects, True)
        space, statuses = self.source.space, self.source.split.statuses
        bags = metrics.bag_levels(batch.scenes.values, status=statuses, sizes=space.sizes)
        assert bags.ceiling_split is not None
        return {
            "recognition": metrics.recognition(scores, shown).float().mean().item(),
            "level": bags.level.mean(),
            "ceiling": bags.ceiling.mean(),
            "ceiling_split": bags.ceiling_split.mean(),
        }

    @torch.no_grad()
    def attention(self) -> float | None:
        """How much of a value's attention stays within its object in the first block, for the head with most."""
        tower = self.model.scene_tower
        if type(tower) is not SymbolicTower or self.masked:
            return None  # no token for each value, or a mask that decides it
        x, _ = tower.embed(torch.as_tensor(self.source.eval_batch("val", 0, NUM_SCENES).inputs))
        block = tower.transformer.blocks[0]
        q, k, _ = block.qkv(block.attention_norm(x)).unflatten(2, (3, block.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
        values = torch.arange(tower.max_length - 1) % 4 % 3 > 0  # the second and third token of an object
        within = (weights * own_object(tower)).sum(-1)[:, :, :-1][:, :, values]
        return within.mean((0, 2)).max().item()

    @torch.no_grad()
    def queries(self) -> Tensor:
        """Embeddings of all object queries."""
        tokens = self.source.coder.objects(np.arange(self.source.space.num_objects))
        return self.model.encode_queries(torch.as_tensor(tokens))

    @torch.no_grad()
    def conjunctive(self) -> dict[str, float]:
        """The conjunctive share of each tower's embeddings, over all objects and all ordered pairs of two."""
        space = self.source.space
        number = space.num_objects
        pairs = np.stack(np.divmod(np.arange(number**2), number), axis=1)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        scenes = self.model.encode_scenes(torch.as_tensor(SymbolicScenes.tokens(Scenes.of(space, pairs))))
        held = np.eye(number)
        values = np.zeros((number, space.num_values))
        np.put_along_axis(values, space.decode(np.arange(number)) + space.offsets, 1.0, axis=1)
        return {
            "scene": explained(held[pairs].sum(1), scenes) - explained(values[pairs].sum(1), scenes),
            "query": 1 - explained(values, self.queries()),
        }


def explained(features: np.ndarray, embeddings: Tensor) -> float:
    """The share of the variance of embeddings [n, d] that a linear function of features [n, f] explains."""
    y = embeddings.double().numpy()
    y = y - y.mean(0)
    x = features - features.mean(0)
    fitted = x @ np.linalg.lstsq(x, y, rcond=1e-10)[0]
    return float((fitted**2).sum() / (y**2).sum())


def config_of(overrides: Sequence[str], seed: int) -> Config:
    """The base with what a row changes; the seed is that of split, scenes, initialisation and order."""
    return configuration.load(None, [*BASE, *overrides, f"run.seed={seed}", f"data.seed={seed}"])


def run(row: Row, seed: int, samples: int) -> dict[str, Any]:
    """Trains until the run escapes, or for so many samples."""
    config = config_of(row.overrides, seed)
    study = Study(config_of(row.before, seed) if row.before else config, row.prepare)
    share = study.conjunctive()
    start, history = time.process_time(), []
    escape = passes = None
    while study.samples < samples and escape is None:
        if row.before and study.samples >= samples // 4 and study.config is not config:
            study.turn_to(config)
        study.step()
        if study.samples % EVERY < study.config.trainer.batch_size:
            val = study.recognised("val")
            history.append(val["recognition"])
            lowest = min(history[-2:]) if len(history) > 1 else 0.0
            if passes is None and lowest > val["ceiling"]:
                passes = study.samples
            if lowest > val["ceiling_split"]:
                escape = study.samples
    return {
        **{"samples": study.samples, "escape": escape, "passes": passes},
        **{f"val/{key}": value for key, value in val.items()},
        **{f"ood/{key}": value for key, value in study.recognised("ood").items()},
        **{f"conjunctive/{key}": value for key, value in share.items()},
        "attention": study.attention(),
        **{"seconds": time.process_time() - start, "history": history},
    }


def main() -> None:
    """Runs what has not been run, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME", help="all by default")
    parser.add_argument("--seeds", type=int, default=1, help="of split, scenes, initialisation and order together")
    parser.add_argument("--samples", type=int, default=102400, help="a run's budget")
    parser.add_argument("--results", type=Path, default=Path("runs/plateau"), help="folder of finished runs")
    parser.add_argument(
        "--quick", action="store_true", help="8,192 samples of each row, kept nowhere: shows that it runs"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures to this file too")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.samples, chosen.rows = 4096, ["M x 1 / M x 1", "T / M", "base"]
    chosen.results.mkdir(parents=True, exist_ok=True)
    done = chosen.results / "plateau.jsonl"
    found = [json.loads(line) for line in done.read_text().splitlines()] if done.exists() else []
    results = []
    for name in chosen.rows:
        for seed in range(chosen.seeds):
            config = config_of(ROWS[name].overrides, seed)
            digest = configs.short_hash(configuration.identity(config, "symbolic"))
            key = {"row": name, "seed": seed, "budget": chosen.samples, "config": digest}
            result = next((old for old in found if key.items() <= old.items()), None)
            if result is None:
                result = {**key, **run(ROWS[name], seed, chosen.samples)}
                with done.open("a") as file:
                    file.write(json.dumps(result) + "\n")
            results.append(result)
            print(f"{name}, seed {seed}: {outcome(result)}", file=sys.stderr, flush=True)
    columns = (
        "scene / query",
        "seed",
        "conjunctive: scene",
        "query",
        "passes ceiling",
        "escape",
        "attention",
        "val",
        "ood",
        "level",
    )
    table(f"{chosen.samples:,} samples at most", columns, map(cells, results))
    numbers = {f"{r['row']}/{r['seed']}/{k}": v for r in results for k, v in r.items() if isinstance(v, float)}
    write(numbers, chosen.json)


def outcome(result: dict[str, Any]) -> str:
    """In words."""
    if result["escape"] is None:
        return f"not out of the plateau after {result['samples']:,} samples"
    return f"out of the plateau after {result['escape']:,} samples"


def cells(result: dict[str, Any]) -> list[str]:
    """A line of the table; val, ood and the bag level of ood are those at the end of the run."""
    counts = ["-" if result[key] is None else f"{result[key]:,}" for key in ("passes", "escape")]
    shares = [f"{result[f'conjunctive/{side}']:.4f}" for side in ("scene", "query")]
    attention = result["attention"]
    counts.append("" if attention is None else f"{attention:.2f}")
    ends = [f"{result[key]:.2f}" for key in ("val/recognition", "ood/recognition", "ood/level")]
    return [result["row"], str(result["seed"]), *shares, *counts, *ends]


if __name__ == "__main__":
    main()

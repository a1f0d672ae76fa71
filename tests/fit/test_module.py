"""The training step and the callbacks' arithmetic, without a Trainer."""

import math
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dualenc.callbacks import CoverageCallback, ThroughputCallback
from dualenc.callbacks.throughput import matmul_rate
from dualenc.config import LossConfig, OptimConfig
from dualenc.data import QuerySettings, SymbolicSource, TrainBatch
from dualenc.data.queries import SymbolicScenes
from dualenc.models import DualEncoder, SymbolicTower, step_flops
from dualenc.module import BatchObjective, DualEncoderModule, step_seed
from dualenc.scenes import ConceptSpace, ObjectSplit, SceneSampler

BATCH, LAST = 16, 160


@pytest.fixture
def source() -> SymbolicSource:
    space = ConceptSpace.symbolic(num_concepts=2, num_values=6)
    split = ObjectSplit.uniform(space, coverage=0.6, seed=1)
    sampler = SceneSampler(split, seed=2, counts={1: 0.3, 2: 0.7}, collision_rate=0.5)
    settings = QuerySettings(seed=3, captions=0.0, objects=0.6, concepts=0.4, edits=("swap",), edits_per_scene=1)
    return SymbolicSource(sampler, query_tower="symbolic", settings=settings, num_samples=10)


def make_module(source: SymbolicSource, **loss: str) -> DualEncoderModule:
    torch.manual_seed(0)
    vocabulary = SymbolicScenes.vocabulary_size(source.space)
    towers = [
        SymbolicTower(vocabulary, width=16, depth=1, heads=2, output_dim=8, max_length=length)
        for length in (SymbolicScenes.max_length(source.space, 2), source.coder.max_length)
    ]
    return DualEncoderModule(
        DualEncoder(*towers),
        loss=LossConfig(**loss),
        optim=OptimConfig(lr=0.5, warmup=0.25, final_lr=0.1),
        seed=0,
        batch_size=BATCH,
        max_samples=LAST,
    )


def as_tensors(batch: TrainBatch) -> TrainBatch:
    return TrainBatch(*(torch.as_tensor(x) if isinstance(x, np.ndarray) else x for x in batch))


def test_the_rate_rises_linearly_then_falls_as_a_cosine(source: SymbolicSource) -> None:
    module = make_module(source)
    rates = [module.learning_rate(samples) for samples in range(0, LAST + 1, BATCH)]
    assert rates[0] == pytest.approx(0.5 * 16 / 56)
    assert rates[1] - rates[0] == pytest.approx(rates[2] - rates[1])
    assert module.learning_rate(40) == 0.5
    middle = 0.5 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (80 - 40) / 120)))
    assert module.learning_rate(80) == pytest.approx(middle)
    assert rates[-1] == pytest.approx(0.05)


def test_the_objective_is_infonce_over_truth_or_over_the_diagonal(source: SymbolicSource) -> None:
    batch = as_tensors(source.train_batch(0, batch_size=BATCH, rank=0, world=1))
    losses = {}
    for targets in ("truth", "diagonal"):
        module = make_module(source, targets=targets)
        scene, query = module.model.encode_scenes(batch.scenes), module.model.encode_queries(batch.queries)
        objective = BatchObjective(batch, module.loss, share_identical=True, compile=False)
        texts = module.model.encode_queries(objective.texts)
        loss, report = objective(module.model.encode_scenes(objective.scenes), texts, module.model.logit_scale)
        logits = module.model.logit_scale * scene @ torch.cat([query, module.model.encode_queries(batch.extra)]).T
        true = torch.cat([batch.targets, batch.extra_targets], dim=1)
        if targets == "diagonal":
            true = torch.zeros_like(true)
            true[range(BATCH), range(BATCH)] = True
        rows = [
            -(logits.log_softmax(1)[i][true[i]]).mean() for i in range(BATCH) if true[i].any() and not true[i].all()
        ]
        columns = [
            -(logits.log_softmax(0)[:, j][true[:, j]]).mean()
            for j in range(logits.shape[1])
            if true[:, j].any() and not true[:, j].all()
        ]
        expected = (torch.stack(rows).mean() + torch.stack(columns).mean()) / 2
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
        assert report["infonce"].item() == pytest.approx(loss.item())
        losses[targets] = loss.item()
    assert losses["truth"] != pytest.approx(losses["diagonal"], rel=1e-3)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=str)
def test_identical_texts_and_scenes_embedded_once_make_the_same_step(
    source: SymbolicSource, dtype: torch.dtype, tolerance: float
) -> None:
    batch = as_tensors(source.train_batch(0, batch_size=BATCH, rank=0, world=1))
    batch = batch._replace(
        scenes=batch.scenes[torch.arange(BATCH) // 2], targets=batch.targets[torch.arange(BATCH) // 2]
    )
    models, objectives, embeddings = [], [], []
    for share in (True, False):
        module = make_module(source)
        model = module.model.to(dtype)
        objective = BatchObjective(batch, module.loss, share_identical=share, compile=False)
        texts = model.encode_queries(objective.texts)
        objective(model.encode_scenes(objective.scenes), texts, model.logit_scale)[0].backward()
        models.append(model)
        objectives.append(objective)
        embeddings.append(objective.embedded(texts))
    assert len(objectives[0].texts) < len(objectives[1].texts) == len(batch.queries) + len(batch.extra)
    assert len(objectives[0].scenes) <= BATCH / 2 < len(objectives[1].scenes) == BATCH
    torch.testing.assert_close(*embeddings, rtol=tolerance, atol=tolerance)
    for weight, expected in zip(*(model.parameters() for model in models)):
        assert (weight.grad - expected.grad).norm() <= 10 * tolerance * expected.grad.norm()


def test_step_seeds_differ_between_steps_ranks_and_runs() -> None:
    seeds = {step_seed(seed, samples, rank) for seed in range(8) for samples in range(0, 640, 64) for rank in range(8)}
    assert len(seeds) == 8 * 10 * 8
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_coverage_counts_what_was_seen_and_survives_a_checkpoint(source: SymbolicSource) -> None:
    def make() -> CoverageCallback:
        return CoverageCallback({}, split=source.split, max_objects=2, every=1)

    callback, objects, pairs, collisions = make(), set(), set(), 0
    for step in range(6):
        if step == 3:
            state = callback.state_dict()
            callback = make()
            callback.load_state_dict(state)
        batch = as_tensors(source.train_batch(step * BATCH, batch_size=BATCH, rank=0, world=1))
        clock = SimpleNamespace(samples=(step + 1) * BATCH, batch_size=BATCH, max_samples=LAST)
        callback.after_step(None, clock, {}, batch)
        for scene in batch.objects.tolist():
            present = sorted(i for i in scene if i >= 0)
            objects.update(present)
            pairs.update(combinations(present, 2))
        collisions += batch.collisions
    numbers = callback.record
    values = source.space.decode(np.array(sorted(objects)))
    number = len(source.split.train)
    assert numbers["coverage/objects_seen"] == len(objects)
    assert numbers["coverage/objects_allowed"] == number
    assert numbers["coverage/pairs_seen"] == len(pairs)
    assert numbers["coverage/pairs_allowed"] == number * (number - 1) // 2
    assert numbers["coverage/values_seen"] == sum(len(set(values[:, k])) for k in range(2))
    assert numbers["coverage/collisions_per_batch"] == collisions / 6
    assert collisions == 6 * BATCH // 2


def test_throughput_counts_steps_and_waiting_and_nothing_else(source: SymbolicSource, monkeypatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("dualenc.callbacks.throughput.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("dualenc.callbacks.throughput.matmul_rate", lambda device, dtype: 1e9)
    module = make_module(source)
    batch = as_tensors(source.train_batch(0, batch_size=BATCH, rank=0, world=1))
    module.embedded = batch.scenes, batch.queries
    callback = ThroughputCallback({}, every=2)
    callback.on_train_start(SimpleNamespace(precision="32-true"), module)
    for step in (1, 2, 3, 4):
        clock[0] += 0.25  # waiting for the batch
        callback.on_train_batch_start(None, module, batch, 0)
        clock[0] += 0.75  # the step
        module.samples = step * BATCH
        callback.record.clear()
        callback.after_step(None, module, {}, batch)
        clock[0] += 5.0  # validation, logs and checkpoints
        callback.last.on_train_batch_end()
        assert bool(callback.record) == (step in (1, 2, 4))
    numbers = callback.record
    assert numbers["throughput/samples_per_second"] == pytest.approx(BATCH)
    assert numbers["throughput/data_wait"] == pytest.approx(0.25)
    lengths = [float((tokens != 0).sum() / len(tokens)) for tokens in module.embedded]
    work = step_flops(
        module.model, num_scenes=BATCH, num_queries=BATCH, scene_length=lengths[0], query_length=lengths[1]
    )
    assert numbers["throughput/gflops"] == pytest.approx(work / 1e9, rel=1e-4)
    assert numbers["throughput/flop_utilisation"] == pytest.approx(work / 1e9, rel=1e-4)
    assert 0 < numbers["throughput/peak_memory_gib"] < 1000


def test_the_matmul_rate_of_this_machine_is_a_rate() -> None:
    assert 1e8 < matmul_rate(torch.device("cpu"), dtype=torch.float32) < 1e15

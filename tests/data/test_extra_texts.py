"""Extra texts of a batch: whose they are, paraphrases that are true, and judges that say what matrices say."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning.utilities import move_data_to_device
from torch.utils.data import DataLoader

from dualenc.config import DataConfig, ModelConfig
from dualenc.data import Dataset, PairJudge, PoolSettings, QuerySettings, ShardSource, SymbolicSource, TrainBatch
from dualenc.data.datamodule import TrainBatches
from dualenc.data.open import open_data
from dualenc.errors import InputError
from dualenc.scenes import EDIT_NAMES, ConceptSpace, Grammar, ObjectSplit, SceneSampler, other_orders, truth, undecided

SPACE = ConceptSpace.symbolic(num_concepts=3, num_values=4)
SPLIT = ObjectSplit.uniform(SPACE, coverage=0.5, seed=0)
SAMPLER = SceneSampler(SPLIT, seed=0, counts={1: 0.2, 2: 0.4, 3: 0.4})
SAID = ("targets", "extra_targets", "undecided", "extra_undecided", "concept_targets", "object_targets")
POOLS = PoolSettings(num_concepts=64, num_objects=8, num_random=1, num_swaps=1, negatives="train")


def settings(**changes: Any) -> QuerySettings:
    mix = {"seed": 3, "captions": 1.0, "objects": 0.0, "concepts": 0.0, "edits": ("swap", "add"), "edits_per_scene": 1}
    return QuerySettings(**{**mix, **changes})


def drawn(**changes: Any) -> SymbolicSource:
    return SymbolicSource(SAMPLER, query_tower="text", settings=settings(**changes), num_samples=1)


def shards(dataset: Dataset, **changes: Any) -> ShardSource:
    return ShardSource(dataset, query_tower="text", scene_tower="symbolic", settings=settings(**changes))


def parts(source: Any, position: int, world: int) -> list[TrainBatch]:
    return [source.train_batch(position, batch_size=24, rank=rank, world=world) for rank in range(world)]


def texts(source: Any, tokens: np.ndarray) -> list[str]:
    return [source.tokenizer.decode(row) for row in tokens if row.any()]


def listed(source: Any, text: str) -> list[int]:
    """The objects that a caption of a drawn scene lists, in order of mention."""
    return SPACE.encode(Grammar(SPACE).parse(text)[:, 1:]).tolist()


def test_edits_and_paraphrases_are_those_of_their_owners(rich_dataset: Dataset) -> None:
    source, table = (
        shards(rich_dataset, edits=("swap", "negation", "depth2"), paraphrases=2),
        rich_dataset.table("train"),
    )
    num_paraphrases = 0
    for part in (part for position in (0, 48) for part in parts(source, position, 2)):
        found: list[tuple[int, str]] = []
        for i, row in enumerate(part.indices):
            for operator in ("swap", "negation", "depth2"):
                there = table.edit_operator[row] == EDIT_NAMES.index(operator)
                found += [(i, text) for text in texts(source, table.edit_tokens[row][there][:1])]
            positives = texts(source, table.positive_tokens[row])
            found += [(i, text) for text in positives]
            num_paraphrases += len(positives)
        assert sorted(zip(part.extra_owner.tolist(), texts(source, part.extra))) == sorted(found)
    assert num_paraphrases > 60
    fewer = shards(rich_dataset, edits=(), paraphrases=1).train_batch(0, batch_size=24, rank=0, world=1)
    assert len(set(fewer.extra_owner.tolist())) == len(fewer.extra_owner)
    assert fewer.edits == 0


def owned(source: Any, position: int, world: int) -> list[tuple[int, tuple[int, ...]]]:
    """Every extra text of a global batch with the scene that it was made of."""
    b, several = 24 // world, parts(source, position, world)
    return sorted(
        (rank * b + owner, tuple(row[row != 0].tolist()))
        for rank, part in enumerate(several)
        for owner, row in zip(part.extra_owner.tolist(), part.extra, strict=True)
    )


def test_owners_are_the_same_for_any_number_of_processes(rich_dataset: Dataset) -> None:
    for source in (drawn(paraphrases=2), shards(rich_dataset, paraphrases=2)):
        assert owned(source, 24, 1) == owned(source, 24, 2) == owned(source, 24, 4)


def test_edited_objects_have_owners_too(dataset: Dataset) -> None:
    """For a tower that reads objects: an object is made of its owner's by one value or two, and is not there."""
    names: dict[str, Any] = {
        "query_tower": "symbolic",
        "settings": settings(captions=0.0, objects=1.0, edits=("swap", "replace")),
    }
    for source in (
        ShardSource(dataset, scene_tower="symbolic", **names),
        SymbolicSource(SAMPLER, num_samples=1, **names),
    ):
        [whole] = parts(source, 24, 1)
        assert len(whole.extra_owner) == len(whole.extra) > 24
        assert not whole.extra_targets[whole.extra_owner, np.arange(len(whole.extra))].any()
        assert owned(source, 24, 1) == owned(source, 24, 4)
        space = source.space
        queries = source.coder.objects(np.arange(space.num_objects)).tolist()
        for owner, row in zip(whole.extra_owner, whole.extra.tolist()):
            shown = whole.objects[owner]
            differ = space.decode(shown[shown >= 0]) != space.decode(queries.index(row))
            assert differ.sum(axis=1).min() == 1


def test_paraphrases_of_drawn_scenes_are_other_orders_of_mention() -> None:
    source, without = drawn(paraphrases=3), drawn()
    for position in (0, 24):
        [batch], [plain] = parts(source, position, 1), parts(without, position, 1)
        assert batch.edits == plain.edits == len(plain.extra)
        said = [listed(source, text) for text in texts(source, batch.extra)]
        assert said[: batch.edits] == [listed(source, text) for text in texts(source, plain.extra)]
        by_owner: dict[int, list[list[int]]] = {i: [] for i in range(24)}
        for owner, objects in zip(batch.extra_owner[batch.edits :].tolist(), said[batch.edits :]):
            by_owner[owner].append(objects)
        for owner, orders in by_owner.items():
            shown = [i for i in batch.objects[owner].tolist() if i >= 0]
            assert len(orders) == min(3, [0, 0, 1, 5][len(shown)])
            assert len({tuple(order) for order in orders}) == len(orders)
            assert all(sorted(order) == sorted(shown) and order != shown for order in orders)
        columns = np.arange(batch.edits, len(batch.extra))
        assert batch.extra_targets[batch.extra_owner[columns], columns].all()
        assert not batch.extra_targets[batch.extra_owner[: batch.edits], np.arange(batch.edits)].any()


def test_other_orders_are_all_of_them_and_equally_likely() -> None:
    objects = np.array([[5, 7, 9], [5, 7, -1], [5, -1, -1]])
    orders, exists = other_orders(np.repeat(objects, 3000, axis=0), np.random.default_rng(0).random((9000, 5)))
    assert exists.reshape(3, 3000, 5).all(axis=1).sum(axis=1).tolist() == [5, 1, 0]
    assert exists.reshape(3, 3000, 5).any(axis=1).sum(axis=1).tolist() == [5, 1, 0]
    for row in orders[:200]:
        assert len({tuple(order) for order in row.tolist()} - {(5, 7, 9)}) == 5
    found, counts = np.unique(orders[:3000, 0], axis=0, return_counts=True)
    assert len(found) == 5
    assert np.all(np.abs(counts - 600) < 5 * np.sqrt(600))


def test_truth_is_judged_for_paraphrases_as_for_edits(rich_dataset: Dataset) -> None:
    source = shards(rich_dataset, paraphrases=2)
    for position in (0, 24, 48):
        several = parts(source, position, 2)
        most = max(len(part.extra) for part in several)
        for part in several:
            scenes = rich_dataset.scenes("train", part.indices)
            for r, other in enumerate(several):
                for k, text in enumerate(texts(source, other.extra)):
                    form, column = rich_dataset.grammar.parse(text)[None], r * most + k
                    assert np.array_equal(part.extra_targets[:, column], truth(form, scenes)[:, 0])
                    assert np.array_equal(part.extra_undecided[:, column], undecided(form, scenes)[:, 0])
                padding = slice(r * most + len(other.extra), (r + 1) * most)
                assert not part.extra_targets[:, padding].any()
                assert not part.extra_undecided[:, padding].any()


def all_judged(monkeypatch: pytest.MonkeyPatch, make: Callable[[], list[TrainBatch]]) -> list[TrainBatch]:
    with monkeypatch.context() as context:
        context.setattr("dualenc.data.pairs.MAX_PAIRS", 0)
        return make()


@pytest.mark.parametrize("world", [1, 4])
def test_judges_say_what_the_matrices_say(rich_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, world: int) -> None:
    source = shards(rich_dataset, captions=0.6, objects=0.4, paraphrases=2, recognition=POOLS)
    matrices = parts(source, 48, world)
    judged = all_judged(monkeypatch, lambda: parts(source, 48, world))
    for matrix, judge in zip(matrices, judged):
        for name in SAID:
            expected, asked = getattr(matrix, name), pickle.loads(pickle.dumps(getattr(judge, name)))
            assert isinstance(asked, PairJudge)
            for some in (slice(0, len(expected)), slice(1, 4)):
                for columns in (slice(0, expected.shape[1]), slice(3, 8)):
                    block = asked(some, columns)
                    assert block.dtype == torch.bool
                    assert torch.equal(block, torch.from_numpy(expected[some, columns])), name
        for name in set(matrix._fields) - set(SAID):
            assert np.array_equal(getattr(matrix, name), getattr(judge, name)), name


@pytest.mark.parametrize("judged", [False, True])
def test_batches_come_whole_through_loader_processes_and_to_a_device(
    rich_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, judged: bool
) -> None:
    if judged:
        monkeypatch.setattr("dualenc.data.pairs.MAX_PAIRS", 0)
    source = shards(rich_dataset, paraphrases=1, recognition=POOLS)
    batches = TrainBatches(source, batch_size=24, rank=1, world=2)
    loader = DataLoader(batches, batch_size=None, sampler=[0, 24], num_workers=1, multiprocessing_context="fork")
    for position, loaded in zip((0, 24), loader):
        made, moved = batches[position], move_data_to_device(loaded, torch.device("cpu"))
        assert isinstance(moved, TrainBatch)
        for name, value in moved._asdict().items():
            expected = getattr(made, name)
            if isinstance(expected, np.ndarray):
                assert torch.equal(value, torch.from_numpy(expected)), name
            elif isinstance(expected, PairJudge):
                both = slice(0, 5), slice(0, 7)
                assert torch.equal(value(*both), expected(*both)), name
            else:
                assert value == expected, name
        assert isinstance(moved.targets, PairJudge) == judged


def test_a_dataset_without_paraphrases_is_refused_with_the_fix(dataset: Dataset, rich_dataset: Dataset) -> None:
    for data, held in ((dataset, 0), (rich_dataset, 2)):
        with pytest.raises(InputError) as refused:
            open_data(DataConfig(path=str(data.folder), paraphrases=3, edits=[]), ModelConfig(), batch_size=2)
        message = str(refused.value)
        assert message.startswith(f"data.paraphrases: the dataset holds {held} a scene, 3 are asked for")
        assert message.endswith("data.captions.positives=3")
        assert "\n" not in message
    open_data(DataConfig(path=str(rich_dataset.folder), paraphrases=2), ModelConfig(), batch_size=2)

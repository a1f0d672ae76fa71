"""The concept and object queries of a step: a function of seed and position, shared out, true as said, legal."""

from typing import Any

import numpy as np
import pytest

from dualenc.data import Dataset, PoolSettings, QuerySettings, ShardSource, Source, SymbolicSource, TrainBatch
from dualenc.data.pools import Pools, draw_pools, shows_objects, shows_values
from dualenc.scenes import EXISTS, OOD, TRAIN, ConceptSpace, ObjectSplit, Scenes, SceneSampler, truth
from dualenc.scenes.concepts import LISTED

SPACE = ConceptSpace.symbolic(num_concepts=3, num_values=4)
SPLIT = ObjectSplit.uniform(SPACE, coverage=0.5, seed=0)
SAMPLER = SceneSampler(SPLIT, seed=0, counts={1: 0.2, 2: 0.4, 3: 0.4})
POOLS: dict[str, Any] = {"num_concepts": 64, "num_objects": 8, "num_random": 1, "num_swaps": 1, "negatives": "train"}


def scenes_at(position: int, number: int = 24) -> Scenes:
    return Scenes.of(SPACE, SAMPLER.draw_objects("train", position, position + number))


def pools_at(position: int, *, seed: int = 1, number: int = 24, **changes: Any) -> Pools:
    scenes = scenes_at(position, number)
    return draw_pools(scenes, SPLIT, PoolSettings(**{**POOLS, **changes}), seed=seed, position=position)


@pytest.fixture(params=["shards, text", "rich shards, text", "shards, symbolic", "drawn, text", "drawn, symbolic"])
def source(request: pytest.FixtureRequest, dataset: Dataset, rich_dataset: Dataset) -> Source:
    kind, query = request.param.split(", ")
    mix = {"captions": 0.4, "objects": 0.4, "concepts": 0.2}
    if query == "symbolic":
        mix = {"captions": 0.0, "objects": 0.6, "concepts": 0.4}
    settings = QuerySettings(seed=1, **mix, edits=(), edits_per_scene=1, recognition=PoolSettings(**POOLS))
    if kind == "drawn":
        return SymbolicSource(SAMPLER, query_tower=query, settings=settings, num_samples=10)
    data = rich_dataset if kind.startswith("rich") else dataset
    return ShardSource(data, query_tower=query, scene_tower="symbolic", settings=settings)


def parts(source: Source, position: int, world: int) -> list[TrainBatch]:
    return [source.train_batch(position, batch_size=24, rank=rank, world=world) for rank in range(world)]


def rows(tokens: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(row[row != 0].tolist()) for row in tokens]


def present(targets: np.ndarray, sizes: list[int]) -> np.ndarray:
    """The columns that are no padding; those that are must be False."""
    most = max(sizes)
    assert targets.shape[1] == most * len(sizes)
    real = np.concatenate([r * most + np.arange(size) for r, size in enumerate(sizes)])
    assert not np.delete(targets, real, axis=1).any()
    return targets[:, real]


@pytest.mark.parametrize("world", [2, 4, 24])
def test_the_processes_share_out_the_pool_of_one(source: Source, world: int) -> None:
    for position in (0, 72):
        [whole], several = parts(source, position, 1), parts(source, position, world)
        for name in ("concept", "object"):
            shares = [getattr(part, f"{name}_queries") for part in several]
            sizes = [len(share) for share in shares]
            assert max(sizes) - min(sizes) <= 1
            assert [row for share in shares for row in rows(share)] == rows(getattr(whole, f"{name}_queries"))
            targets = [present(getattr(part, f"{name}_targets"), sizes) for part in several]
            assert np.array_equal(np.concatenate(targets), getattr(whole, f"{name}_targets"))
    if world == 24:
        assert min(len(part.concept_queries) for part in several) == 0, "there are fewer values than processes"


def test_targets_say_which_objects_and_values_a_scene_shows(source: Source) -> None:
    [batch] = parts(source, 48, 1)
    space, shown = source.space, [set(scene.tolist()) for scene in batch.objects]
    objects = rows(source.coder.objects(np.arange(space.num_objects)))
    asked = [objects.index(row) for row in rows(batch.object_queries)]
    assert asked == sorted(set(asked))
    assert batch.object_targets.tolist() == [[i in scene for i in asked] for scene in shown]
    assert batch.object_targets.any(axis=1).all() or len(batch.object_queries) > POOLS["num_objects"]
    assert rows(batch.concept_queries) == rows(source.coder.concepts())
    values = [{int(v) for i in scene if i >= 0 for v in space.decode(i) + space.offsets} for scene in shown]
    assert batch.concept_targets.tolist() == [[v in scene for v in range(space.num_values)] for scene in values]


def test_without_the_loss_there_are_no_pools() -> None:
    settings = QuerySettings(seed=1, captions=1.0, objects=0.0, concepts=0.0, edits=(), edits_per_scene=1)
    batch = SymbolicSource(SAMPLER, query_tower="text", settings=settings, num_samples=1).train_batch(
        0, batch_size=8, rank=0, world=1
    )
    assert batch.concept_queries is batch.concept_targets is batch.object_queries is batch.object_targets is None


def test_a_pool_is_a_function_of_seed_and_position() -> None:
    few = {"num_concepts": 5}
    one, again = pools_at(48, **few), pools_at(48, **few)
    for name in ("concepts", "objects"):
        assert np.array_equal(getattr(one, name), getattr(again, name))
        assert not np.array_equal(getattr(one, name), getattr(pools_at(48, seed=2, **few), name))
        assert not np.array_equal(getattr(one, name), getattr(pools_at(72, **few), name))


@pytest.mark.parametrize("negatives", ["train", "all"])
def test_only_the_released_pool_shows_held_out_objects(negatives: str) -> None:
    """Law 4."""
    for what in ({"num_random": 2, "num_swaps": 0}, {"num_random": 0, "num_swaps": 2}):
        drawn = np.concatenate(
            [pools_at(position, negatives=negatives, **what).objects for position in range(0, 240, 24)]
        )
        held_out = (SPLIT.status(drawn) != TRAIN).any()
        assert held_out == (negatives == "all"), what
        assert (SPLIT.status(drawn) == OOD).any() == held_out


def test_there_are_as_many_of_each_kind_as_asked_for() -> None:
    for position in range(0, 240, 8):
        scenes = scenes_at(position, 8)
        shown = set(scenes.objects[scenes.objects >= 0].tolist())
        own = pools_at(position, number=8, num_objects=5, num_random=0, num_swaps=0).objects
        assert len(own) == 5
        assert set(own.tolist()) < shown
        everything = pools_at(position, number=8, num_objects=99, num_random=0, num_swaps=0).objects
        assert set(everything.tolist()) == shown
        more = set(pools_at(position, number=8, num_objects=5, num_random=2, num_swaps=0).objects.tolist())
        assert set(own.tolist()) <= more
        assert len(more) == 15
        assert not (more - set(own.tolist())) & shown, "no scene shows a random one"
        exhausted = pools_at(position, number=8, num_objects=5, num_random=99, num_swaps=0).objects
        assert len(exhausted) == 5 + len(SPLIT.train) - len(shown)
        values = pools_at(position, number=8, num_concepts=4).concepts
        forms = np.full((SPACE.num_values, 1, 4), -1)
        forms[:, 0, 0] = EXISTS
        forms[np.arange(12), 0, 1 + np.arange(12) // 4] = np.arange(12) % 4
        assert len(values) == 4
        assert truth(forms, scenes)[:, values].any(axis=0).all(), "values that some scene shows"


def test_swapped_objects_are_made_of_two_objects_of_one_scene() -> None:
    found = 0
    for position in range(0, 480, 8):
        scenes = scenes_at(position, 8)
        own = pools_at(position, number=8, num_objects=1, num_random=0, num_swaps=0).objects
        swapped = np.setdiff1d(pools_at(position, number=8, num_objects=1, num_random=0).objects, own)
        assert len(swapped) <= 8
        for made in SPACE.decode(swapped):
            ways = [
                k
                for objects, values in zip(scenes.objects, scenes.values)
                if SPACE.encode(made) not in objects
                for i in np.flatnonzero(objects >= 0)
                for j in np.flatnonzero(objects >= 0)
                for k in range(3)
                if np.array_equal(np.where(np.arange(3) == k, values[j], values[i]), made)
            ]
            assert ways
            found += 1
    assert found > 200


def test_scenes_of_one_object_have_none_to_swap() -> None:
    scenes = Scenes.of(SPACE, SPLIT.train[:6, None])
    pools = draw_pools(scenes, SPLIT, PoolSettings(**{**POOLS, "num_random": 0}), seed=0, position=0)
    assert pools.objects.tolist() == SPLIT.train[:6].tolist()


def test_where_recognition_is_alone_a_batch_holds_nothing_else(dataset: Dataset) -> None:
    queries: dict[str, Any] = {"captions": 0.0, "objects": 0.6, "concepts": 0.4, "edits": (), "edits_per_scene": 1}
    pools = PoolSettings(**POOLS)
    both, alone = (QuerySettings(seed=1, recognition=pools, of_scenes=of, **queries) for of in (True, False))

    def sources(settings: QuerySettings) -> list[Source]:
        return [
            SymbolicSource(SAMPLER, query_tower="symbolic", settings=settings, num_samples=10),
            ShardSource(dataset, query_tower="symbolic", scene_tower="symbolic", settings=settings),
        ]

    for one, other in zip(sources(both), sources(alone)):
        for rank in (0, 1):
            expected, batch = (s.train_batch(24, batch_size=24, rank=rank, world=2)._asdict() for s in (one, other))
            assert len(expected["queries"]) == len(batch["targets"]) == 12
            assert len(batch["queries"]) == len(batch["extra"]) == batch["targets"].size == batch["edits"] == 0
            for name in ("scenes", "indices", "objects", "concept_queries", "concept_targets", "object_targets"):
                assert np.array_equal(batch[name], expected[name]), name
            assert (batch["crc32"], batch["collisions"]) == (expected["crc32"], expected["collisions"])


@pytest.mark.parametrize("num_values", [3, 6, 60])  # fewer objects than there are in the scenes, more, and no table
def test_what_scenes_show_is_found_in_spaces_with_and_without_tables(num_values: int) -> None:
    space = ConceptSpace.symbolic(num_concepts=3, num_values=num_values)
    assert (space.num_objects > LISTED) == (num_values == 60)
    rng = np.random.default_rng(0)
    objects = rng.integers(-1, space.num_objects, (40, 3))
    scenes = Scenes.of(space, np.take_along_axis(objects, np.argsort(objects < 0, axis=1, kind="stable"), axis=1))
    asked = np.append(np.unique(np.append(objects[:20], 7))[1:], -1)
    expected = [[o >= 0 and o in scene for o in asked.tolist()] for scene in scenes.objects.tolist()]
    assert shows_objects(asked, scenes).tolist() == expected
    assert np.any(expected)
    shown = shows_values(np.arange(space.num_values), scenes)
    numbers = [
        [k * num_values + v for row in rows for k, v in enumerate(row) if v >= 0] for rows in scenes.values.tolist()
    ]
    assert [set(np.flatnonzero(row).tolist()) for row in shown] == [set(row) for row in numbers]

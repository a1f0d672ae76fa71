"""Training batches: the same global batch for any number of processes, and targets that are the truth."""

import zlib
from collections import Counter
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from dualenc.data import Dataset, QuerySettings, ShardSource, Source, SymbolicSource, TrainBatch
from dualenc.data.queries import SymbolicScenes
from dualenc.scenes import ANY, TRAIN, ConceptSpace, Grammar, ObjectSplit, Scenes, SceneSampler, Tokenizer, truth

SPACE = ConceptSpace.symbolic(num_concepts=3, num_values=4)
SPLIT = ObjectSplit.uniform(SPACE, coverage=0.5, seed=0)
FIELDS = ("indices", "scenes", "targets", "extra_targets")


def settings(**changes: Any) -> QuerySettings:
    mix = {"captions": 0.4, "objects": 0.35, "concepts": 0.25}
    return QuerySettings(**{"seed": 1, **mix, "edits": ("swap", "replace", "add"), "edits_per_scene": 1, **changes})


COUNTS = {1: 0.2, 2: 0.4, 3: 0.4}


def symbolic(query_tower: str, counts: dict[int, float] = COUNTS, **changes: Any) -> SymbolicSource:
    sampler = SceneSampler(SPLIT, seed=0, counts=counts, collision_rate=0.5)
    if query_tower == "symbolic":
        changes = {"captions": 0.0, "objects": 0.6, "concepts": 0.4, **changes}
    return SymbolicSource(sampler, query_tower=query_tower, settings=settings(**changes), num_samples=50)


@pytest.fixture(params=["shards, text", "shards, symbolic", "drawn, text", "drawn, symbolic"])
def source(request: pytest.FixtureRequest, dataset: Dataset) -> Source:
    kind, query = request.param.split(", ")
    if kind == "drawn":
        return symbolic(query)
    changes = {} if query == "text" else {"captions": 0.0, "objects": 0.6, "concepts": 0.4}
    scene = "vision" if query == "text" else "symbolic"
    return ShardSource(dataset, query_tower=query, scene_tower=scene, settings=settings(**changes))


def parts(source: Source, position: int, world: int) -> list[TrainBatch]:
    return [source.train_batch(position, batch_size=24, rank=rank, world=world) for rank in range(world)]


def rows(tokens: np.ndarray) -> list[tuple[int, ...]]:
    """Token rows without padding."""
    return [tuple(row[row != 0].tolist()) for row in tokens]


def form_of(source: Source, tokens: tuple[int, ...]) -> list[list[int]]:
    """What a query says, read from its tokens alone."""
    space = source.space
    if isinstance(source.coder.vocab_size, int) and source.coder.vocab_size == 4 + space.num_values:
        pooled = [token - 4 for token in tokens if token >= 4]
        row = [1] + [ANY] * space.num_concepts
        for value in pooled:
            k = int(np.searchsorted(space.offsets, value, side="right")) - 1
            row[1 + k] = value - int(space.offsets[k])
        return [row]
    return Grammar(space).parse(source.tokenizer.decode(tokens)).tolist()


def holds(form: list[list[int]], shown: list[list[int]]) -> bool:
    return any(
        all(all(w in (ANY, v) for w, v in zip(row[1:], got)) for row, got in zip(form, served))
        for served in permutations(shown, len(form))
    )


@pytest.mark.parametrize("position", [0, 24, 144, 3 * 150 - 30])
def test_any_number_of_processes_makes_the_same_global_batch(source: Source, position: int) -> None:
    [whole] = parts(source, position, 1)
    for world in (2, 4):
        several = parts(source, position, world)
        for name in ("indices", "scenes"):
            assert np.array_equal(np.concatenate([getattr(part, name) for part in several]), getattr(whole, name))
        assert [row for part in several for row in rows(part.queries)] == rows(whole.queries)
        assert np.array_equal(np.concatenate([part.targets for part in several]), whole.targets)
        # Extra columns: of every process in turn, padded to the most of any.
        most = max(len(part.extra) for part in several)
        real = np.concatenate([r * most + np.arange(len(part.extra)) for r, part in enumerate(several)])
        extra_targets = np.concatenate([part.extra_targets for part in several])
        assert extra_targets.shape == (24, world * most)
        assert not np.delete(extra_targets, real, axis=1).any()
        columns = Counter(
            zip([row for part in several for row in rows(part.extra)], map(bytes, extra_targets[:, real].T))
        )
        assert columns == Counter(zip(rows(whole.extra), map(bytes, whole.extra_targets.T)))
        for part in several:
            assert np.array_equal(part.objects, whole.objects)
            assert (part.collisions, part.edits, part.position) == (whole.collisions, whole.edits, position)
            assert part.crc32 == zlib.crc32(np.concatenate([part.indices for part in several]).tobytes())


def test_targets_are_the_truth_of_the_decoded_queries(source: Source) -> None:
    for position in (0, 48):
        [batch] = parts(source, position, 1)
        values = Scenes.of(source.space, batch.objects).values.tolist()
        shown = [[value for value in scene if value[0] >= 0] for scene in values]
        for tokens, targets in ((batch.queries, batch.targets), (batch.extra, batch.extra_targets)):
            forms = [form_of(source, row) for row in rows(tokens)]
            assert targets.tolist() == [[holds(form, objects) for form in forms] for objects in shown]
        assert np.diagonal(batch.targets).all()


def test_extra_columns_are_false_of_their_own_scene_and_name_train_objects(source: Source) -> None:
    batches = [parts(source, position, 24) for position in (0, 48)]
    for several in batches:
        most = several[0].extra_targets.shape[1] // 24
        for rank, part in enumerate(several):
            assert not part.extra_targets[:, rank * most : (rank + 1) * most].any()
            for form in (form_of(source, row) for row in rows(part.extra)):
                assert np.all(source.split.status(source.space.encode(np.array(form)[:, 1:])) == TRAIN)
        assert several[0].edits == sum(len(part.extra) for part in several) > 24
    assert any(part.extra_targets.any() for several in batches for part in several)


def test_a_batch_is_a_function_of_its_position_and_the_seed(source: Source) -> None:
    one, again = parts(source, 72, 2)[1], parts(source, 72, 2)[1]
    for name in (*FIELDS, "queries", "extra"):
        assert np.array_equal(getattr(one, name), getattr(again, name))
    assert not np.array_equal(one.scenes, parts(source, 96, 2)[1].scenes)
    partners = one.collisions
    assert partners % 2 == 0
    assert partners > 0


def test_no_edits_means_no_extra_columns() -> None:
    [batch] = parts(symbolic("text", edits=()), 0, 1)
    assert len(batch.extra) == 0
    assert batch.extra_targets.shape == (24, 0)
    assert batch.edits == 0


@pytest.mark.parametrize("mix", [(0.4, 0.35, 0.25), (1.0, 0.0, 0.0), (0.0, 0.6, 0.4), (0.2, 0.8, 0.0), (0.0, 0.0, 1.0)])
def test_the_query_mix_is_honoured(mix: tuple[float, float, float]) -> None:
    source = symbolic("text", {2: 1.0}, captions=mix[0], objects=mix[1], concepts=mix[2], edits=())
    batch = source.train_batch(0, batch_size=1500, rank=0, world=1)
    forms = [form_of(source, row) for row in rows(batch.queries)]
    kinds = [0 if len(form) > 1 else 1 if ANY not in form[0] else 2 for form in forms]
    shares = np.bincount(kinds, minlength=3) / 1500
    assert np.all(np.abs(shares - mix) <= 5 * np.sqrt(np.array(mix) * (1 - np.array(mix)) / 1500))
    said = np.array([form[0][1:] for form, kind in zip(forms, kinds) if kind == 2])
    if mix[2]:
        assert np.all(np.abs((said >= 0).mean(axis=0) - 1 / 3) < 0.13)


def test_symbolic_scenes_are_laid_out_as_in_the_paper() -> None:
    """[SOO] v_1 .. v_C [EOO] for each object, [EOS], [PAD]; a value's token is its pooled number after four others."""
    space = ConceptSpace.named({"color": ["red", "blue"], "shape": ["cube", "ball", "cone"]})
    red_cone, blue_cube = 2, 3
    tokens = SymbolicScenes.tokens(Scenes.of(space, np.array([[red_cone, blue_cube], [blue_cube, -1]])))
    pad, soo, eoo, eos = 0, 1, 2, 3
    assert tokens.tolist() == [
        [soo, 4, 8, eoo, soo, 5, 6, eoo, eos],
        [soo, 5, 6, eoo, eos, pad, pad, pad, pad],
    ]
    assert tokens.shape[1] == SymbolicScenes.max_length(space, 2)
    assert SymbolicScenes.vocabulary_size(space) == 9


def test_symbolic_queries_are_laid_out_as_in_the_paper() -> None:
    coder = symbolic("symbolic").coder
    values = SPACE.decode(37).tolist()
    assert coder.objects(np.array([37])).tolist() == [[1, *(4 + 4 * k + v for k, v in enumerate(values)), 2, 3]]
    assert coder.concepts().tolist() == [[4 + value, 3] for value in range(12)]
    assert coder.objects(np.array([], dtype=np.int64)).shape[0] == 0


def test_texts_fit_the_announced_length() -> None:
    source = symbolic("text")
    grammar, tokenizer = Grammar(SPACE), Tokenizer(Grammar(SPACE).vocabulary)
    for template in range(4):
        longest = grammar.caption([grammar.object_query(i) for i in range(4)], template)
        assert len(tokenizer.encode(longest)) <= source.coder.max_length


@pytest.mark.parametrize("split", ["val", "val_ood", "ood", "mixed"])
def test_evaluation_texts_are_true_and_edits_false(split: str, dataset: Dataset) -> None:
    shards = ShardSource(dataset, query_tower="text", scene_tower="vision", settings=settings())
    for source in (shards, symbolic("text")):
        number = source.num_samples(split)
        batch = source.eval_batch(split, 0, number)
        texts, grammar = batch.texts, Grammar(source.space)
        assert texts is not None
        assert len(batch.inputs) == len(batch.scenes) == number >= 20
        said = [grammar.parse(source.tokenizer.decode(row)) for row in texts.captions]
        for i, form in enumerate(said):
            assert truth(form[None], batch.scenes[i : i + 1]).all()
            assert np.array_equal(texts.forms[i][: len(form)], form)
            for j in np.flatnonzero(texts.operator[i] >= 0):
                edited = grammar.parse(source.tokenizer.decode(texts.edits[i, j]))
                assert not truth(edited[None], batch.scenes[i : i + 1]).any()
                new = np.setdiff1d(source.space.encode(edited[:, 1:]), batch.scenes.objects[i])
                held_out = np.any(source.split.status(new) != TRAIN)
                assert texts.status[i, j] == held_out
        part = source.eval_batch(split, 3, 9)
        assert np.array_equal(part.inputs, batch.inputs[3:9])
        assert np.array_equal(part.scenes.objects, batch.scenes.objects[3:9])

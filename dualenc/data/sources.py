"""Sources of batches: pictures from shards, or symbolic scenes drawn on the fly, behind one interface.

`train_batch(position)` is a pure function of the source, the run's seed and the position (law 1). Every process
computes the queries of the whole global batch, which costs little, so that the exact truth of its own scenes against
all queries needs no communication.
"""

import zlib
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np

from dualenc.data.batches import EvalBatch, EvalOpposites, EvalTexts, TrainBatch
from dualenc.data.order import SampleOrder
from dualenc.data.pairs import padded_columns, padded_ids, pairs
from dualenc.data.pools import PoolSettings, draw_pools, shows_objects, shows_values
from dualenc.data.queries import QueryCoder, SymbolicQueries, SymbolicScenes, TextQueries, pad_to_common_length, trimmed
from dualenc.data.shards import Dataset
from dualenc.data.table import HELD_OUT, SEEN, Table
from dualenc.scenes import (
    ANY,
    EDIT_NAMES,
    EXISTS,
    NONE,
    OPERATORS,
    SPLITS,
    TRAIN,
    ConceptSpace,
    Grammar,
    ObjectSplit,
    Scenes,
    SceneSampler,
    Tokenizer,
    draw_edits,
    other_orders,
    truth,
    undecided,
    uniform,
)

EVAL_SPLITS = SPLITS[1:]
CAPTION, OBJECT, CONCEPT = 0, 1, 2  # kinds of queries


@dataclass(frozen=True, kw_only=True)
class QuerySettings:
    """The query mix, the extra columns and the pools of a run (see `dualenc.config.DataConfig`)."""

    seed: int
    captions: float
    objects: float
    concepts: float
    edits: tuple[str, ...]
    edits_per_scene: int
    paraphrases: int = 0
    recognition: PoolSettings | None = None
    of_scenes: bool = True
    """Whether a loss reads a query of each scene (and the extra texts); else a batch holds none."""


class Source(Protocol):
    """What training and evaluation ask of the data."""

    space: ConceptSpace
    split: ObjectSplit
    tokenizer: Tokenizer
    coder: QueryCoder
    max_objects: int

    def train_batch(self, position: int, *, batch_size: int, rank: int, world: int) -> TrainBatch:
        """The share of process `rank` of `world` in the global batch that starts at `position`."""
        ...

    def num_samples(self, split: str) -> int:
        """Number of scenes of an evaluation split."""
        ...

    def eval_batch(self, split: str, start: int, stop: int) -> EvalBatch:
        """Scenes start..stop-1 of an evaluation split."""
        ...


class _Queries:
    """Draws the queries of training scenes: a caption, or a query about one of the scene's objects or values."""

    def __init__(self, space: ConceptSpace, coder: QueryCoder, settings: QuerySettings, max_objects: int) -> None:
        self.space, self.settings = space, settings
        self.shares = np.cumsum([settings.captions, settings.objects])
        self.max_objects = max_objects
        self._coder = coder
        self._concepts = coder.concepts()

    def draw(self, scenes: Scenes, position: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """For scenes at positions position..: kind int [n] (0 caption, 1 object, 2 concept), object ids [n], pooled
        values [n] and forms [n, 1, 1 + C]; object, value and form have no meaning where the kind is 0."""
        n = len(scenes)
        draws = uniform(self.settings.seed, "train", "queries", position, position + n, 3)
        kind = np.searchsorted(self.shares, draws[:, 0], side="right")
        slot = (draws[:, 1] * scenes.counts).astype(np.int64)
        concept = (draws[:, 2] * self.space.num_concepts).astype(np.int64)
        objects = scenes.objects[np.arange(n), slot]
        values = scenes.values[np.arange(n), slot]
        forms = np.full((n, 1, 1 + self.space.num_concepts), ANY, dtype=np.int32)
        forms[:, 0, 0] = EXISTS
        only = (kind == CONCEPT)[:, None] & (np.arange(self.space.num_concepts) != concept[:, None])
        forms[:, 0, 1:] = np.where(only, ANY, values)
        pooled = values[np.arange(n), concept] + self.space.offsets[concept]
        return kind, objects, pooled, forms

    def tokens(self, kind: np.ndarray, objects: np.ndarray, pooled: np.ndarray, captions: np.ndarray) -> np.ndarray:
        """int64 [n, T]: the drawn queries' tokens; captions [n, T'] are used where kind is 0."""
        about_objects = self._coder.objects(objects[kind == OBJECT]) if np.any(kind == OBJECT) else captions[:0]
        about_values = self._concepts[pooled[kind == CONCEPT]]
        stacked = pad_to_common_length([captions[kind == CAPTION], about_objects, about_values])
        tokens = np.empty_like(stacked)
        tokens[np.argsort(kind, kind="stable")] = stacked
        return trimmed(tokens)

    def pools(self, scenes: Scenes, split: ObjectSplit, position: int, rank: int, world: int) -> dict[str, Any]:
        """The fields of a `TrainBatch` that hold the pools; none where no loss asks for them."""
        if self.settings.recognition is None:
            return {}
        drawn = draw_pools(scenes, split, self.settings.recognition, seed=self.settings.seed, position=position)
        own = _part(scenes, rank, world)
        concepts, objects = (np.array_split(pool, world) if world > 1 else [pool] for pool in drawn)
        return {
            "concept_queries": trimmed(self._concepts[concepts[rank]]),
            "concept_targets": pairs(shows_values, padded_ids(concepts), own),
            "object_queries": self._coder.objects(objects[rank]),
            "object_targets": pairs(shows_objects, padded_ids(objects), own),
        }


class _Extra(NamedTuple):
    """The extra texts of a global batch: tokens int64 [k, T] and owner int64 [k] of the own ones; forms of every
    process's, [k', K, 1 + C] each; how many of all of them are edits."""

    tokens: np.ndarray
    owner: np.ndarray
    forms: list[np.ndarray]
    num_edits: int


def _said(forms: np.ndarray, extra: _Extra, own: Scenes, *, relational: bool) -> dict[str, Any]:
    """The fields of a `TrainBatch` that hold the extra texts, and that say which of all queries, forms [B, K, 1 + C],
    and of all extra texts are true of the own scenes, and which are undecided."""
    columns = padded_columns(extra.forms)
    fields: dict[str, Any] = {"extra": extra.tokens, "extra_owner": extra.owner, "edits": extra.num_edits}
    fields |= {"targets": pairs(truth, forms, own), "extra_targets": pairs(truth, columns, own)}
    if relational:
        fields |= {"undecided": pairs(undecided, forms, own), "extra_undecided": pairs(undecided, columns, own)}
    return fields


class ShardSource:
    """Pictures and captions of a `Dataset`."""

    def __init__(self, dataset: Dataset, *, query_tower: str, scene_tower: str, settings: QuerySettings) -> None:
        self.dataset, self.space, self.split = dataset, dataset.space, dataset.split
        self.max_objects = dataset.max_objects
        self.pictures = scene_tower == "vision"
        self.words = query_tower == "text"
        self.relational = dataset.grammar.language.relations is not None
        self.tokenizer = dataset.tokenizer
        text = TextQueries(self.space, self.tokenizer, self.max_objects)
        self.coder: QueryCoder = text if self.words else SymbolicQueries(self.space)
        self.settings = settings
        self.order = SampleOrder(
            [shard.num_samples for shard in dataset.shards["train"]], seed=settings.seed, paired=dataset.paired
        )
        self._queries = _Queries(self.space, self.coder, settings, self.max_objects)

    def train_batch(self, position: int, *, batch_size: int, rank: int, world: int) -> TrainBatch:
        """See `Source`."""
        table = self.dataset.table("train")
        rows = self.order(position, position + batch_size)
        scenes = self.dataset.scenes("train", rows)
        own = _share(batch_size, rank, world)
        partner = table.partner[rows]
        return TrainBatch(
            position=position,
            indices=rows[own],
            crc32=_crc32(rows),
            scenes=self._inputs("train", rows[own], scenes[own]),
            objects=scenes.objects,
            collisions=int(np.isin(partner[partner >= 0], table.index[rows]).sum()),
            **(self._pairs(table, rows, scenes, position, rank, world) if self.settings.of_scenes else _no_pairs(own)),
            **self._queries.pools(scenes, self.split, position, rank, world),
        )

    def _pairs(
        self, table: Table, rows: np.ndarray, scenes: Scenes, position: int, rank: int, world: int
    ) -> dict[str, Any]:
        """The fields of a `TrainBatch` that hold a query of each scene, the extra texts, and what is said of both."""
        kind, objects, pooled, query_forms = self._queries.draw(scenes, position)
        captions, caption_forms = self._captions(table, rows, position)
        forms = _padded_forms(query_forms, table.forms.shape[1])
        forms[kind == CAPTION] = caption_forms[kind == CAPTION]
        own = _share(len(rows), rank, world)
        extra = self._extra(table, rows.reshape(world, -1), rank)
        return {
            "queries": self._queries.tokens(kind[own], objects[own], pooled[own], captions[own].astype(np.int64)),
            "edited_kind": kind[own] == (CAPTION if self.words else OBJECT),
            **_said(forms, extra, scenes[own], relational=self.relational),
        }

    def _captions(self, table: Table, rows: np.ndarray, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens [B, T] and forms [B, K, 1 + C] of the captions of samples `rows` that stand at positions position..:
        one of each sample's, by chance, a function of the run's seed and the position alone."""
        tokens, forms = table.tokens[rows], table.forms[rows]
        if not table.further_tokens.shape[1]:
            return tokens, forms
        number = (table.further_tokens[rows] != 0).any(axis=-1).sum(axis=1)
        draws = uniform(self.settings.seed, "train", "captions", position, position + len(rows), 1)[:, 0]
        pick = (draws * (number + 1)).astype(np.int64) - 1
        other = np.flatnonzero(pick >= 0)
        tokens[other] = table.further_tokens[rows[other], pick[other]]
        forms[other] = table.further_forms[rows[other], pick[other]]
        return tokens, forms

    def _extra(self, table: Table, rows: np.ndarray, rank: int) -> _Extra:
        """The edits and paraphrases of samples rows [world, b]."""
        taken = np.zeros(table.edit_operator[rows].shape, dtype=bool)
        for operator in self.settings.edits:
            match = table.edit_operator[rows] == EDIT_NAMES.index(operator)
            taken |= match & (np.cumsum(match, axis=-1) <= self.settings.edits_per_scene)
        if not self.words:
            return self._edited_objects(table.edit_made[rows], taken, rank)
        num = self.settings.paraphrases
        given = (table.positive_tokens[rows, :num] != 0).any(axis=-1)
        tokens = [table.edit_tokens[rows[rank]][taken[rank]], table.positive_tokens[rows[rank], :num][given[rank]]]
        return _Extra(
            tokens=trimmed(pad_to_common_length(tokens).astype(np.int64)),
            owner=np.concatenate([np.nonzero(there[rank])[0] for there in (taken, given)]),
            forms=[
                _stacked([table.edit_forms[part][edits], table.positive_forms[part, :num][positives]])
                for part, edits, positives in zip(rows, taken, given)
            ],
            num_edits=int(taken.sum()),
        )

    def _edited_objects(self, made: np.ndarray, taken: np.ndarray, rank: int) -> _Extra:
        """The objects made [world, b, E, K] by the edits taken [world, b, E], for a tower that reads no captions."""
        listed = made >= 0
        listed &= taken[..., None]
        objects = [ids[there] for ids, there in zip(made, listed)]
        return _Extra(
            tokens=self.coder.objects(objects[rank]),
            owner=np.nonzero(listed[rank])[0],
            forms=[self.dataset.grammar.object_forms(ids[:, None]) for ids in objects],
            num_edits=int(listed.sum()),
        )

    def _inputs(self, split: str, rows: np.ndarray, scenes: Scenes) -> np.ndarray:
        return self.dataset.images(split, rows) if self.pictures else SymbolicScenes.tokens(scenes)

    def num_samples(self, split: str) -> int:
        """See `Source`."""
        return self.dataset.num_samples(split)

    def eval_batch(self, split: str, start: int, stop: int) -> EvalBatch:
        """See `Source`."""
        table, rows = self.dataset.table(split), np.arange(start, stop)
        scenes = self.dataset.scenes(split, rows)
        texts = EvalTexts(
            captions=trimmed(table.tokens[rows].astype(np.int64)),
            forms=table.forms[rows],
            edits=trimmed(table.edit_tokens[rows].astype(np.int64)),
            operator=table.edit_operator[rows],
            status=table.edit_status[rows],
        )
        inputs = self._inputs(split, rows, scenes)
        return (
            EvalBatch(inputs, scenes, texts, self._opposites(split, rows))
            if self.words
            else EvalBatch(inputs, scenes, None)
        )

    def _opposites(self, split: str, rows: np.ndarray) -> EvalOpposites | None:
        table = self.dataset.table(split)
        there = np.flatnonzero(table.opposite[rows] >= 0)
        if not len(there):
            return None
        chosen = rows[there]
        scenes = table.opposite_scenes(self.space, chosen, relation_margin=self.dataset.relation_margin)
        if self.pictures:
            inputs = np.stack([self.dataset.opposite_image(split, i) for i in chosen.tolist()])
        else:
            inputs = SymbolicScenes.tokens(scenes)
        captions = trimmed(table.opposite_tokens[chosen].astype(np.int64))
        return EvalOpposites(there, table.opposite[chosen], inputs, captions, scenes)


class SymbolicSource:
    """Scenes as token sequences, scene i of training at position i: nothing is on disk and nothing repeats."""

    def __init__(self, sampler: SceneSampler, *, query_tower: str, settings: QuerySettings, num_samples: int) -> None:
        self.sampler, self.space, self.split = sampler, sampler.space, sampler.split
        self.max_objects, self.settings = sampler.max_objects, settings
        self.words = query_tower == "text"
        self._num_samples = num_samples
        self.grammar = Grammar(self.space)
        self.tokenizer = Tokenizer(self.grammar.vocabulary)
        text = TextQueries(self.space, self.tokenizer, self.max_objects)
        self.coder: QueryCoder = text if self.words else SymbolicQueries(self.space)
        self._queries = _Queries(self.space, self.coder, settings, self.max_objects)

    def train_batch(self, position: int, *, batch_size: int, rank: int, world: int) -> TrainBatch:
        """See `Source`."""
        stop = position + batch_size
        scenes = Scenes.of(self.space, self.sampler.draw_objects("train", position, stop))
        own = _share(batch_size, rank, world)
        return TrainBatch(
            position=position,
            indices=np.arange(position, stop)[own],
            crc32=_crc32(np.arange(position, stop)),
            scenes=SymbolicScenes.tokens(_part(scenes, rank, world)),
            objects=scenes.objects,
            collisions=int(self.sampler.partners(position, stop).sum()),
            **(self._pairs(scenes, position, rank, world) if self.settings.of_scenes else _no_pairs(own)),
            **self._queries.pools(scenes, self.split, position, rank, world),
        )

    def _pairs(self, scenes: Scenes, position: int, rank: int, world: int) -> dict[str, Any]:
        """The fields of a `TrainBatch` that hold a query of each scene, the extra texts, and what is said of both."""
        kind, objects, pooled, query_forms = self._queries.draw(scenes, position)
        forms = _padded_forms(query_forms, self.max_objects)
        forms[kind == CAPTION] = self.grammar.object_forms(scenes.objects[kind == CAPTION])
        own = _share(len(scenes), rank, world)
        extra = self._extra(scenes, position, rank, world)
        captions = self._captions(scenes.objects[own]) if self.words else np.zeros((len(kind[own]), 1), dtype=np.int64)
        return {
            "queries": self._queries.tokens(kind[own], objects[own], pooled[own], captions),
            "edited_kind": kind[own] == (CAPTION if self.words else OBJECT),
            **_said(forms, extra, scenes[own], relational=False),
        }

    def _captions(self, objects: np.ndarray) -> np.ndarray:
        """int64 [n, T]: full captions that list objects [n, m], -1 for none."""
        queries = iter(self.grammar.object_queries(objects[objects >= 0]))
        counts = (objects >= 0).sum(axis=1).tolist()
        texts = [self.grammar.caption(list(islice(queries, count))) for count in counts]
        return self.tokenizer.encode_batch(texts)

    def _extra(self, scenes: Scenes, position: int, rank: int, world: int) -> _Extra:
        """The edits and, for a tower that reads captions, the other orders of mention of scenes number position.. ."""
        num = self.settings.edits_per_scene
        drawn = [
            draw_edits(operator, scenes, self.split, seed=self.sampler.seed, name="train", start=position, num=num)
            for operator in self.settings.edits
        ]
        edits = [edit.objects if self.words else edit.made[..., None] for edit in drawn]
        exists = [edit.exists if self.words else edit.made >= 0 for edit in drawn]
        num_edits = sum(int(there.sum()) for there in exists)
        if self.words and self.settings.paraphrases:
            orders, there = self._other_orders(scenes, position)
            edits, exists = [*edits, orders], [*exists, there]
        listed, owner = _listed(edits, exists, world)
        own = listed[rank]
        tokens = self._captions(own) if self.words else self.coder.objects(own[:, 0])
        return _Extra(tokens, owner[rank], [self.grammar.object_forms(part) for part in listed], num_edits)

    def _other_orders(self, scenes: Scenes, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Objects int64 [n, num, m] in other orders, a function of the run's seed and the position; bool [n, num]."""
        stop, num = position + len(scenes), self.settings.paraphrases
        draws = uniform(self.settings.seed, "train", "paraphrases", position, stop, num)
        return other_orders(scenes.objects, draws)

    def num_samples(self, split: str) -> int:
        """See `Source`."""
        return 0 if split == "mixed" and self.max_objects < 2 else self._num_samples

    def eval_batch(self, split: str, start: int, stop: int) -> EvalBatch:
        """See `Source`."""
        scenes = Scenes.of(self.space, self.sampler.draw_objects(split, start, stop))
        inputs = SymbolicScenes.tokens(scenes)
        if not self.words:
            return EvalBatch(inputs, scenes, None)
        drawn = [
            draw_edits(operator, scenes, self.split, seed=self.sampler.seed, name=split, start=start)
            for operator in OPERATORS
        ]
        seen = [
            np.all((self.split.status(edits.made[:, 0]) == TRAIN) | (edits.made[:, 0] < 0), axis=-1) for edits in drawn
        ]
        exists = np.stack([edits.exists[:, 0] for edits in drawn], axis=1)
        captions = [
            self._captions(np.where(edits.exists, edits.objects[:, 0], scenes.objects[:, :1])) for edits in drawn
        ]
        stacked = pad_to_common_length(captions)
        texts = EvalTexts(
            captions=self._captions(scenes.objects),
            forms=self.grammar.object_forms(scenes.objects),
            edits=stacked.reshape(len(OPERATORS), len(scenes), -1).swapaxes(0, 1),
            operator=np.where(exists, np.arange(len(OPERATORS)), -1).astype(np.int8),
            status=np.where(np.stack(seen, axis=1), SEEN, HELD_OUT).astype(np.int8),
        )
        return EvalBatch(inputs, scenes, texts)


def _no_pairs(own: slice) -> dict[str, Any]:
    """The fields of a `TrainBatch` about queries of the scenes and extra texts, where no loss reads any."""
    tokens, said = np.zeros((0, 1), dtype=np.int64), np.zeros((own.stop - own.start, 0), dtype=bool)
    fields = {"queries": tokens, "targets": said, "extra": tokens, "extra_targets": said}
    return {**fields, "extra_owner": np.zeros(0, dtype=np.int64), "edits": 0}


def _crc32(samples: np.ndarray) -> int:
    return zlib.crc32(samples.astype("<i8").tobytes())


def _padded_forms(forms: np.ndarray, num_conjuncts: int) -> np.ndarray:
    """Forms [n, K, 1 + C] with at least `num_conjuncts` rows each."""
    padded = np.full((len(forms), max(num_conjuncts, forms.shape[1]), forms.shape[2]), ANY, dtype=np.int32)
    padded[..., 0] = NONE
    padded[:, : forms.shape[1]] = forms
    return padded


def _stacked(parts: list[np.ndarray]) -> np.ndarray:
    """Forms [n_i, K_i, 1 + C] as one array with as many rows each as the longest has."""
    num_conjuncts = max(part.shape[1] for part in parts)
    return np.concatenate([_padded_forms(part, num_conjuncts) for part in parts])


def _listed(
    objects: list[np.ndarray], exists: list[np.ndarray], world: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Lists of objects [B, ..., m] as every process has them, [k, m], those of one array after those of another, and
    of which of its own scenes each is, [k]; exists [B, ...] says which there are."""
    width = max((array.shape[-1] for array in objects), default=1)
    lists, owners = [], []
    for r in range(world):
        parts, owner = [np.empty((0, width), dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        for array, there in zip(objects, exists):
            own = _share(len(array), r, world)
            pad = (0, width - array.shape[-1])
            parts.append(np.pad(array[own][there[own]], ((0, 0), pad), constant_values=-1))
            owner.append(np.nonzero(there[own])[0])
        lists.append(np.concatenate(parts))
        owners.append(np.concatenate(owner))
    return lists, owners


def _share(batch_size: int, rank: int, world: int) -> slice:
    """Which scenes of a global batch are those of process `rank`."""
    b = batch_size // world
    return slice(rank * b, (rank + 1) * b)


def _part(scenes: Scenes, rank: int, world: int) -> Scenes:
    """The scenes of process `rank`; all of them as they are, with what they have found out, where there is but one."""
    return scenes if world == 1 else scenes[_share(len(scenes), rank, world)]

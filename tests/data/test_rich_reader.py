"""Datasets with captions of every kind: what is read, which caption a position gets, which pairs are undecided."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import change_json, members_of, refusal, rewrite

from dualenc.data import Dataset, QuerySettings, ShardSource
from dualenc.data.checks import SampleChecker
from dualenc.data.queries import TextQueries, spoken_language
from dualenc.data.shards import decode_image
from dualenc.scenes import (
    ANY,
    EDIT_NAMES,
    EXISTS,
    OPPOSITE_KINDS,
    RELATION,
    STYLES,
    TRAIN,
    ConceptSpace,
    Grammar,
    Language,
    ObjectSplit,
    Tokenizer,
    truth,
    undecided,
)


@pytest.fixture
def made(rich_made: Path) -> Path:
    return rich_made


@pytest.fixture
def dataset(rich_dataset: Dataset) -> Dataset:
    return rich_dataset


def source(dataset: Dataset, **changes: Any) -> ShardSource:
    mix = {"seed": 3, "captions": 1.0, "objects": 0.0, "concepts": 0.0, "edits": ("swap", "add"), "edits_per_scene": 1}
    return ShardSource(dataset, query_tower="text", scene_tower="vision", settings=QuerySettings(**{**mix, **changes}))


def said(dataset: Dataset, tokens: np.ndarray) -> list[str]:
    return [dataset.tokenizer.decode(row) for row in tokens if row.any()]


def test_what_is_read_is_what_was_written(dataset: Dataset) -> None:
    for split in ("train", "val", "ood", "mixed"):
        table, i = dataset.table(split), 0
        for shard in dataset.shards[split]:
            members = members_of(shard.path)
            for key in dict.fromkeys(name.partition(".")[0] for name in members):
                record = json.loads(members[f"{key}.json"])
                assert said(dataset, table.tokens[i : i + 1]) == [members[f"{key}.txt"].decode()]
                assert said(dataset, table.further_tokens[i]) == [entry["text"] for entry in record["captions"]]
                assert said(dataset, table.positive_tokens[i]) == [entry["text"] for entry in record["positives"]]
                edits = [json.loads(line) for line in members.get(f"{key}.neg.txt", b"").decode().splitlines()]
                names = [EDIT_NAMES[code] for code in table.edit_operator[i] if code >= 0]
                assert names == [e["operator"] if e["depth"] == 1 else f"depth{e['depth']}" for e in edits]
                assert said(dataset, table.edit_tokens[i]) == [edit["text"] for edit in edits]
                if (opposite := record["opposite"]) is None:
                    assert table.opposite[i] == -1
                else:
                    assert OPPOSITE_KINDS[table.opposite[i]] == opposite["kind"]
                    ids = [entry["id"] for entry in opposite["objects"]]
                    assert table.opposite_objects[i][table.opposite_objects[i] >= 0].tolist() == ids
                    assert said(dataset, table.opposite_tokens[i : i + 1]) == [members[f"{key}.opposite.txt"].decode()]
                    picture = decode_image(members[f"{key}.opposite.jpg"])
                    assert np.array_equal(dataset.opposite_image(split, i), picture)
                i += 1
        assert i == len(table)
    assert set(np.unique(dataset.table("train").edit_operator)) == set(range(-1, len(EDIT_NAMES)))


def test_the_caption_of_a_position_depends_on_seed_and_position_alone(dataset: Dataset) -> None:
    table = dataset.table("train")
    first, again, other = source(dataset), source(dataset), source(dataset, seed=4)
    used = {}
    for position in range(0, 480, 24):
        batch = first.train_batch(position, batch_size=24, rank=0, world=1)
        parts = [again.train_batch(position, batch_size=24, rank=rank, world=2) for rank in (1, 0)][::-1]
        texts = said(dataset, batch.queries)
        assert texts == [text for part in parts for text in said(dataset, part.queries)]
        for row, text in zip(batch.indices.tolist(), texts):
            known = said(dataset, np.concatenate([table.tokens[row : row + 1], table.further_tokens[row]]))
            assert text in known
            used.setdefault(row, set()).add(text)
        assert batch.targets.diagonal().all(), "whichever caption it is, it is true of its scene"
    shifted = said(dataset, first.train_batch(12, batch_size=24, rank=0, world=1).queries)
    assert shifted[:12] == said(dataset, first.train_batch(0, batch_size=24, rank=0, world=1).queries)[12:]
    assert sum(len(texts) > 1 for texts in used.values()) > 60, "in four passes most samples say several things"
    moved = other.train_batch(0, batch_size=24, rank=0, world=1)
    assert said(dataset, moved.queries) != said(dataset, first.train_batch(0, batch_size=24, rank=0, world=1).queries)


def test_targets_and_undecided_pairs_are_those_of_the_captions(dataset: Dataset) -> None:
    reader = source(dataset)
    b, world, num_undecided, num_extra = 12, 2, 0, 0
    for position in range(0, 240, b * world):
        parts = [reader.train_batch(position, batch_size=b * world, rank=rank, world=world) for rank in range(world)]
        texts = [text for part in parts for text in said(dataset, part.queries)]
        most = max(len(part.extra) for part in parts)
        for part in parts:
            scenes = dataset.scenes("train", part.indices)
            for column, text in enumerate(texts):
                form = dataset.grammar.parse(text)[None]
                assert np.array_equal(part.targets[:, column], truth(form, scenes)[:, 0])
                assert np.array_equal(part.undecided[:, column], undecided(form, scenes)[:, 0])
            for r, other in enumerate(parts):
                for k, text in enumerate(said(dataset, other.extra)):
                    form = dataset.grammar.parse(text)[None]
                    assert np.array_equal(part.extra_targets[:, r * most + k], truth(form, scenes)[:, 0])
                    assert np.array_equal(part.extra_undecided[:, r * most + k], undecided(form, scenes)[:, 0])
            assert part.extra_undecided.shape == part.extra_targets.shape == (b, world * most)
            assert not (part.undecided & part.targets).any()
            num_undecided += int(part.undecided.sum())
            num_extra += int(part.extra_undecided.sum())
    assert num_undecided > 5
    assert num_extra > 0


def test_opposites_of_an_evaluation_batch(dataset: Dataset) -> None:
    batch = source(dataset).eval_batch("val", 0, 20)
    table, opposites = dataset.table("val"), batch.opposites
    assert opposites is not None
    assert batch.texts is not None
    assert opposites.rows.tolist() == np.flatnonzero(table.opposite >= 0).tolist()
    assert len(opposites.rows) > 5
    assert opposites.inputs.shape == (len(opposites.rows), 32, 32, 3)
    for k, row in enumerate(opposites.rows.tolist()):
        own, other = batch.scenes[row : row + 1], opposites.scenes[k : k + 1]
        caption = batch.texts.forms[row][None]
        opposite = dataset.grammar.parse(said(dataset, opposites.captions[k : k + 1])[0])[None]
        assert [bool(truth(form, scene)[0, 0]) for form in (caption, opposite) for scene in (own, other)] == [
            True, False, False, True,
        ]  # fmt: skip
        assert np.array_equal(opposites.inputs[k], dataset.opposite_image("val", row))
    symbolic = ShardSource(dataset, query_tower="text", scene_tower="symbolic", settings=source(dataset).settings)
    tokens = symbolic.eval_batch("val", 0, 20).opposites
    assert tokens is not None
    assert tokens.inputs.dtype == np.int64


def test_a_dataset_without_relations_has_no_undecided_pairs(made: Path, tmp_path: Path) -> None:
    (tmp_path / "plain.yaml").write_text("data: {num_samples: {train: 20}, samples_per_shard: 20}\n")
    command = [sys.executable, "-m", "data_gen", "plain.yaml", "data.out=plain", "data.num_workers=1"]
    splits = [f"data.num_samples.{name}=0" for name in ("val", "val_ood", "ood", "mixed")]
    subprocess.run([*command, *splits], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    plain = Dataset(tmp_path / "plain")
    plain.verify()
    batch = source(plain).train_batch(0, batch_size=8, rank=0, world=1)
    assert batch.undecided is batch.extra_undecided is None
    described = json.loads((tmp_path / "plain" / "dataset.json").read_text())
    del described["language"]  # as datasets were before there was more than one language
    (tmp_path / "plain" / "dataset.json").write_text(json.dumps(described))
    Dataset(tmp_path / "plain").verify()


@pytest.mark.parametrize("style", [None, *STYLES])
@pytest.mark.parametrize("flags", [{}, {"counting": True}, {"negation": True}, {"counting": True, "negation": True}])
def test_the_language_is_read_from_the_vocabulary(style: str | None, flags: dict[str, bool]) -> None:
    space = ConceptSpace.named({"color": ["red", "behind_red"], "shape": ["cube", "ball"]})
    language = Language(relations=style, **flags)
    vocabulary = Grammar(space, Language(relations=style, synonyms=True, **flags)).vocabulary
    assert spoken_language(vocabulary, space) == language
    text = TextQueries(space, Tokenizer(vocabulary), 4)
    plain = TextQueries(space, Tokenizer(Grammar(space).vocabulary), 4)
    assert plain.max_length == 4 + 5 * 5
    longer = bool(language.relations or language.negation)  # numbers stand where articles stood
    assert (text.max_length > plain.max_length) == longer


def key_with_opposite(folder: Path) -> str:
    members = members_of(folder / "train/train-000000.tar")
    records = {name[:-5]: json.loads(data) for name, data in members.items() if name.endswith(".json")}
    return next(k for k, r in records.items() if r["opposite"] and r["opposite"]["kind"] == "spatial")


def test_damage_is_refused(copy: Path, tmp_path: Path) -> None:
    shard, key = "train/train-000000.tar", key_with_opposite(copy)
    held_out = next(i for i, status in enumerate(Dataset(copy).split.statuses) if status != TRAIN)

    def attempt(edit: Any, what: str) -> None:
        folder = shutil.copytree(copy, tmp_path / f"{len(list(tmp_path.iterdir()))}")
        rewrite(folder, edit, shard)
        message = refusal(folder)
        assert key in message
        assert what in message, message

    attempt(lambda members: members.pop(f"{key}.opposite.txt"), "a part of its opposite is missing")
    attempt(lambda members: members.update({f"{key}.opposite.jpg": b"GIF"}), "neither JPEG nor PNG")
    attempt(change_json(key, lambda r: r["opposite"].update(kind="odd")), "unknown kind of opposite 'odd'")
    attempt(change_json(key, lambda r: r["opposite"]["objects"][0].update(id=99)), "an object id lies outside")
    attempt(change_json(key, lambda r: r["opposite"].update(objects=r["objects"])), "opposite caption is false of its")
    lie = json.loads(members_of(copy / shard)[f"{key}.json"])["opposite"]["caption"]
    text = members_of(copy / shard)[f"{key}.opposite.txt"].decode()
    attempt(change_json(key, lambda r: r.update(captions=[{**lie, "text": text}])), "one of its captions is false")
    attempt(change_json(key, lambda r: r.update(positives=[{**lie, "text": text}])), "a paraphrase is false")

    def absent(record: dict[str, Any]) -> None:
        """Law 4 for what is only denied: a train scene that says that a held-out object is absent."""
        dataset = Dataset(copy)
        shown, values = record["objects"][0]["values"], dataset.space.decode(held_out).tolist()
        form = [[1, *shown], [2, *values]]
        record.update(captions=[{"text": dataset.grammar.say(np.array(form)), "form": form, "kind": "negation"}])

    attempt(change_json(key, absent), "one of its texts names a held-out object")

    def relational(record: dict[str, Any]) -> None:
        record["objects"][0]["position"] = record["objects"][1]["position"]

    assert any(row[0] >= RELATION for row in lie["form"])
    attempt(change_json(key, relational), "its caption is false of its scene")


def test_descriptions_that_no_train_object_fits_are_found(dataset: Dataset) -> None:
    everything, space = np.arange(dataset.space.num_objects), dataset.space
    split = ObjectSplit(space, everything[:1], everything[1:2], everything[2:], "uniform")
    checker = SampleChecker(dataset.grammar, split, dataset.tokenizer, 32, "train")
    forms = np.array([[[EXISTS, 0, ANY], [EXISTS, ANY, 1]], [[EXISTS, 1, 1], [EXISTS, ANY, ANY]]])
    assert checker._fits_training(forms).tolist() == [[True, False], [True, True]]  # full ones are checked by name

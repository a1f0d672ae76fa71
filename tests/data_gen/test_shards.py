"""What is in a shard: readable by WebDataset alone, true captions, false edits, train objects only in train."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from data_gen.config import load_config
from data_gen.recipe import Recipe
from data_gen.shards import _header
from dualenc.scenes import ConceptSpace, Grammar, ObjectSplit, Scenes, Tokenizer, truth_of_own, words

SPLITS = ("train", "val", "val_ood", "ood", "mixed")


def description(folder: Path) -> dict[str, Any]:
    """dataset.json."""
    return json.loads((folder / "dataset.json").read_text())


def samples(folder: Path, split: str) -> list[dict[str, Any]]:
    """All samples of a split, through the webdataset package and nothing else."""
    shards = [str(path) for path in sorted((folder / split).glob("*.tar"))]
    return list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))


def negatives(sample: dict[str, Any]) -> list[dict[str, Any]]:
    """The edits of a raw sample."""
    return [json.loads(line) for line in sample.get("neg.txt", b"").decode().splitlines()]


@pytest.fixture(scope="module")
def raw(small_dataset: Path) -> dict[str, list[dict[str, Any]]]:
    """Split -> raw samples."""
    return {split: samples(small_dataset, split) for split in SPLITS}


@pytest.fixture(scope="module")
def space(small_dataset: Path) -> ConceptSpace:
    return ConceptSpace.from_dict(description(small_dataset)["concepts"])


def own_scenes(space: ConceptSpace, records: list[dict[str, Any]]) -> Scenes:
    """The scenes that the records describe."""
    objects = np.full((len(records), 3), -1)
    for i, record in enumerate(records):
        objects[i, : len(record["objects"])] = [entry["id"] for entry in record["objects"]]
    return Scenes.of(space, objects)


def padded(forms: list[list[list[int]]]) -> np.ndarray:
    """Forms of different lengths as one array [n, K, 1 + C]."""
    array = np.full((len(forms), 4, 3), -1)
    array[:, :, 0] = 0
    for i, form in enumerate(forms):
        array[i, : len(form)] = form
    return array


def test_webdataset_decodes_every_sample_by_itself(small_dataset: Path) -> None:
    for split, info in description(small_dataset)["splits"].items():
        shards = [str(small_dataset / shard["path"]) for shard in info["shards"]]
        loader = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode("rgb8")
        decoded = list(loader.to_tuple("__key__", "jpg", "txt", "json"))
        assert [key for key, *_ in decoded] == [f"{split}-{i:08d}" for i in range(info["num_samples"])]
        for key, image, text, record in decoded:
            assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)
            assert isinstance(text, str)
            assert f"{split}-{record['index']:08d}" == key
            assert record["split"] == split


def test_every_caption_is_true_and_every_edit_false(raw: dict, space: ConceptSpace) -> None:
    grammar, num_edits = Grammar(space), 0
    for split in SPLITS:
        records = [json.loads(sample["json"]) for sample in raw[split]]
        scenes = own_scenes(space, records)
        assert truth_of_own(padded([record["caption"]["form"] for record in records]), scenes).all()
        for i, sample in enumerate(raw[split]):
            np.testing.assert_array_equal(grammar.parse(sample["txt"].decode()), records[i]["caption"]["form"])
            assert grammar.to_logical(records[i]["caption"]["form"]) == records[i]["caption"]["logical"]
            for edit in negatives(sample):
                num_edits += 1
                np.testing.assert_array_equal(grammar.parse(edit["text"]), edit["form"])
                assert not truth_of_own(padded([edit["form"]]), scenes[i : i + 1]).any()
    assert num_edits > 400


def test_edits_say_what_they_changed(raw: dict) -> None:
    seen = set()
    for split in SPLITS:
        for sample in raw[split]:
            record, caption = json.loads(sample["json"]), words(sample["txt"].decode())
            ids = {entry["id"] for entry in record["objects"]}
            for edit in negatives(sample):
                seen.add(edit["operator"])
                edited = words(edit["text"])
                marked = {k for start, stop in edit["spans"] for k in range(start, stop)}
                assert marked
                assert not ids & set(edit["objects"])
                assert len(edit["objects"]) == {"swap": 2, "replace": 1, "add": 1}[edit["operator"]]
                assert edit["depth"] == 1
                if edit["operator"] == "add":
                    assert edit["concept"] is None
                    assert len(edit["form"]) == len(record["objects"]) + 1
                    rest = [word for k, word in enumerate(edited) if k not in marked]
                    assert sorted(set(rest) - {",", "and"}) == sorted(set(caption) - {",", "and"})
                else:
                    assert edit["concept"] in ("color", "shape")
                    assert marked == {k for k in range(len(caption)) if caption[k] != edited[k]}
    assert seen == {"swap", "replace", "add"}


def test_train_shows_and_names_train_objects_only(raw: dict, small_dataset: Path, space: ConceptSpace) -> None:
    objects = {name: set(ids) for name, ids in description(small_dataset)["objects"].items()}
    allowed = {"train": "train", "val": "train", "val_ood": "val_ood", "ood": "ood"}
    named_by_val = set()
    for split in SPLITS:
        for sample in raw[split]:
            ids = {entry["id"] for entry in json.loads(sample["json"])["objects"]}
            if split == "mixed":
                assert ids & objects["train"]
                assert ids & objects["ood"]
                assert not ids & objects["val_ood"]
            else:
                assert ids <= objects[allowed[split]]
            for edit in negatives(sample):
                named = {int(space.encode(row[1:])) for row in edit["form"]}
                assert set(edit["objects"]) == named - ids
                assert split != "train" or named <= objects["train"]
                if split == "val":
                    named_by_val |= set(edit["objects"])
    assert named_by_val & (objects["ood"] | objects["val_ood"]), "val may name held-out objects in its edits"


def test_partners_differ_by_one_exchange_and_stand_side_by_side(raw: dict, small_dataset: Path) -> None:
    records = [json.loads(sample["json"]) for sample in raw["train"]]
    paired = [record for record in records if record["partner"] is not None]
    for record in paired:
        other = records[record["partner"]]
        assert other["partner"] == record["index"] == other["index"] ^ 1
        ids, other_ids = ([entry["id"] for entry in side["objects"]] for side in (record, other))
        assert len(set(ids) - set(other_ids)) == 2
        for concept in range(2):
            ours, theirs = (sorted(entry["values"][concept] for entry in side["objects"]) for side in (record, other))
            assert ours == theirs
    rate = description(small_dataset)["splits"]["train"]["collision_rate"]
    assert rate == len(paired) / len(records)
    assert rate == pytest.approx(0.25, abs=0.02)
    assert all(json.loads(sample["json"])["partner"] is None for sample in raw["val"])


def test_dataset_json_counts_what_the_shards_hold(raw: dict, small_dataset: Path, space: ConceptSpace) -> None:
    info = description(small_dataset)
    split = ObjectSplit.uniform(space, coverage=0.65, seed=0, val_fraction=0.05, max_objects=3)
    assert info["coverage"] == split.coverage
    assert info["objects"]["ood"] == split.ood.tolist()
    for name in SPLITS:
        records = [json.loads(sample["json"]) for sample in raw[name]]
        told = info["splits"][name]
        ids = [[entry["id"] for entry in record["objects"]] for record in records]
        pairs = {tuple(sorted((a, b))) for row in ids for i, a in enumerate(row) for b in row[i + 1 :]}
        assert told["num_samples"] == len(records) == sum(shard["num_samples"] for shard in told["shards"])
        assert told["coverage"]["objects_seen"] == len({i for row in ids for i in row})
        assert told["coverage"]["pairs_seen"] == len(pairs) <= told["coverage"]["pairs_allowed"]
        for concept, values in told["coverage"]["values"].items():
            shown = [entry["concepts"][concept] for record in records for entry in record["objects"]]
            assert values == {value: shown.count(value) for value in info["concepts"][concept]}
        for operator, edits in told["edits"].items():
            by_scene = [[e for e in negatives(sample) if e["operator"] == operator] for sample in raw[name]]
            assert edits["num"] == sum(map(len, by_scene))
            assert edits["rate"] == sum(map(bool, by_scene)) / len(records)
    tokenizer = Tokenizer(info["vocabulary"])
    assert all(tokenizer.encode(sample["txt"].decode()) for name in SPLITS for sample in raw[name])


def test_the_index_finds_every_member(small_dataset: Path, raw: dict) -> None:
    shard = small_dataset / "train" / "train-000002.tar"
    index = np.load(shard.with_suffix(".idx.npy"), allow_pickle=False)
    content = shard.read_bytes()
    assert (index.shape, index.dtype) == ((20, 8), np.int64)
    for row, sample in zip(index, raw["train"][40:60]):
        for slot, ending in enumerate(("jpg", "txt", "json", "neg.txt")):
            offset, size = row[2 * slot : 2 * slot + 2]
            assert (None if offset < 0 else content[offset : offset + size]) == sample.get(ending)


def test_headers_are_what_tarfile_writes() -> None:
    for name, size in (("train-00000000.neg.txt", 0), ("a.jpg", 123_456_789)):
        member = tarfile.TarInfo(name)
        member.size = size
        assert _header(name, size) == member.tobuf(tarfile.USTAR_FORMAT)


def test_png_is_lossless_and_other_sizes_work(data_gen: Any, tmp_path: Path) -> None:
    (tmp_path / "png.yaml").write_text(
        "data:\n  concepts: {size: 3, shape: 4, color: 3}\n  objects: {4: 1}\n  coverage: 0.4\n"
        "  picture: {size: 48, format: png}\n  num_samples: {train: 6, val: 0, val_ood: 2, ood: 0, mixed: 0}\n"
        "  edits: {swap: 0, replace: 0, add: 0}\n  samples_per_shard: 2\n"
    )
    result = data_gen.run("png.yaml", "data.out=set", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    recipe = Recipe(load_config(tmp_path / "png.yaml"))
    drawn = [pixels for pixels, _ in recipe.renderer.draw(recipe.scenes("train", 0, 6), "train", 0)]
    stored = samples(tmp_path / "set", "train")
    assert len(stored) == 6
    for pixels, sample in zip(drawn, stored):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(sample["png"]))), pixels)
        assert "neg.txt" not in sample
        assert sample["txt"].decode().count("and") == 1
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["dataset.json", "train", "val_ood"]

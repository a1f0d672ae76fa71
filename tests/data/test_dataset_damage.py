"""Datasets that were changed by hand, torn or forged: refused in one line, or rebuilt where that is possible."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import KEY, SHARD, Members, checks_done, edit_description, refusal, rewrite

from dualenc.data import Dataset
from dualenc.scenes import SPLITS


def change_edit(key: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Members], None]:
    def edit(members: Members) -> None:
        first, *rest = members[f"{key}.neg.txt"].decode().splitlines()
        record = json.loads(first)
        change(record)
        members[f"{key}.neg.txt"] = "\n".join([json.dumps(record), *rest]).encode()

    return edit


@pytest.mark.parametrize(("shard", "key"), [(SHARD, KEY), ("ood/ood-000001.tar", "ood-00000017")])
@pytest.mark.parametrize(
    "forge",
    [
        lambda objects, held_out: [held_out, *objects[1:]],
        lambda objects, held_out: objects[1:],
        lambda objects, held_out: [objects[0], objects[0]],
        lambda objects, held_out: [objects[0], -5],
    ],
)
def test_the_objects_of_an_edit_are_those_its_words_name(copy: Path, shard: str, key: str, forge: Any) -> None:
    held_out = json.loads((copy / "dataset.json").read_text())["objects"]["ood"][0]
    rewrite(copy, change_edit(key, lambda record: record.update(objects=forge(record["objects"], held_out))), shard)
    message = refusal(copy)
    assert f"sample {key}: the objects of one of its edits are not those that its words add" in message


def test_every_object_that_an_edit_names_is_in_its_record(copy: Path) -> None:
    dataset = Dataset(copy)
    held_out = dataset.split.ood[:3]
    text = dataset.grammar.caption(dataset.grammar.object_queries(held_out))
    form = dataset.grammar.object_forms(held_out).tolist()
    for objects in ([], held_out[1:].tolist(), held_out[:2].tolist()):
        changes = {"text": text, "form": form, "objects": objects}
        rewrite(copy, change_edit(KEY, lambda record, changes=changes: record.update(changes)))
        assert f"sample {KEY}: the objects of one of its edits are not those" in refusal(copy)


@pytest.mark.parametrize("objects", [[1, 2, 3], None, "red", ["red"], [0.5], 3])
def test_the_objects_of_an_edit_are_ids(copy: Path, objects: Any) -> None:
    rewrite(copy, change_edit(KEY, lambda record: record.update(objects=objects)))
    assert SHARD in refusal(copy)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(("train.npz", damage) for damage in ("half", "empty", "garbage", "flipped", "gone")),
        *(("stamp.json", damage) for damage in ("half", "garbage", "gone")),
    ],
)
def test_what_a_check_left_is_made_again_when_damaged(
    copy: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    Dataset(copy).verify()
    path = copy / ".cache" / name
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 255
    damaged = {"half": content[: len(content) // 2], "empty": b"", "garbage": b"\xff{", "flipped": bytes(flipped)}
    path.unlink()
    if damage in damaged:
        path.write_bytes(damaged[damage])
    assert checks_done(copy, monkeypatch) == len(SPLITS)
    assert path.read_bytes() == content
    assert checks_done(copy, monkeypatch) == 0


def test_a_check_of_another_format_of_tables_is_repeated(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Dataset(copy).verify()
    np.savez(copy / ".cache" / "val.npz", objects=np.zeros(3))
    assert checks_done(copy, monkeypatch) == len(SPLITS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda meta: meta["config"]["picture"].update(size="big"), "'big' is no count"),
        (lambda meta: meta["picture"].update(size=-3), "-3 is no count"),
        (lambda meta: meta.update(max_objects=13), "13 is no count from 0 to 12"),
        (lambda meta: meta["config"].pop("coverage"), "KeyError: 'coverage'"),
        (lambda meta: meta["config"].pop("seed"), "KeyError: 'seed'"),
        (lambda meta: meta["config"].update(coverage="much"), "'much' in its config is no number"),
        (lambda meta: meta["config"].update(collision_rate="half"), "TypeError"),
        (lambda meta: meta["config"].update(edits={"swap": 1}), "KeyError: 'replace'"),
        (lambda meta: meta["config"].update(edits=3), "TypeError"),
        (lambda meta: meta.update(config=[]), "TypeError"),
        (lambda meta: meta["objects"]["train"].append(10**30), "damaged"),
        (lambda meta: meta["splits"]["val"]["shards"][0].update(num_samples="many"), "'many' is no count"),
    ],
)
def test_a_description_that_cannot_be_read(copy: Path, change: Callable[[dict[str, Any]], Any], said: str) -> None:
    edit_description(copy, change, rehash=True)
    message = refusal(copy)
    assert f"{copy / 'dataset.json'} is damaged" in message
    assert said in message


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta.update(hash="0123456789"),
        lambda meta: meta["config"].update(seed=1),
        lambda meta: meta["versions"].update(numpy="1.0"),
        lambda meta: meta.update(generator_version="9"),
    ],
)
def test_a_hash_that_is_not_the_config_s_is_refused(copy: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    edit_description(copy, change)
    message = refusal(copy)
    assert f"{copy / 'dataset.json'} is damaged" in message
    assert "but its config and versions have" in message
    assert "make the dataset again" in message


@pytest.mark.parametrize("where", ["../elsewhere/{}", "train/../../elsewhere/{}", "{root}/elsewhere/{}"])
def test_a_shard_outside_the_folder_is_not_read(copy: Path, where: str) -> None:
    (copy.parent / "elsewhere").mkdir()
    name = shutil.copy(copy / SHARD, copy.parent / "elsewhere").rpartition("/")[2]
    path = where.format(name, root=copy.parent)
    edit_description(copy, lambda meta: meta["splits"]["train"]["shards"][3].update(path=path))
    assert f"'{path}' lies outside the dataset's folder" in refusal(copy)
    assert [file.name for file in (copy.parent / "elsewhere").iterdir()] == [name]


def test_a_failed_check_leaves_no_folder_of_its_own(copy: Path) -> None:
    shard = copy / "mixed/mixed-000000.tar"
    content = shard.read_bytes()
    for damaged in (content[:-20000], None):
        shard.unlink()
        if damaged:
            shard.write_bytes(damaged)
        refusal(copy)
        assert not (copy / ".cache").exists()
    shard.write_bytes(content)
    Dataset(copy).verify()
    before = sorted(path.name for path in (copy / ".cache").iterdir())
    shard.write_bytes(content[:-20000])
    with pytest.raises(ValueError, match=r"mixed-000000\.tar"):
        Dataset(copy).verify()
    assert sorted(path.name for path in (copy / ".cache").iterdir()) == before

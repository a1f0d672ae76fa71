"""Datasets on disk: what is read is what was written, and whatever is wrong is said in one line."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from damage import KEY, SHARD, Members, change_json, checks_done, members_of, refusal, rewrite
from PIL import Image

from dualenc.data import Dataset
from dualenc.data.shards import decode_image, read_index
from dualenc.data.table import HELD_OUT, SEEN
from dualenc.errors import InputError
from dualenc.scenes import OOD, OPERATORS, SPLITS, TRAIN


def test_what_is_read_is_what_was_written(dataset: Dataset) -> None:
    for split in SPLITS:
        table, i = dataset.table(split), 0
        assert len(table) == dataset.num_samples(split)
        for shard in dataset.shards[split]:
            members = members_of(shard.path)
            for key in dict.fromkeys(name.partition(".")[0] for name in members):
                record = json.loads(members[f"{key}.json"])
                ids = [item["id"] for item in record["objects"]]
                assert key == f"{split}-{record['index']:08d}"
                assert table.index[i] == record["index"]
                assert table.objects[i][table.objects[i] >= 0].tolist() == ids
                assert table.partner[i] == (-1 if record["partner"] is None else record["partner"])
                shown = table.positions[i, : len(ids)]
                assert np.allclose(shown, [item["position"] for item in record["objects"]])
                assert np.isnan(table.positions[i, len(ids) :]).all()
                assert dataset.tokenizer.decode(table.tokens[i]) == members[f"{key}.txt"].decode()
                assert table.forms[i][table.forms[i, :, 0] > 0].tolist() == record["caption"]["form"]
                negatives = [json.loads(line) for line in members.get(f"{key}.neg.txt", b"").decode().splitlines()]
                there = table.edit_operator[i] >= 0
                assert [OPERATORS[code] for code in table.edit_operator[i][there]] == [n["operator"] for n in negatives]
                for j, negative in enumerate(negatives):
                    assert dataset.tokenizer.decode(table.edit_tokens[i, j]) == negative["text"]
                    assert table.edit_made[i, j][table.edit_made[i, j] >= 0].tolist() == negative["objects"]
                    seen = np.all(dataset.split.status(np.array(negative["objects"])) == TRAIN)
                    assert table.edit_status[i, j] == (SEEN if seen else HELD_OUT)
                assert np.array_equal(dataset.image(split, i), simplejpeg.decode_jpeg(members[f"{key}.jpg"]))
                i += 1
    assert len(dataset) == 250
    assert dataset.paired
    assert dataset.max_objects == 3


def test_pictures_are_read_in_the_order_asked_for(dataset: Dataset) -> None:
    rows = np.array([149, 0, 63, 0])
    pictures = dataset.images("train", rows)
    assert (pictures.shape, pictures.dtype) == ((4, 32, 32, 3), np.uint8)
    assert np.array_equal(pictures[1], pictures[3])
    assert np.array_equal(pictures[2], dataset.image("train", 63))


def test_png_is_read_too() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    assert np.array_equal(decode_image(buffer.getvalue()), pixels)


def test_the_index_is_what_the_tar_says(made: Path) -> None:
    data = (made / SHARD).read_bytes()
    keys, index = read_index(data)
    with tarfile.open(made / SHARD) as archive:
        listed = {member.name: (member.offset_data, member.size) for member in archive}
    assert np.array_equal(np.load((made / SHARD).with_suffix(".idx.npy")), index)
    for key, row in zip(keys, index.reshape(-1, 4, 2).tolist()):
        for ending, entry in zip(("jpg", "txt", "json", "neg.txt"), row):
            assert tuple(entry) == listed.get(f"{key}.{ending}", (-1, -1))


@pytest.mark.parametrize("how", ["missing", "stale", "no array", "missing later"])
def test_the_index_is_rebuilt(copy: Path, how: str) -> None:
    path = (copy / SHARD).with_suffix(".idx.npy")
    right = np.load(path)
    if how == "missing later":
        Dataset(copy).verify()
    if how == "stale":
        np.save(path, right + 512)
    elif how == "no array":
        path.write_bytes(b"half a")
    else:
        path.unlink()
    Dataset(copy).verify()
    assert np.array_equal(np.load(path), right)


def test_a_dataset_is_checked_once_and_again_when_anything_changed(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [checks_done(copy, monkeypatch) for _ in range(2)] == [5, 0]
    os.utime(copy / SHARD)
    assert [checks_done(copy, monkeypatch) for _ in range(2)] == [5, 0]
    (copy / ".cache" / "train.npz").unlink()
    assert checks_done(copy, monkeypatch) == 5
    meta = json.loads((copy / "dataset.json").read_text())
    meta["objects"]["train"].append(meta["objects"]["ood"].pop())
    (copy / "dataset.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match="may not show"):
        checks_done(copy, monkeypatch)


def test_a_read_only_dataset_is_read(copy: Path) -> None:
    """By a process without the rights to write, even where the tests run as root."""
    program = """
import os, sys
from dualenc.data import Dataset
Dataset(sys.argv[2]).verify()  # imports whatever root's Python alone may read
if os.geteuid() == 0:
    os.setuid(65534)
dataset = Dataset(sys.argv[1])
dataset.verify()
print(dataset.images("train", dataset.table("train").index[:3]).shape)
"""
    (copy / SHARD).with_suffix(".idx.npy").unlink()
    before = sorted(copy.rglob("*"))
    home = Path("/tmp") / f"dualenc-read-only-{os.getpid()}"
    try:
        shutil.copytree(copy, home)
        for path in (home, *home.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        result = subprocess.run(
            [sys.executable, "-c", program, str(home), str(copy)], capture_output=True, text=True, timeout=60
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout == "(3, 32, 32, 3)\n"
        assert "read-only" in result.stderr
        assert len(list(home.rglob("*"))) == len(before)
    finally:
        for path in (home, *(p for p in home.rglob("*") if p.is_dir())):
            path.chmod(0o755)
        shutil.rmtree(home)


def test_a_truncated_shard(copy: Path) -> None:
    data = (copy / SHARD).read_bytes()
    for size in (len(data) // 2, len(data) // 2 + 700, len(data) - 11_000, 1024, 100, 0):
        (copy / SHARD).write_bytes(data[:size])
        assert SHARD in refusal(copy)


def test_a_flipped_bit_anywhere(copy: Path) -> None:
    """In pictures, texts, JSON, headers and padding."""
    data = (copy / SHARD).read_bytes()
    rng = np.random.default_rng(0)
    offsets, _ = zip(*np.load((copy / SHARD).with_suffix(".idx.npy"))[3].reshape(4, 2).tolist())
    places = [*offsets, *(offset - 512 + 124 + 9 for offset in offsets), *rng.integers(0, len(data), 10).tolist()]
    dataset = Dataset(copy)
    [shard] = [shard for shard in dataset.shards["train"] if shard.path == copy / SHARD]
    dataset.shards = {name: [shard] if name == "train" else [] for name in SPLITS}
    for place in places:
        for bit in (0, 3, 7):
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            (copy / SHARD).write_bytes(flipped)
            with pytest.raises(InputError, match=r"train-000003\.tar") as caught:
                dataset._check_shard(checker_of(dataset), (0, shard))
            assert "\n" not in str(caught.value)
    assert SHARD in refusal(copy)


def checker_of(dataset: Dataset) -> Any:
    from dualenc.data.checks import SampleChecker

    return SampleChecker(dataset.grammar, dataset.split, dataset.tokenizer, dataset.image_size, "train")


@pytest.mark.parametrize("ending", ["jpg", "txt", "json"])
def test_a_missing_member(copy: Path, ending: str) -> None:
    rewrite(copy, lambda members: members.pop(f"{KEY}.{ending}"))
    message = refusal(copy)
    assert KEY in message
    assert SHARD in message
    assert ("image" if ending == "jpg" else ending) in message


def test_a_missing_shard_and_a_missing_sample(copy: Path) -> None:
    rewrite(copy, lambda members: [members.pop(name) for name in list(members) if name.startswith(KEY)])
    assert "holds 15 samples, dataset.json says 16" in refusal(copy)
    (copy / SHARD).unlink()
    assert f"{SHARD} is missing" in refusal(copy)


def test_an_unknown_word(copy: Path) -> None:
    rewrite(copy, lambda members: members.update({f"{KEY}.txt": b"a red teapot"}))
    message = refusal(copy)
    assert "'teapot'" in message
    assert KEY in message


def test_a_picture_of_another_size(copy: Path) -> None:
    picture = simplejpeg.encode_jpeg(np.zeros((32, 48, 3), dtype=np.uint8))
    rewrite(copy, lambda members: members.update({f"{KEY}.jpg": picture}))
    message = refusal(copy)
    assert "48 x 32 pixels, dataset.json says 32 x 32" in message
    assert KEY in message


def test_a_picture_that_is_none(copy: Path) -> None:
    rewrite(copy, lambda members: members.update({f"{KEY}.jpg": b"GIF89a"}))
    assert "neither JPEG nor PNG" in refusal(copy)


def held_out_object(folder: Path) -> int:
    return json.loads((folder / "dataset.json").read_text())["objects"]["ood"][0]


def test_a_held_out_object_in_train(copy: Path) -> None:
    new = held_out_object(copy)
    rewrite(copy, change_json(KEY, lambda record: record["objects"][0].update(id=new)))
    message = refusal(copy)
    assert "shows an object that train may not show" in message
    assert KEY in message


def test_an_edit_that_names_a_held_out_object(copy: Path) -> None:
    dataset = Dataset(copy)
    new = int(held_out_object(copy))
    text, form = dataset.grammar.object_query(new), dataset.grammar.object_forms(np.array([new])).tolist()
    line = {"text": text, "operator": "add", "concept": None, "objects": [new], "form": form}
    rewrite(copy, lambda members: members.update({f"{KEY}.neg.txt": json.dumps(line).encode()}))
    assert "names a held-out object" in refusal(copy)


def test_a_false_caption_and_a_true_edit(copy: Path, tmp_path: Path) -> None:
    other = shutil.copytree(copy, tmp_path / "other")
    members = members_of(copy / SHARD)
    caption = json.loads(members[f"{KEY}.json"])["caption"]
    negatives = members[f"{KEY}.neg.txt"].decode().splitlines()
    wrong = json.loads(negatives[0])

    def lie(members: Members) -> None:
        members[f"{KEY}.txt"] = wrong["text"].encode()
        change_json(KEY, lambda record: record["caption"].update(form=wrong["form"]))(members)

    def tell_the_truth(members: Members) -> None:
        edit = {**wrong, "text": members[f"{KEY}.txt"].decode(), "form": caption["form"]}
        members[f"{KEY}.neg.txt"] = (json.dumps(edit) + "\n").encode()

    rewrite(copy, lie)
    assert "its caption is false of its scene" in refusal(copy)
    rewrite(other, tell_the_truth)
    assert "one of its edits is true of its scene" in refusal(other)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["caption"]["form"].reverse() or record["caption"]["form"][0].reverse(),
        lambda record: record.pop("objects"),
        lambda record: record.update(objects=7),
        lambda record: record["objects"][0].update(id=36),
        lambda record: record["objects"][0].update(id="red"),
        lambda record: record["objects"][0].update(position=[0.1, 0.2, 0.3]),
        lambda record: record.update(objects=record["objects"] * 4),
        lambda record: record.update(index=10**30),
    ],
)
def test_a_record_that_is_wrong(copy: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    rewrite(copy, change_json(KEY, change))
    assert SHARD in refusal(copy)


def test_a_mixed_scene_must_be_mixed(copy: Path) -> None:
    dataset = Dataset(copy)

    def unmix(members: Members) -> None:
        record = json.loads(members["mixed-00000003.json"])
        kept = [o for o in record["objects"] if dataset.split.status(np.array(o["id"])) == OOD]
        form = [[1, *o["values"]] for o in kept]
        phrases = [dataset.grammar.object_query(o["id"]) for o in kept]
        members["mixed-00000003.txt"] = dataset.grammar.caption(phrases).encode()
        record.update(objects=kept, caption={"form": form})
        members["mixed-00000003.json"] = json.dumps(record).encode()
        members.pop("mixed-00000003.neg.txt", None)

    rewrite(copy, unmix, "mixed/mixed-000000.tar")
    assert "mixed-00000003: shows no object of a kind that mixed must show" in refusal(copy)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "holds no dataset.json"),
        ("{", "not valid JSON"),
        ("[]", "format version None"),
        ({"format_version": 2}, "format version 2, this dualenc reads 1"),
        ({"objects": {"train": [0]}}, "damaged"),
        ({"objects": {"train": [0], "val_ood": [1], "ood": [2]}}, "do not divide the objects"),
        ({"concepts": {"color": ["red"], "shape": ["red"]}}, "damaged"),
        ({"splits": [], "hash": 3}, "damaged"),
    ],
)
def test_a_description_that_is_wrong(copy: Path, content: Any, said: str) -> None:
    path = copy / "dataset.json"
    if isinstance(content, dict):
        content = json.dumps({**json.loads(path.read_text()), **content})
    path.unlink() if content is None else path.write_text(content)
    assert said in refusal(copy)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nowhere", tmp_path / "file", tmp_path):
        with pytest.raises(InputError, match=r"data\.path: .* holds no dataset\.json"):
            Dataset(path)

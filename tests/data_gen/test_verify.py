"""`python -m data_gen.verify`: a sound dataset passes, and whatever is damaged in one is named with file and member."""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg

from data_gen.check_sample import Rules
from data_gen.check_shard import ShardCheck
from data_gen.members import MEMBERS, listed_columns, member_of
from data_gen.verify import Found, VerifyConfig, verify
from dualenc.configs import short_hash
from dualenc.scenes import ConceptSpace, Grammar

Members = dict[str, bytes]  # name in the tar -> bytes
SHARD = "train/train-000002.tar"
KEY = "train-00000045"


@pytest.fixture
def copy(small_dataset: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(small_dataset, tmp_path / "dataset")


def members_of(path: Path) -> Members:
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def write(folder: Path, members: list[tuple[str, bytes]], shard: str = SHARD) -> None:
    """Writes a shard with these members, its index, and its hash and size into dataset.json."""
    path, offsets = folder / shard, {}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
            key, _, ending = name.partition(".")
            row = offsets.setdefault(key, np.full((len(MEMBERS), 2), -1, dtype=np.int64))
            if member_of(ending):
                row[MEMBERS.index(str(member_of(ending)))] = buffer.tell() - -(-len(content) // 512) * 512, len(content)
    path.write_bytes(buffer.getvalue())
    np.save(path.with_suffix(".idx.npy"), listed_columns(np.array(list(offsets.values())).reshape(len(offsets), -1)))
    describe(folder, lambda meta: _entry(meta, shard).update(size=path.stat().st_size, sha256=_sha(path)))


def _entry(meta: dict[str, Any], shard: str = SHARD) -> dict[str, Any]:
    [entry] = [entry for entry in meta["splits"][shard.split("/")[0]]["shards"] if entry["path"] == shard]
    return entry


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def describe(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    meta = json.loads((folder / "dataset.json").read_text())
    change(meta)
    (folder / "dataset.json").write_text(json.dumps(meta))


def problems(folder: Path, shard: str = SHARD) -> list[str]:
    """What the check of one shard tells, without the folder's path."""
    meta = json.loads((folder / "dataset.json").read_text())
    split, number = shard.split("/")[0], int(shard[-10:-4])
    check = ShardCheck(Rules.of(meta), folder / shard, split, start=20 * number)
    report = check.run(_entry(meta, shard))
    assert report.num_problems == len(report.problems)
    return [problem.removeprefix(f"{folder}/") for problem in report.problems]


def change_json(change: Callable[[dict[str, Any]], Any], key: str = KEY) -> Callable[[Members], None]:
    def edit(members: Members) -> None:
        record = json.loads(members[f"{key}.json"])
        change(record)
        members[f"{key}.json"] = json.dumps(record).encode()

    return edit


def change_edit(change: Callable[[dict[str, Any]], Any], key: str = KEY) -> Callable[[Members], None]:
    def edit(members: Members) -> None:
        first, *rest = members[f"{key}.neg.txt"].decode().splitlines()
        record = json.loads(first)
        change(record)
        members[f"{key}.neg.txt"] = "\n".join([json.dumps(record), *rest]).encode()

    return edit


def replaced(ending: str, content: bytes) -> Callable[[Members], None]:
    return lambda members: members.update({f"{KEY}.{ending}": content})


def small_picture(members: Members) -> None:
    pixels = np.zeros((31, 32, 3), dtype=np.uint8)
    members[f"{KEY}.jpg"] = simplejpeg.encode_jpeg(pixels, quality=95, colorsubsampling="444")


def half_picture(members: Members) -> None:
    members[f"{KEY}.jpg"] = members[f"{KEY}.jpg"][: len(members[f"{KEY}.jpg"]) // 2]


def lie(members: Members) -> None:
    """The first edit becomes the caption."""
    wrong = json.loads(members[f"{KEY}.neg.txt"].decode().splitlines()[0])
    members[f"{KEY}.txt"] = wrong["text"].encode()
    change_json(lambda record: record["caption"].update(form=wrong["form"]))(members)


def tell_the_truth(members: Members) -> None:
    """The caption becomes the first edit."""
    text, form = members[f"{KEY}.txt"].decode(), json.loads(members[f"{KEY}.json"])["caption"]["form"]
    change_edit(lambda edit: edit.update(text=text, form=form, objects=[], spans=[[0, 1]]))(members)


def first_object(**changes: Any) -> Callable[[Members], None]:
    return change_json(lambda record: record["objects"][0].update(changes))


SAMPLE_DAMAGE: list[tuple[Callable[[Members], Any], str, str]] = [
    (replaced("jpg", b"GIF89a"), "jpg", "is damaged"),
    (half_picture, "jpg", "is damaged"),
    (small_picture, "jpg", "decodes to 31x32x3, dataset.json says 32 pixels a side"),
    (replaced("json", b"{"), "json", "is damaged (JSONDecodeError"),
    (replaced("json", b"[]"), "json", "is no JSON object"),
    (replaced("json", b"\xff{}"), "json", "is damaged (UnicodeDecodeError"),
    (change_json(lambda record: record.pop("objects")), "json", "is damaged (KeyError: 'objects')"),
    (change_json(lambda record: record.update(index=47)), "json", "says it is scene 47 of train"),
    (change_json(lambda record: record.update(split="val")), "json", "says it is scene 45 of val"),
    (change_json(lambda record: record["provenance"].update(seed=9)), "json", "was made with seed 9"),
    (change_json(lambda record: record.update(partner=3)), "json", "its partner 3 does not name it in turn"),
    (first_object(id=0), "json", "object 0: its id 0 is not that of its values"),
    (first_object(id="red"), "json", "object 0: its id red is not that of its values"),
    (first_object(concepts={"color": "red"}), "json", "object 0: its concepts {'color': 'red'} are not its values"),
    (first_object(values=[9, 9]), "json", "is damaged (IndexError"),
    (first_object(position=[0.5, 1.5]), "json", "object 0: its position [0.5, 1.5] is outside the picture"),
    (first_object(position=[float("nan"), 0.5]), "json", "NaN is no JSON"),
    (first_object(box=[20, 5, 33, 9]), "json", "object 0: its box [20, 5, 33, 9] is no box inside the picture"),
    (first_object(box=[9, 5, 9, 9]), "json", "object 0: its box [9, 5, 9, 9] is no box inside the picture"),
    (first_object(visible_pixels=0), "json", "object 0: its 0 visible pixels do not fit its box"),
    (first_object(visible_pixels=1025), "json", "object 0: its 1025 visible pixels do not fit its box"),
    (first_object(size=90), "json", "object 0: its size 90 does not fit the picture"),
    (change_json(lambda r: r.update(objects=r["objects"][:1] * 2)), "json", "shows an object twice"),
    (change_json(lambda r: r.update(objects=r["objects"] * 4)), "json", "objects, the config has 1, 2, 3"),
    (change_json(lambda r: r["caption"].update(logical={"and": []})), "json", "its logical form {'and': []} is not"),
    (
        change_json(lambda r: r["caption"].update(template="look: {}")),
        "json",
        "does not follow its template 'look: {}'",
    ),
    (change_json(lambda r: r["caption"]["form"].reverse()), "txt", "the stored form is not what"),
    (replaced("txt", b"a red teapot"), "txt", "the word 'teapot' is not in the vocabulary of dataset.json"),
    (replaced("txt", b"a a red heart"), "txt", "is no sentence of the grammar"),
    (replaced("txt", b"\xff"), "txt", "is damaged (UnicodeDecodeError"),
    (lie, "txt", "the caption is false of its scene"),
    (tell_the_truth, "neg.txt line 1", "the edit is true of its scene"),
    (replaced("neg.txt", b""), "neg.txt", "is empty"),
    (replaced("neg.txt", b"{}"), "neg.txt line 1", "is damaged (KeyError: 'text')"),
    (change_edit(lambda edit: edit.update(objects=[])), "neg.txt line 1", "its objects [] are not those"),
    (change_edit(lambda edit: edit.update(spans=[])), "neg.txt line 1", "its spans [] mark no words"),
    (change_edit(lambda edit: edit.update(spans=[[3, 99]])), "neg.txt line 1", "its spans [[3, 99]] mark no words"),
    (change_edit(lambda edit: edit.update(spans=[[2, 1]])), "neg.txt line 1", "its spans [[2, 1]] mark no words"),
    (change_edit(lambda edit: edit.update(operator="paint")), "neg.txt line 1", "its operator 'paint' is unknown"),
    (change_edit(lambda edit: edit.update(depth=0)), "neg.txt line 1", "its depth 0 is no number of operations"),
    (change_edit(lambda edit: edit["form"].reverse()), "neg.txt line 1", "the stored form is not what"),
]


@pytest.mark.parametrize(("damage", "member", "said"), SAMPLE_DAMAGE)
def test_a_damaged_sample_is_named(copy: Path, damage: Callable[[Members], Any], member: str, said: str) -> None:
    members = members_of(copy / SHARD)
    damage(members)
    write(copy, list(members.items()))
    found = problems(copy)
    where = f"{SHARD}: {KEY}.{member}".removesuffix(".")
    assert [problem for problem in found if problem.startswith(f"{where}: ") and said in problem], found
    assert all(KEY in problem for problem in found), "nothing else is blamed"


def test_a_sound_shard_is_written_anew_without_a_problem(copy: Path) -> None:
    write(copy, list(members_of(copy / SHARD).items()))
    assert problems(copy) == []


def held_out(folder: Path) -> int:
    return json.loads((folder / "dataset.json").read_text())["objects"]["ood"][0]


def test_a_held_out_object_in_train_is_named_where_it_is_shown_and_where_it_is_said(copy: Path) -> None:
    space = ConceptSpace.from_dict(json.loads((copy / "dataset.json").read_text())["concepts"])
    grammar, new = Grammar(space), held_out(copy)
    values = space.decode(new).tolist()
    names = {name: listed[v] for name, listed, v in zip(space.names, space.values, values)}
    text, form = grammar.object_query(new), grammar.object_forms(np.array([new])).tolist()
    sound = members_of(copy / SHARD)

    members = dict(sound)
    first_object(id=new, values=values, concepts=names)(members)
    write(copy, list(members.items()))
    assert f"{SHARD}: {KEY}.json: shows an object that train may not show" in problems(copy)

    members = dict(sound)
    change_edit(lambda edit: edit.update(text=text, form=form, objects=[new], spans=[[0, 3]]))(members)
    write(copy, list(members.items()))
    assert problems(copy) == [f"{SHARD}: {KEY}.neg.txt line 1: names the held-out object {new}"]


def test_partners_that_do_not_fit_are_named(copy: Path) -> None:
    members = members_of(copy / SHARD)
    records = {name: json.loads(content) for name, content in members.items() if name.endswith(".json")}
    index = next(record["index"] for record in records.values() if record["partner"] == record["index"] + 1)
    change_json(lambda record: record.update(partner=None), f"train-{index + 1:08d}")(members)
    write(copy, list(members.items()))
    assert problems(copy) == [f"{SHARD}: train-{index:08d}.json: its partner {index + 1} does not name it in turn"]
    alone = next(r["index"] for r in records.values() if r["partner"] is None and r["index"] % 2 == 0)
    members = members_of(copy / SHARD)
    for here, there in ((alone, alone + 1), (alone + 1, alone)):
        change_json(lambda record, there=there: record.update(partner=there), f"train-{here:08d}")(members)
    write(copy, list(members.items()))
    said = "does not differ from it by one exchanged value"
    assert [problem for problem in problems(copy) if f"its partner {alone + 1} {said}" in problem]


def test_a_member_that_is_none_is_twice_or_stands_apart(copy: Path) -> None:
    sound = list(members_of(copy / SHARD).items())
    write(copy, [*sound, ("train-00000059.exe", b"x")])
    assert problems(copy) == [f"{SHARD}: train-00000059.exe: is no member of a sample"]
    write(copy, [*sound, ("train-00000059.txt", b"x")])
    assert f"{SHARD}: train-00000059.txt: is a second txt of its sample" in problems(copy)
    write(copy, [*sound[1:], sound[0]])
    assert f"{SHARD}: train-00000040: its members do not stand together" in problems(copy)
    write(copy, [(name, data) for name, data in sound if name != f"{KEY}.txt"])
    assert problems(copy) == [f"{SHARD}: {KEY}: has no txt"]
    write(copy, [(name, data) for name, data in sound if not name.startswith(KEY)])
    found = problems(copy)
    assert f"{SHARD}: holds 19 samples, dataset.json says 20" in found
    assert f"{SHARD}: train-00000046: stands where {KEY} should" in found


@pytest.mark.parametrize("how", ["missing", "stale", "no array", "another type"])
def test_an_index_that_does_not_agree_is_named(copy: Path, how: str) -> None:
    path = (copy / SHARD).with_suffix(".idx.npy")
    right = np.load(path)
    if how == "missing":
        path.unlink()
    elif how == "no array":
        path.write_bytes(b"half a")
    else:
        np.save(path, right + 512 if how == "stale" else right.astype(np.int32))
    told = "cannot be read" if how in ("missing", "no array") else "is not what the tar says"
    [problem] = problems(copy)
    assert problem.startswith(f"{SHARD}: its index train-000002.idx.npy {told}")


def test_bytes_that_are_not_those_that_were_hashed(copy: Path) -> None:
    content = bytearray((copy / SHARD).read_bytes())
    offset, size = np.load((copy / SHARD).with_suffix(".idx.npy"))[5, :2].tolist()
    assert size % 512
    content[offset + size] = 1  # behind a picture, where nobody reads
    (copy / SHARD).write_bytes(content)
    assert problems(copy) == [f"{SHARD}: its SHA-256 is not the one in dataset.json"]


def test_a_tar_that_cannot_be_read_is_one_problem(copy: Path) -> None:
    content = (copy / SHARD).read_bytes()
    header = int(np.load((copy / SHARD).with_suffix(".idx.npy"))[5, 0]) - 512
    flipped = [*range(0, 512, 37), 124, 135, 148, 156, 511]  # of a header; 148: its checksum
    damages = [content[: header + k] + bytes([content[header + k] ^ 1]) + content[header + k + 1 :] for k in flipped]
    damages += [
        content[:header] + bytes(512) + content[header + 512 :],
        content[:header],
        content[: header + 100],
        content[: header + 600],
        content[:-1] + b"\1",
        b"\1" + content[1:],
        b"",
    ]
    for damaged in damages:
        (copy / SHARD).write_bytes(damaged)
        [problem] = problems(copy)
        assert problem.startswith(f"{SHARD}: cannot be read (")
    (copy / SHARD).write_bytes(damages[0])
    assert found(copy).problems == [f"{copy / SHARD}: cannot be read (no sound header at byte {header} of the tar)"]
    (copy / SHARD).unlink()
    assert found(copy).problems == [f"{copy / SHARD}: cannot be read (No such file or directory)"]


def found(folder: Path) -> Found:
    return verify(folder, VerifyConfig(num_workers=2))


def test_a_sound_dataset_is_one_line(data_gen: Any, small_dataset: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in small_dataset.rglob("*")}
    result = data_gen.run(small_dataset, "num_workers=2", cwd=small_dataset.parent, module="data_gen.verify")
    assert (result.returncode, len(result.stdout.splitlines())) == (0, 1), result.stderr
    size = sum(path.stat().st_size for path in small_dataset.rglob("*.tar"))
    assert result.stdout == f"{small_dataset}: right: 240 samples in 13 shards, {size / 1e6:.1f} MB\n"
    assert {path: path.stat().st_mtime_ns for path in small_dataset.rglob("*")} == before


def test_a_damaged_dataset_ends_in_exit_code_1(data_gen: Any, copy: Path) -> None:
    members = members_of(copy / SHARD)
    lie(members)
    write(copy, list(members.items()))
    (copy / "ood" / "ood-000001.tar").unlink()
    (copy / "val" / "notes.txt").write_text("mine")
    result = data_gen.run(copy, cwd=copy.parent, module="data_gen.verify")
    assert (result.returncode, result.stdout) == (1, "")
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    for expected in (
        f"{copy / SHARD}: {KEY}.txt: the caption is false of its scene",
        f"{copy}/ood/ood-000001.tar: cannot be read (No such file or directory)",
        f"{copy}/val/notes.txt: is not in dataset.json",
    ):
        assert expected in lines
    assert lines[-1] == f"error: {copy}: {len(lines) - 2} discrepancies", "all but the count of samples and itself"


def rehash(meta: dict[str, Any]) -> None:
    keys = ("config", "format_version", "generator_version", "device", "versions")
    meta["hash"] = short_hash({key: meta[key] for key in keys})


def move_object(meta: dict[str, Any]) -> None:
    meta["objects"]["train"].append(meta["objects"]["ood"].pop())


DESCRIPTION_DAMAGE: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda meta: meta.update(hash="0123456789"), "hash: is 0123456789, config and versions have"),
    (lambda meta: meta["versions"].update(numpy="1.0"), "hash: is"),
    (lambda meta: meta.update(seed=5), "seed: is 5, it should be 0"),
    (lambda meta: meta.update(coverage=0.5), "coverage: is 0.5, it should be 0.6"),
    (lambda meta: meta.update(max_objects=4), "max_objects: is 4, it should be 3"),
    (lambda meta: meta["picture"].update(size=64), "picture.size: is 64, it should be 32"),
    (lambda meta: meta["vocabulary"].remove("red"), ".txt: the word 'red' is not in the vocabulary"),
    (lambda meta: meta["vocabulary"].append("red"), "vocabulary: holds a word twice"),
    (lambda meta: meta.pop("concepts"), "is damaged (KeyError: 'concepts')"),
    (lambda meta: meta["objects"]["ood"].pop(), "do not divide the objects among them"),
    (move_object, "coverage: is"),
    (move_object, "splits.train.coverage.objects_allowed: is 23, the samples have 24"),
    (lambda meta: meta["splits"]["train"].update(collision_rate=0.3), "splits.train.collision_rate: is 0.3, the"),
    (lambda meta: meta["splits"]["val"]["edits"]["swap"].update(num=3), "splits.val.edits.swap.num: is 3, the samples"),
    (lambda meta: meta["splits"]["val"]["edits"]["add"].update(rate=0.5), "splits.val.edits.add.rate: is 0.5, the"),
    (lambda meta: meta["splits"]["ood"]["coverage"].update(pairs_seen=0), "splits.ood.coverage.pairs_seen: is 0, the"),
    (
        lambda meta: meta["splits"]["ood"]["coverage"]["values"]["color"].update(red=99),
        "splits.ood.coverage.values.color.red: is 99, the samples have",
    ),
    (lambda meta: meta["splits"].pop("mixed"), "splits: the config asks for 20 scenes of mixed"),
    (lambda meta: meta["splits"].pop("mixed"), "mixed/mixed-000000.tar: is not in dataset.json"),
    (lambda meta: meta["splits"]["val"]["shards"].pop(), "val/val-000001.tar: is not in dataset.json"),
    (lambda meta: meta["splits"]["val"]["shards"].pop(), "splits.val.num_samples: is 40, the samples have 20"),
    (lambda meta: meta["splits"]["val"]["shards"][0].update(path="../x.tar"), "'../x.tar' should be 'val/val-000000"),
    (lambda meta: meta["splits"]["val"]["shards"][0].update(size=7), "bytes, dataset.json says 7"),
    (lambda meta: meta["splits"]["val"]["shards"][0].update(sha256="0"), "its SHA-256 is not the one"),
    (lambda meta: meta["splits"]["val"]["shards"][0].update(num_samples=9), "holds 20 samples, dataset.json says 9"),
]


@pytest.mark.parametrize(("change", "said"), DESCRIPTION_DAMAGE)
def test_a_description_that_does_not_agree_is_named(
    copy: Path, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    describe(copy, change)
    told = found(copy).problems
    assert any(said in problem for problem in told), told
    assert all("\n" not in problem for problem in told)


def test_another_config_is_not_the_one_of_the_samples(copy: Path) -> None:
    describe(copy, lambda meta: [meta["config"]["num_samples"].update(val=41), rehash(meta)])
    assert found(copy).problems == [
        f"{copy}/dataset.json: splits.val.num_samples: is 40, the config has 41",
    ]


@pytest.mark.parametrize("content", ["{", "[]", "{}", "7"])
def test_a_description_that_is_none_is_a_discrepancy(copy: Path, content: str) -> None:
    (copy / "dataset.json").write_text(content)
    [problem] = found(copy).problems
    assert problem.startswith(f"{copy}/dataset.json: is ")


def test_many_problems_of_one_shard_are_counted_and_the_first_are_told(copy: Path) -> None:
    members = {name: b"a red teapot" if name.endswith(".txt") else c for name, c in members_of(copy / SHARD).items()}
    write(copy, list(members.items()))
    told = found(copy)
    assert f"{copy / SHARD}: 20 more problems" in told.problems
    assert told.num_problems > 40


def test_bad_usage_is_exit_code_2(data_gen: Any, copy: Path) -> None:
    def error(*arguments: Any) -> str:
        result = data_gen.run(*arguments, cwd=copy.parent, module="data_gen.verify")
        assert (result.returncode, result.stdout) == (2, "")
        assert len(result.stderr.splitlines()) == 1
        return result.stderr

    assert "no dataset given; say: python -m data_gen.verify DATASET" in error()
    assert "num_worker: unknown key; did you mean num_workers" in error(copy, "num_worker=1")
    assert "holds no dataset.json; give the folder of a finished dataset" in error(copy.parent)
    (copy / ".progress").mkdir()
    assert "is not finished; run the command that makes it again" in error(copy)
    (copy / ".progress").rmdir()
    describe(copy, lambda meta: meta.update(format_version=99))
    assert "has format version 99, this program reads up to 1; update it" in error(copy)
    help_text = data_gen.run("--help", cwd=copy.parent, module="data_gen.verify")
    assert help_text.returncode == 0
    assert "num_workers" in help_text.stdout

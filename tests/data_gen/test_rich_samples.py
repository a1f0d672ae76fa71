"""Datasets that use everything: captions of every kind, positives, edits by depth, opposites, masks, both styles."""

import io
import json
import math
import random
import shutil
import subprocess
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from watching import hashes, wait_until

from data_gen import browse
from data_gen.browse import BrowseConfig
from data_gen.check_sample import Rules, Said, check_named
from data_gen.check_shard import ShardCheck
from data_gen.config import load_config
from data_gen.render.tables import default_object_size
from data_gen.verify import VerifyConfig, verify
from dualenc.errors import InputError
from dualenc.scenes import ANY, EXISTS, ConceptSpace, Grammar, Language, Scenes, truth_of_own

Sample = dict[str, bytes]  # ending -> bytes
SPLITS = ("train", "val", "ood", "mixed")


def samples(folder: Path, split: str) -> list[Sample]:
    """All samples of a split, by the standard library."""
    found: dict[str, Sample] = {}
    for path in sorted((folder / split).glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                key, _, ending = member.name.partition(".")
                found.setdefault(key, {})[ending] = archive.extractfile(member).read()  # type: ignore[union-attr]
    return list(found.values())


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture(scope="module")
def meta(rich_dataset: Path) -> dict[str, Any]:
    return json.loads((rich_dataset / "dataset.json").read_text())


@pytest.fixture(scope="module")
def rich(rich_dataset: Path) -> dict[str, list[tuple[dict[str, Any], Sample]]]:
    """Split -> (record, sample)."""
    return {name: [(json.loads(s["json"]), s) for s in samples(rich_dataset, name)] for name in SPLITS}


def test_every_kind_occurs_and_is_counted(rich: dict[str, Any], meta: dict[str, Any]) -> None:
    for name in SPLITS:
        told, number = meta["splits"][name], len(rich[name])
        kinds = Counter(record["caption"]["kind"] for record, _ in rich[name])
        assert told["captions"] == {k: {"num": kinds[k], "rate": kinds[k] / number} for k in told["captions"]}
        opposites = Counter(record["opposite"]["kind"] for record, _ in rich[name] if record["opposite"])
        assert {kind: entry["num"] for kind, entry in told["opposites"].items()} == dict(opposites) | {
            kind: 0 for kind in told["opposites"] if kind not in opposites
        }
        assert told["num_positives"] == sum(len(record["positives"]) for record, _ in rich[name])
    train = meta["splits"]["train"]
    assert all(entry["num"] for entry in [*train["captions"].values(), *train["opposites"].values()])
    assert all(train["edits"][name]["num"] for name in ("swap", "replace", "add", "spatial", "negation", "depth2"))


def test_captions_differ_and_positives_mean_the_same(rich: dict[str, Any], meta: dict[str, Any]) -> None:
    space = ConceptSpace.from_dict(meta["concepts"])
    grammar, numbers = Grammar(space, Language.from_dict(meta["language"])), Counter()
    for record, sample in rich["train"]:
        texts = [sample["txt"].decode(), *(entry["text"] for entry in record["captions"])]
        assert len(set(texts)) == len(texts) <= 3
        numbers[len(texts)] += 1
        for entry in record["positives"]:
            assert entry["text"] not in texts[:1]
            assert grammar.parse(entry["text"]).tolist() == entry["form"]
            assert entry["operator"] in ("order", "synonym", "converse", "connective")
            if entry["operator"] == "order":
                assert sorted(entry["form"]) == sorted(record["caption"]["form"]) or len(entry["form"]) > 2
    assert numbers[3] > numbers[1]


def test_opposites_differ_in_one_thing_and_the_captions_tell_them_apart(
    rich: dict[str, Any], meta: dict[str, Any]
) -> None:
    space = ConceptSpace.from_dict(meta["concepts"])
    margin = meta["config"]["relation_margin"]
    for name in SPLITS:
        for record, sample in rich[name]:
            other = record["opposite"]
            assert ("opposite.png" in sample) == ("opposite.txt" in sample) == (other is not None)
            if other is None:
                continue
            scenes = []
            for objects in (record["objects"], other["objects"]):
                places = np.array([[entry["position"] for entry in objects]], dtype=np.float32)
                scenes.append(Scenes(space, np.array([[entry["id"] for entry in objects]]), places, margin))
            for form, truths in ((record["caption"]["form"], [True, False]), (other["caption"]["form"], [False, True])):
                assert [bool(truth_of_own(np.array([form]), scene)[0]) for scene in scenes] == truths
            if name == "train":
                assert all(entry["id"] in meta["objects"]["train"] for entry in other["objects"])
            sizes = [[entry["size"] for entry in side["objects"]] for side in (record, other)]
            assert sizes[0] == sizes[1], "the look of a slot stays"


def test_before_jpeg_a_picture_and_its_opposite_differ_at_the_two_objects_only(rich: dict[str, Any]) -> None:
    seen, reach = 0, math.ceil(48 * default_object_size(3)) + 2  # the square that an object is drawn in
    for record, sample in rich["train"]:
        if record["opposite"] is None:
            continue
        seen += 1
        differs = (pixels(sample["png"]) != pixels(sample["opposite.png"])).any(axis=2)
        allowed = np.zeros(differs.shape, dtype=bool)
        for a, b in zip(record["objects"], record["opposite"]["objects"]):
            if (a["id"], a["position"]) != (b["id"], b["position"]):
                for (x, y), size in ((a["position"], a["size"]), (b["position"], b["size"])):
                    left, top = (int(48 * edge - size / 2) for edge in (x, y))
                    allowed[top : top + reach, left : left + reach] = True
        assert differs.any()
        assert not (differs & ~allowed).any()
    assert seen > 30


def test_masks_show_which_pixels_are_whose(rich: dict[str, Any]) -> None:
    for record, sample in rich["val"]:
        ids = pixels(sample["mask.png"])
        assert (ids.shape, ids.dtype) == ((48, 48), np.uint8)
        assert set(np.unique(ids)) == set(range(len(record["objects"]) + 1))
        for number, entry in enumerate(record["objects"], start=1):
            assert (ids == number).sum() == entry["visible_pixels"]
            x0, y0, x1, y1 = entry["box"]
            assert (ids[y0:y1, x0:x1] == number).sum() == entry["visible_pixels"]


def test_relations_are_listed_where_they_are_definite(rich: dict[str, Any], meta: dict[str, Any]) -> None:
    margin = meta["config"]["relation_margin"]
    for record, _ in rich["ood"]:
        places = [entry["position"] for entry in record["objects"]]
        listed = {(a, name, b) for a, name, b in record["relations"]}
        for a, here in enumerate(places):
            for b, there in enumerate(places):
                for axis, name in ((0, "left of"), (1, "above")):
                    if abs(there[axis] - here[axis] - margin) > 1e-4:
                        assert ((a, name, b) in listed) == (there[axis] - here[axis] > margin)


def test_a_sound_dataset_passes_and_the_page_shows_what_it_holds(
    rich: dict[str, Any], rich_dataset: Path, tmp_path: Path
) -> None:
    assert verify(rich_dataset, VerifyConfig(num_workers=1)).problems == []
    text = browse.browse(rich_dataset, BrowseConfig(out=str(tmp_path / "page.html"), num=20)).read_text()
    shown = [pair for name in SPLITS for pair in rich[name][:20]]
    assert text.count(" opposite</span>") == sum(record["opposite"] is not None for record, _ in shown)
    assert text.count('<img class="mask"') == len(shown)
    for record, sample in shown:
        assert f'<p class="caption">{sample["txt"].decode()}</p>' in text
        if record["opposite"]:
            assert f'<p class="caption">{sample["opposite.txt"].decode()}</p>' in text
        for entry in [*record["captions"], *record["positives"]]:
            assert f"</span> {entry['text']}</li>" in text


SHARD = "train/train-000001.tar"


def with_opposite(members: Sample, kind: str) -> str:
    """The key of a sample with an opposite of this kind."""
    records = {name.partition(".")[0]: json.loads(data) for name, data in members.items() if name.endswith(".json")}
    return next(key for key, record in records.items() if record["opposite"] and record["opposite"]["kind"] == kind)


def change_json(change: Callable[[dict[str, Any]], Any]) -> Callable[[Sample, str], None]:
    def edit(members: Sample, key: str) -> None:
        record = json.loads(members[f"{key}.json"])
        change(record)
        members[f"{key}.json"] = json.dumps(record).encode()

    return edit


def exchange_texts(members: Sample, key: str) -> None:
    own, other = f"{key}.txt", f"{key}.opposite.txt"
    members[own], members[other] = members[other], members[own]

    def exchange(record: dict[str, Any]) -> None:
        for name in ("form", "logical", "template"):
            mine, theirs = record["caption"], record["opposite"]["caption"]
            mine[name], theirs[name] = theirs[name], mine[name]

    change_json(exchange)(members, key)


def blank_mask(members: Sample, key: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((48, 48), dtype=np.uint8)).save(buffer, "PNG")
    members[f"{key}.mask.png"] = buffer.getvalue()


def problems_after(damage: Callable[[Sample, str], Any], dataset: Path, folder: Path) -> tuple[str, list[str]]:
    """The key of the binding sample that is damaged in a copy of the dataset, and what is found, without the folder."""
    shutil.copytree(dataset, folder)
    with tarfile.open(folder / SHARD) as archive:
        members = {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]
    key = with_opposite(members, "binding")
    damage(members, key)
    with tarfile.open(folder / SHARD, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    meta = json.loads((folder / "dataset.json").read_text())
    check = ShardCheck(Rules.of(meta), folder / SHARD, "train", start=20)
    found = check.run(meta["splits"]["train"]["shards"][1]).problems
    return key, [problem.removeprefix(f"{folder}/") for problem in found]


@pytest.mark.parametrize(
    ("damage", "member", "said"),
    [
        (lambda m, k: m.pop(f"{k}.opposite.txt"), "", "has a part of an opposite"),
        (lambda m, k: m.update({f"{k}.opposite.png": b"\x89PNG"}), "opposite.png", "is damaged"),
        (exchange_texts, "txt", "the caption is false of its scene"),
        (exchange_texts, "opposite.txt", "is not false of the sample's own scene"),
        (change_json(lambda r: r["opposite"].update(kind="spatial")), "json opposite", "is no spatial opposite"),
        (change_json(lambda r: r["opposite"]["objects"].pop()), "json opposite", "objects, the scene has"),
        (change_json(lambda r: r["opposite"]["objects"][0].update(box=[0, 0, 99, 9])), "json opposite", "is no box"),
        (change_json(lambda r: r["captions"][0].update(text="a teapot")), "json captions 0", "the word 'teapot'"),
        (change_json(lambda r: r["captions"].append(r["opposite"]["caption"])), "json captions", "is damaged"),
        (
            change_json(lambda r: r["positives"].append({**r["opposite"]["caption"], "text": "?"})),
            "json positives",
            "the word '?'",
        ),
        (blank_mask, "mask.png", "object 0 has 0 pixels in []"),
        (lambda m, k: m.update({f"{k}.mask.png": m[f"{k}.png"]}), "mask.png", "not one byte for each"),
        (lambda m, k: m.pop(f"{k}.mask.png"), "", "has a mask, or has none, against the config"),
    ],
)
def test_a_damaged_member_is_named(
    rich_dataset: Path, tmp_path: Path, damage: Callable[[Sample, str], Any], member: str, said: str
) -> None:
    key, found = problems_after(damage, rich_dataset, tmp_path / "dataset")
    where = f"{SHARD}: {key}.{member}".removesuffix(".")
    assert [problem for problem in found if problem.startswith(where) and said in problem], found


def test_what_lies_inside_the_margin_is_named(rich_dataset: Path, meta: dict[str, Any]) -> None:
    """With a wider margin than the dataset was made with, relations that were definite are not so any more."""
    wide = {**meta, "config": {**meta["config"], "relation_margin": 0.45}}
    check = ShardCheck(Rules.of(wide), rich_dataset / SHARD, "train", start=20)
    found = check.run(meta["splits"]["train"]["shards"][1]).problems
    assert found
    assert all("is neither true nor false of the scene: a relation lies inside the margin" in text for text in found)


def test_a_description_that_no_train_object_fits_is_named(meta: dict[str, Any]) -> None:
    everything = sorted(i for ids in meta["objects"].values() for i in ids)
    rules = Rules.of({**meta, "objects": {"train": everything[:1], "val_ood": [], "ood": everything[1:]}})
    first = rules.space.decode(np.array(everything[0])).tolist()
    for values, said in (([first[0], ANY], []), ([first[0] + 1, ANY], ["describes what only held-out objects are"])):
        row = [EXISTS, *values, *[ANY] * (len(first) - 2)]
        assert list(check_named(Said([row], frozenset()), "train", rules)) == said
        assert list(check_named(Said([row], frozenset()), "val", rules)) == []


def test_a_held_out_object_in_an_opposite_is_named(rich_dataset: Path, tmp_path: Path, meta: dict[str, Any]) -> None:
    space = ConceptSpace.from_dict(meta["concepts"])
    new = meta["objects"]["ood"][0]
    values = space.decode(np.array(new)).tolist()
    concepts = {name: names[v] for name, names, v in zip(space.names, space.values, values)}
    change = change_json(lambda r: r["opposite"]["objects"][0].update(id=new, values=values, concepts=concepts))
    key, found = problems_after(change, rich_dataset, tmp_path / "dataset")
    assert f"{SHARD}: {key}.json opposite: shows the held-out object {new}" in found


@pytest.fixture(scope="module")
def clevr(data_gen: Any, clevr_config: Path) -> dict[str, str]:
    """The hashes of the 3-D dataset, made by one worker."""
    result = data_gen.run(clevr_config, "data.out=whole", "data.num_workers=1", cwd=clevr_config.parent)
    assert result.returncode == 0, result.stderr
    return hashes(clevr_config.parent / "whole")


def test_the_3d_style_fills_every_member_too(clevr: dict[str, str], clevr_config: Path) -> None:
    folder = clevr_config.parent / "whole"
    assert verify(folder, VerifyConfig(num_workers=1)).problems == []
    meta = json.loads((folder / "dataset.json").read_text())
    assert meta["language"]["relations"] == "clevr"
    assert "warp-lang" in meta["versions"]
    records = [json.loads(sample["json"]) for sample in samples(folder, "train")]
    assert {record["attempt"] > 0 for record in records} <= {True, False}
    assert sum(record["attempt"] > 0 for record in records) == meta["splits"]["train"]["num_moved"]
    assert {"binding", "spatial"} <= {record["opposite"]["kind"] for record in records if record["opposite"]}
    said = " ".join(sample["txt"].decode() for sample in samples(folder, "train"))
    assert "in front of" in said or "behind" in said


@pytest.mark.parametrize("style", ["flat", "clevr"])
def test_the_same_bytes_by_three_workers_and_after_a_kill(
    request: pytest.FixtureRequest, data_gen: Any, style: str, tmp_path: Path
) -> None:
    if style == "flat":
        config, whole = request.getfixturevalue("rich_config"), hashes(request.getfixturevalue("rich_dataset"))
    else:
        config, whole = request.getfixturevalue("clevr_config"), request.getfixturevalue("clevr")
    command = data_gen.command(config, "data.out=set", "data.num_workers=3")
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: list(tmp_path.glob("set/.progress/*-0*.json")) or process.poll() is not None, 60)
    moment = random.uniform(0, 0.5)
    time.sleep(moment)
    process.kill()
    process.wait()
    again = data_gen.run(config, "data.out=set", "data.num_workers=3", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert hashes(tmp_path / "set") == whole, f"killed {moment:.3f} s after the first shard"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.captions.kinds={lists: 1}"], "data.captions.kinds: 'lists' is unknown; did you mean list"),
        (["data.captions.kinds={}"], "data.captions.kinds: is empty"),
        (["data.captions.kinds={list: -1}"], "data.captions.kinds.list: -1.0 is out of range"),
        (["data.captions.negation=[never]"], "data.captions.negation: 'never' is unknown; use absent, not"),
        (["data.captions.kinds={negation: 1}", "data.captions.negation=[]"], "data.captions.negation: is empty"),
        (["data.captions.positives=1", "data.captions.paraphrases=[]"], "data.captions.paraphrases: is empty"),
        (["data.edits.spatial=1"], "data.edits.spatial: no caption states a relation; add relation to"),
        (["data.edits.negation=1"], "data.edits.negation: no caption denies anything; add negation to"),
        (["data.edits={swap: 0, replace: 0, add: 0, depth2: 1}"], "data.edits.depth2: no operator is asked for"),
        (["data.opposites={bindings: 1}"], "data.opposites: 'bindings' is unknown; did you mean binding"),
        (["data.opposites={binding: 2}"], "data.opposites.binding: 2.0 is out of range"),
        (["data.opposites={spatial: 1}"], "data.opposites.spatial: is made of relation captions; add relation to"),
        (
            ["data.opposites={negation: 1}", "data.captions.kinds={negation: 1}", "data.captions.negation=[not]"],
            "data.opposites.negation: exchanges what is present and what is absent; add absent",
        ),
        (
            ["data.opposites={binding: 1}", "data.objects={1: 1}", "data.num_samples.mixed=0"],
            "data.opposites.binding: needs scenes of two objects",
        ),
        (["data.relations=[behind]"], "data.relations: 'behind' is no relation of the flat style"),
        (["data.relations=[]"], "data.relations: is empty"),
        (
            ["data.layout=relational", "data.objects={1: 1}", "data.num_samples.mixed=0"],
            "data.layout: relational needs",
        ),
        (["data.style=oil"], "data.style: 'oil' is not valid; expected flat | clevr"),
        (["data.concepts={material: 2}"], "data.concepts.material: the flat style has no such concept"),
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, overrides: list[str], said: str) -> None:
    (tmp_path / "bad.yaml").write_text("data: {}\n")
    with pytest.raises(InputError) as caught:
        load_config(tmp_path / "bad.yaml", overrides)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_plain_dataset_has_no_idle_words_nor_keys(small_dataset: Path) -> None:
    meta = json.loads((small_dataset / "dataset.json").read_text())
    assert meta["vocabulary"] == Grammar(ConceptSpace.from_dict(meta["concepts"])).vocabulary
    [first, *_] = samples(small_dataset, "train")
    record = json.loads(first["json"])
    assert list(record) == ["index", "split", "objects", "relations", "caption", "partner", "provenance"]
    assert record["relations"] == []
    assert list(record["caption"]) == ["form", "logical", "template"]
    assert set(meta["splits"]["train"]) == {"num_samples", "shards", "collision_rate", "edits", "coverage"}

"""The contact sheet: self-contained, and it shows what the dataset holds."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from data_gen import browse
from data_gen.browse import BrowseConfig
from dualenc.errors import InputError


class Page(HTMLParser):
    """Collects tags with attributes, and the text inside <mark>."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.marked: list[str] = []
        self._in_mark = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "mark":
            self._in_mark = True
            self.marked.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_mark = self._in_mark and tag != "mark"

    def handle_data(self, data: str) -> None:
        if self._in_mark:
            self.marked[-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of all elements of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]


def first_samples(dataset: Path, split: str) -> list[Any]:
    info = json.loads((dataset / "dataset.json").read_text())["splits"][split]
    return list(browse._first_samples(dataset, info, 25))


def test_the_page_shows_pictures_captions_edits_and_scenes(small_dataset: Path, tmp_path: Path) -> None:
    out = browse.browse(small_dataset, BrowseConfig(out=str(tmp_path / "page.html"), num=25))
    text = out.read_text()
    page = Page(text)
    assert [section["data-split"] for section in page.all("section")] == ["train", "val", "val_ood", "ood", "mixed"]
    expected = [s for split in ("train", "val", "val_ood", "ood", "mixed") for s in first_samples(small_dataset, split)]
    assert len(expected) == 25 + 25 + 20 + 25 + 20, "two shards of train and val are read"
    images = page.all("img")
    assert len(images) == len(expected)
    for image, sample in zip(images, expected):
        assert image["alt"] == sample.text
        assert base64.b64decode(image["src"].removeprefix("data:image/jpeg;base64,")) == sample.image
        assert f'<p class="caption">{sample.text}</p>' in text
    spans = [
        " ".join(edit["text"].replace(",", " ,").split()[start:stop])
        for sample in expected
        for edit in sample.negatives
        for start, stop in edit["spans"]
    ]
    assert [" ".join(marked.split()) for marked in page.marked] == spans
    partners = [sample.record["partner"] for sample in expected if sample.record["partner"] is not None]
    assert partners
    assert [int(number) for number in re.findall(r">partner (\d+)<", text)] == partners
    assert len(page.all("option")) == 3 + 5 + 6 + 6


def test_the_page_needs_no_network_and_says_so(small_dataset: Path, tmp_path: Path) -> None:
    out = browse.browse(small_dataset, BrowseConfig(out=str(tmp_path / "page.html"), num=2))
    text = out.read_text()
    page = Page(text)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert not page.all("link")
    assert all("src" not in script for script in page.all("script"))
    assert all(image["src"].startswith("data:") for image in page.all("img"))
    policies = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policies[0].startswith("default-src 'none'")


def test_the_matrix_colours_every_object_by_its_status(small_dataset: Path) -> None:
    description = json.loads((small_dataset / "dataset.json").read_text())
    page = Page(browse.page(description, {}))
    told = [cell["title"] for cell in page.all("td") if "title" in cell]
    colors, shapes = description["concepts"]["color"], description["concepts"]["shape"]
    status = {i: name for name, ids in description["objects"].items() for i in ids}
    assert told == [f"{c} {s}: {status[6 * i + j]}" for i, c in enumerate(colors) for j, s in enumerate(shapes)]


def test_the_command_writes_beside_the_dataset_and_one_split_only(data_gen: Any, small_dataset: Path) -> None:
    result = data_gen.run(small_dataset, "split=ood", "num=3", cwd=small_dataset.parent, module="data_gen.browse")
    assert result.returncode == 0, result.stderr
    out = small_dataset.parent / "dataset.html"
    assert result.stdout == f"{out}\n"
    page = Page(out.read_text())
    assert [section["data-split"] for section in page.all("section")] == ["ood"]
    assert len(page.all("article")) == 3


@pytest.fixture
def copied(small_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_dataset, tmp_path / "copy"))


def test_bad_datasets_and_options_are_one_line(copied: Path, tmp_path: Path) -> None:
    def refused(dataset: Path, options: BrowseConfig, message: str) -> None:
        with pytest.raises(InputError, match=message) as error:
            browse.browse(dataset, options)
        assert "\n" not in str(error.value)
        assert not list(tmp_path.glob("*.html"))

    refused(tmp_path / "absent", BrowseConfig(), r"holds no dataset\.json")
    refused(copied, BrowseConfig(split="test"), "split: 'test' is not in")
    refused(copied, BrowseConfig(out=str(tmp_path)), "is a folder")
    shard = copied / "train" / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    refused(copied, BrowseConfig(), r"train-000000\.tar: is damaged")
    description = json.loads((copied / "dataset.json").read_text())
    (copied / "dataset.json").write_text(json.dumps(description | {"format_version": 99}))
    refused(copied, BrowseConfig(), "format version 99")
    (copied / "dataset.json").write_text("{")
    refused(copied, BrowseConfig(), r"dataset\.json: is damaged")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": "x"}, "has format version 'x', this program reads up to 1"),
        ({"objects": None}, r"dataset\.json: is damaged \(TypeError"),
        ({"objects": {"train": []}}, r"dataset\.json: is damaged \(KeyError: 'val_ood'\)"),
        ({"splits": {"train": {}}}, r"dataset\.json: is damaged \(KeyError: 'shards'\)"),
        ({"picture": {"size": "<b>"}}, r"dataset\.json: is damaged"),
        ({"splits": {"train": {"shards": [{"path": "../other.tar"}]}}}, r"'\.\./other\.tar' lies outside"),
        ({"splits": {"train": {"shards": [{"path": "/other.tar"}]}}}, "'/other.tar' lies outside"),
    ],
)
def test_a_wrong_description_is_one_line(copied: Path, changes: dict[str, Any], message: str) -> None:
    path = copied / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=message) as error:
        browse.browse(copied, BrowseConfig())
    assert "\n" not in str(error.value)
    assert not copied.with_name("copy.html").exists()


def test_nothing_in_a_dataset_becomes_html(small_dataset: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    description = json.loads((small_dataset / "dataset.json").read_text())
    (sample,) = browse._first_samples(small_dataset, description["splits"]["train"], 1)
    sample.record.update(index=evil, partner=evil)
    statuses = description["objects"] | {evil: description["objects"]["train"]}
    text = browse.page(description | {"seed": evil, "objects": statuses, "name": evil}, {"train": [sample]})
    assert evil not in text
    assert text.count("&lt;img src=x onerror=alert(1)&gt;") == 5, "twice in the title, seed, index, partner"
    assert [image["alt"] for image in Page(text).all("img")] == [sample.text]

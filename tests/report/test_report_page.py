"""The report of one and of several runs: self-contained, true to summary.json, and robust where files are missing."""

import json
import re
import subprocess
import sys
import zipfile
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dualenc.errors import InputError
from dualenc.report import read_run, write_report
from dualenc.report.__main__ import USAGE, main
from dualenc.report.compare import config_differences, run_labels
from dualenc.report.page import examples_of

HEADLINE_KEYS = (
    "concept_recognition",
    "object_recognition",
    "object_recognition_same_status",
    "bag_level",
    "bag_ceiling",
    "bag_ceiling_split",
    "binding_gain",
    "concept_chance",
    "object_chance",
    "caption_vs_swap",
    "caption_vs_replace",
    "caption_vs_add",
)


class Page(HTMLParser):
    """Collects what a page would load, and the exact values per table row."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.rows: list[list[float]] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value for key, value in attrs if key in ("src", "srcset", "data", "action") and value]
        if tag in ("link", "a", "image", "use"):
            self.loads += [value for key, value in attrs if "href" in key and value and not value.startswith("#")]
        if tag == "tr":
            self.rows.append([])
        if tag == "data":
            self.rows[-1].append(float(dict(attrs)["value"]))


@pytest.fixture(scope="module")
def run(make_run, tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def page(run) -> str:
    return write_report([run]).read_text(encoding="utf-8")


def test_page_loads_nothing_from_outside(page):
    found = Page(page)
    assert len(found.loads) > 15
    assert all(load.startswith("data:image/png;base64,") for load in found.loads)
    assert not {"script", "link", "iframe", "object", "embed"} & set(found.tags)
    assert not re.search(r"https?://|url\(|@import", page)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page


def test_every_headline_number_of_the_summary_is_on_the_page_exactly(run, page):
    metrics = json.loads((run / "summary.json").read_text())["metrics"]
    rows = Page(page[page.index('id="results"') : page.index("<details>")]).rows[1:]
    assert len(rows) == 4
    for split, row in zip(("val", "ood", "mixed", "val_ood"), rows):
        expected = [metrics[f"{split}/{key}"] for key in HEADLINE_KEYS]
        assert sorted(row) == sorted(value for value in expected if value is not None)


def test_page_shows_counts_chance_and_a_dash_for_null(page):
    mixed = re.search(r"<tr><td class=\"wide\"><b>mixed</b>.*?</tr>", page, flags=re.S).group()
    assert "\u2013<small>0 scenes</small>" in mixed
    assert ">0.390</data>" in mixed  # the bag level
    assert ">5e-04</data>" in mixed
    assert "<td>64</td>" in mixed
    assert "None" not in page
    assert ">nan" not in page


def test_page_holds_origins_examples_and_every_metric(run, page):
    assert "python -m dualenc.fit configs/quickstart.yaml run.seed=0" in page
    assert "Segments (1 resume) and versions" in page
    assert "torch 2.13.0" in page
    assert "coverage: 0.8" in page
    assert "a blue circle and a red square" in page
    for key in read_run(run).metrics:
        assert f"<td>{key}</td>" in page


def test_breakdown_by_count_and_concept_stands_with_chance(page):
    section = page[page.index('id="by-number-of-objects-and-by-concept"') : page.index('id="confusion')]
    assert re.findall(r"<th>(.*?)</th>", section) == [
        *("object recognition", "1 object", "2 objects", "3 objects"),
        *("concept recognition", "color", "shape"),
    ]
    assert f'<data value="{64.0**-2!r}"' in section
    assert section.count('<small>chance <data value="0.03571') == 8


def test_further_edits_and_minimal_pairs_have_tables_of_their_own(run, page):
    metrics = json.loads((run / "summary.json").read_text())["metrics"]
    section = page[page.index('id="minimal-pairs"') :].split("<section")[0]
    scores = [metrics[f"{s}/opposite_binding_{w}"] for s in ("val", "ood") for w in ("text", "picture", "group")]
    assert all(f'<data value="{score!r}"' in section for score in scores)
    assert "<td>499</td>" in section
    assert 'spatial</td><td><data value="0.8' in page


def test_embeddings_have_numbers_and_pictures_and_a_collapse_is_said(run, page, make_run, tmp_path):
    section = page[page.index('id="embeddings"') :].split("<section")[0]
    for value in (21.5, 6.25, 0.375, 0.0625, 0.96875, 0.28125, 0.4375, -3.1875, -3.3125):
        assert f'<data value="{value!r}"' in section
    assert section.count("data:image/png") == 2  # cosines and the spectrum; nothing was measured while training
    assert "ollapsed" not in section.split("<table")[1]
    assert "Collapsed:" not in page
    broken = with_few_figures(make_run(tmp_path, splits=["val"]))
    summary = json.loads((broken / "summary.json").read_text())
    summary["metrics"]["spectrum/query_collapsed"] = 1.0
    (broken / "summary.json").write_text(json.dumps(summary))
    assert "Collapsed: the query tower maps everything to (almost) one point." in write_report([broken]).read_text()


def test_figures_are_written_as_png_and_pdf(run, page):
    with zipfile.ZipFile(run / "figures.zip") as archive:
        names = {Path(name).stem for name in archive.namelist() if name.endswith(".png")}
        assert sorted(archive.namelist()) == sorted(f"{name}.{suffix}" for name in names for suffix in ("png", "pdf"))
        assert archive.read("learning_val.png").startswith(b"\x89PNG")
        assert archive.read("learning_val.pdf").startswith(b"%PDF")
    expected = {"learning_val", "learning_ood", "training_loss", "captions_ood", "confusion_ood_color", "coverage"}
    assert expected | {"spectrum", "cosines", "by_number_of_objects", "training_lr", "training_temperature"} <= names
    assert not (run / "figures").exists()


def test_unfinished_run_reports_the_newest_numbers(make_run, tmp_path):
    run = make_run(tmp_path, finished=False, splits=[])
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 1251, "samples": 240192, "val/object_recognition": 0.7654321}\n{"step": 12')
    page = write_report([run], tmp_path / "sent.html").read_text()
    assert (tmp_path / "sent.html").is_file()
    assert "not finished" in page
    assert 'value="0.7654321"' in page
    assert "Worst-bound scenes" not in page
    assert "quickstart" in page


def test_names_from_the_run_folder_are_escaped(make_run, tmp_path):
    run = make_run(tmp_path)
    summary = json.loads((run / "summary.json").read_text())
    attack = "<img src=x onerror=alert(1)>"
    metrics = {"val/object_recognition": 0.5, f"val/{attack}": 0.25}
    summary |= {"name": attack, "command": f"fit {attack} 'quoted'", "metrics": metrics}
    summary["dataset"]["name"] = attack
    (run / "summary.json").write_text(json.dumps(summary))
    (run / "metrics.jsonl").write_text("")
    (run / "confusion" / "confusion.json").unlink()
    scene = {
        "split": attack,
        "index": 1,
        "image": "../outside.png",  # as earlier versions named their pictures, only inside the run folder
        "caption_true": attack,
        "caption_preferred": attack,
    }
    scene |= {"score_true": 0.1, "score_preferred": 0.2, "bound": False}
    (run / "examples" / "val.json").write_text(json.dumps([scene]))
    (run / "segments.jsonl").write_text(json.dumps({"host": attack, attack: attack}) + "\n")
    (tmp_path / "outside.png").write_bytes(b"secret")
    page = write_report([run]).read_text()
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 9
    assert "c2VjcmV0" not in page
    assert "outside.png" not in page


def test_worst_bound_scenes_show_the_pictures_that_stand_in_their_file(make_run, tmp_path):
    run = make_run(tmp_path, splits=["val"])
    file = run / "examples" / "val.json"
    first, second, third, *_ = scenes = json.loads(file.read_text())
    assert first["image"] in pictures(examples_of(read_run(run).examples, shown=5))
    second["image"], third["image"] = "examples/val-00000101.png", "data:image/svg+xml;base64,PHN2Zz4="
    file.write_text(json.dumps(scenes))
    examples = {"val": read_run(run).examples["val"]}
    assert examples["val"][0]["image"].startswith(b"\x89PNG")
    assert [scene["image"] for scene in examples["val"][1:3]] == [None, None]
    page = examples_of(examples, shown=5)
    assert pictures(page) == [scene["image"] for scene in (first, *scenes[3:])]
    assert second["caption_true"] in page
    second["image"] = first["image"][:-1]
    file.write_text(json.dumps(scenes))
    with pytest.raises(InputError, match=r"val\.json: a picture in it is damaged"):
        read_run(run)


def pictures(page: str) -> list[str]:
    return re.findall(r'<img src="([^"]*)"', page)


def test_several_runs_side_by_side(make_run, tmp_path):
    runs = [make_run(tmp_path, run_hash=f"0{seed}", seed=seed, splits=["ood"]) for seed in range(2)]
    summary = json.loads((runs[1] / "summary.json").read_text())
    summary["metrics"]["ood/object_recognition"] = 0.6931
    (runs[1] / "summary.json").write_text(json.dumps(summary))
    out = write_report(runs)
    assert out == tmp_path / "report.html"
    page = out.read_text()
    found = Page(page)
    assert all(load.startswith("data:") for load in found.loads)
    assert len(re.findall(r"<tr><td class=\"wide\"><b>quickstart run.seed=[01]</b></td>", page)) == 2
    assert "0.593 \u00b1 0.141" in page  # of .4931 and .6931
    assert "<td>run.seed</td><td>0</td><td>1</td>" in page
    assert (tmp_path / "report-figures" / "compare_ood_object.pdf").is_file()


def test_runs_that_differ_in_more_than_seeds_have_no_common_mean(make_run, tmp_path):
    paths = [
        make_run(tmp_path, name="low", run_hash="1", coverage=0.4, splits=["val"]),
        make_run(tmp_path, name="high", run_hash="2", coverage=0.8, splits=["val"]),
    ]
    runs = [read_run(path) for path in paths]
    differences = config_differences(runs)
    assert differences == {"run.name": ["low", "high"], "data.coverage": ["0.4", "0.8"]}
    assert run_labels(runs, differences) == ["low", "high"]
    assert "standard deviation" not in write_report(paths).read_text()


def with_few_figures(run: Path) -> Path:
    """The run without most of what figures are drawn from, for tests of words: drawing takes nearly all of the time."""
    (run / "confusion" / "confusion.json").unlink()
    (run / "embeddings.json").unlink()
    (run / "metrics.jsonl").write_text('{"step": 1, "samples": 8}\n')
    return run


def write(folder: Path, name: str, content: str) -> None:
    """A run folder with metrics, in which one file holds `content`."""
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"step": 1, "samples": 8, "train/loss": 1.0}\n')
    (folder / name).write_text(content)


def test_the_page_shows_the_config_as_written_and_nothing_of_the_environment(make_run, tmp_path, monkeypatch):
    monkeypatch.setenv("DUALENC_SECRET", "hunter2")
    run = with_few_figures(make_run(tmp_path, splits=["ood"]))
    with open(run / "config.yaml", "a") as file:
        file.write("note: ${oc.env:DUALENC_SECRET}\nbroken: ${nowhere}\n")
    page = write_report([run]).read_text()
    assert "note: ${oc.env:DUALENC_SECRET}" in page
    assert "hunter2" not in page


def test_the_page_shows_the_command_verbatim(make_run, tmp_path):
    run = with_few_figures(make_run(tmp_path, splits=["ood"]))
    summary = json.loads((run / "summary.json").read_text())
    summary["command"] = "python -m dualenc.fit c.yaml 'data.symbolic.objects={2: 1}' 'run.name=a  b'"
    (run / "summary.json").write_text(json.dumps(summary))
    for runs in ([run], [run, run]):
        page = write_report(runs).read_text()
        assert summary["command"] in [unescape(shown) for shown in re.findall("<pre>(.*?)</pre>", page, flags=re.S)]


@pytest.mark.parametrize("place", ["no/page.html", "file/page.html", "folder", "closed/page.html"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_drawn(make_run, tmp_path, monkeypatch, place):
    run = make_run(tmp_path / "runs", splits=["ood"])
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "closed").mkdir()
    monkeypatch.setattr("dualenc.errors.os.access", lambda path, mode: Path(path).name != "closed")
    monkeypatch.setattr("dualenc.report.page.run_page", lambda run: pytest.fail("drawn"))
    with pytest.raises(InputError, match=r"^out: "):
        main([str(run), f"out={tmp_path / place}"])


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "no such run folder"),
        (lambda folder: folder.mkdir(), "no metrics yet"),
        (lambda folder: write(folder, "summary.json", "{"), "summary.json: not valid JSON"),
        (lambda folder: write(folder, "summary.json", '{"name": "x"}'), "summary.json: holds no metrics"),
        (lambda folder: write(folder, "summary.json", '{"metrics": 3}'), "summary.json: holds no metrics by name"),
        (lambda folder: write(folder, "summary.json", "3"), "summary.json: holds no metrics"),
        (lambda folder: write(folder, "metrics.jsonl", "{}\n{\n{}\n"), "line 2: not valid JSON"),
        (lambda folder: write(folder, "metrics.jsonl", "{}\n3\n"), "line 2: not an object"),
        (lambda folder: write(folder, "config.yaml", "run: [1"), "config.yaml: not valid YAML: line 2"),
        (lambda folder: write(folder, "config.yaml", "- 1"), "config.yaml: expected a mapping"),
    ],
)
def test_bad_folders_are_refused(tmp_path, prepare, message):
    prepare(tmp_path / "run-1")
    with pytest.raises(InputError, match=message) as refused:
        write_report([tmp_path / "run-1"])
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run-1" / "report.html").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["out=page.html"], ["{run}", "out=a", "out=b"], ["{run}", "out={run}/no/page"]]
)
def test_bad_arguments_are_refused(run, arguments):
    with pytest.raises(InputError, match="out"):
        main([argument.format(run=run) for argument in arguments])


def test_command_line_says_no_in_one_line_and_prints_the_path_last(make_run, tmp_path):
    bad = command("nowhere-1", cwd=tmp_path)
    assert bad.returncode == 2
    assert bad.stderr.startswith("error: nowhere-1: no such run folder")
    assert bad.stderr.count("\n") == 1
    without = command(cwd=tmp_path)
    assert (without.returncode, without.stdout) == (2, "")
    assert without.stderr == f"error: RUN: it is missing; usage: {USAGE}\n"
    run = make_run(tmp_path, finished=False, splits=[])
    good = command(run.name, cwd=tmp_path)
    assert good.returncode == 0
    assert good.stdout.splitlines()[-1] == f"{run.name}/report.html"


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "dualenc.report", *arguments]
    return subprocess.run(call, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)

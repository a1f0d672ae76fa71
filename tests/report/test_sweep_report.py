"""The report of a sweep: in a browser its numbers are those of the runs' metrics.jsonl, and it follows the runs."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from simulated import ROOT, browse, fail, make_sweep, write_run

from dualenc.errors import InputError
from dualenc.report import write_sweep_report
from dualenc.report.__main__ import main
from dualenc.report.folder import newest
from dualenc.report.sweep import sweep_page
from dualenc.sweep.results import interval
from dualenc.sweep.state import METRICS, look_at_all

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
THRESHOLD = {
    "key": "data.coverage",
    "metric": "ood/binding_gain",
    "level": 0.5,
    "step": 0.025,
    "groups": [
        {
            "values": {"data.symbolic.num_concepts": 2, "data.symbolic.num_values": 8},
            "rho": 0.4375,
            "interval": [0.40625, 0.46875],
            "num_known": 1,
            "num_runs": 9,
            "num_grid_runs": 33,
            "curves": [
                {
                    "seed": {"run.seed": 0},
                    "outcome": "crossing",
                    "crossings": 1,
                    "rho": 0.4375,
                    "interval": None,
                    "num_new": 9,
                    "points": [[0.1, 0.0]],
                    "error": None,
                }
            ],
        }
    ],
}


class Sections(HTMLParser):
    """Of a page, for each section: the exact numbers of every table row, the links, the pictures, the words."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[float]]] = {}
        self.links: dict[str, list[str]] = {}
        self.pictures: dict[str, int] = {}
        self.words: dict[str, str] = {}
        self.section = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "section":
            self.section = given["id"] or ""
        if tag == "tr":
            self.rows.setdefault(self.section, []).append([])
        if tag == "data":
            self.rows[self.section][-1].append(float(given["value"] or ""))
        if tag == "a" and self.section:
            self.links.setdefault(self.section, []).append(unquote(given["href"] or ""))
        if tag == "img":
            self.pictures[self.section] = self.pictures.get(self.section, 0) + 1

    def handle_data(self, data: str) -> None:
        self.words[self.section] = self.words.get(self.section, "") + data


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_in_a_browser_every_number_is_that_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = make_sweep(tmp_path)
    lines = {run.index: write_run(run, probes=True) for run in plan.runs[:8]}
    fail(plan, plan.runs[8], "Traceback", "RuntimeError: <nobody> & nothing")
    (plan.folder / "threshold.json").write_text(json.dumps(THRESHOLD))
    page = write_sweep_report(plan, look_at_all(plan))
    assert {path.name for path in (plan.folder / "report-figures").glob("*.pdf")} == {"figure.pdf", "probe_fit.pdf"}
    dom, console = browse(CHROMIUM or "", page, tmp_path / "report.png")
    assert console == []
    assert (tmp_path / "report.png").stat().st_size > 20_000
    found = Sections(dom)
    assert found.pictures == {"transition": 1, "probe-fit": 1}

    last = {index: rows[-1] for index, rows in lines.items()}
    ood = [key for key in METRICS if key.startswith("ood/")]
    for index, row in enumerate(found.rows["runs"][1:9]):
        assert row == [last[index][key] for key in (*ood, "val/object_recognition")]
    assert found.rows["runs"][9:] == [[]]
    for row, coverage in zip(found.rows["transition"][1:], (0.3, 0.6, 0.9)):
        same = [last[run.index] for run in plan.runs[:8] if run.point["data.coverage"] == coverage]
        expected = [coverage]
        for key in ood:
            values = [line[key] for line in same]
            expected += [sum(values) / len(values), *(interval(values) or ())]
        assert row == pytest.approx(expected, rel=1e-12)
    held = [0.25, 0.375] * 8  # of the additive probe, and of the global one at the rank that validation prefers
    recognition = [last[place // 2]["ood/object_recognition"] for place in range(16)]
    assert found.rows["probe-fit"][-16:] == [list(pair) for pair in zip(held, recognition)]
    assert found.rows["thresholds"][1] == [0.4375, 0.40625, 0.46875]
    [total, mean, most] = found.rows["cost"][1]
    assert (total, mean, most) == pytest.approx((8, 1, 1), rel=0.01)  # half an hour on two threads each
    assert "RuntimeError: <nobody> & nothing" in found.words["failures"]
    for link in found.links["runs"] + found.links["failures"]:
        assert (page.parent / link).exists()


def report_process(*arguments: str, folder: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dualenc.report", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


def test_a_watched_report_follows_the_runs_and_ends_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = make_sweep(tmp_path, "grid: {run.seed: [0, 1], data.coverage: [0.5]}")
    write_run(plan.runs[0])
    process = report_process("--sweep", "simulated.yaml", "--watch", "out=watched.html", folder=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "watched.html\n"
    first = Path("watched.html").read_text()
    assert "1 done, 1 waiting" in first
    assert '<meta http-equiv="refresh" content="' in first
    write_run(plan.runs[1])
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert set(out.split()) == {"watched.html"}
    last = Path("watched.html").read_text()
    assert "2 done" in last
    assert "refresh" not in last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sweep"], "SWEEP: it is missing; usage"),
        (["--sweep", "a.yaml", "b.yaml"], "SWEEP: one at a time, but a.yaml b.yaml are given"),
        (["--watch", "run"], "--watch: only a sweep can be watched"),
        (["--sweeps", "a.yaml"], "--sweeps: no such option; usage"),
        (["--sweep", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_a_wrong_command_is_refused_in_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        main(arguments)
    assert "\n" not in str(refused.value)


def test_a_sweep_without_any_run_has_a_report_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main(["--sweep", str((make_sweep(tmp_path)).sweep.path)])
    found = Sections((tmp_path / "runs/sweeps/simulated/report.html").read_text())
    assert set(found.rows) == {"runs"}
    assert len(found.rows["runs"]) == 10


def test_a_folder_counts_once_and_a_study_of_another_model_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = make_sweep(tmp_path)
    for run in plan.runs:
        write_run(run, probes=True)
    states = look_at_all(plan)
    folder = states[0].folder
    assert folder is not None
    (folder / "summary.json").write_text(
        json.dumps({**json.loads((folder / "summary.json").read_text()), "samples": 1})
    )
    page, _ = sweep_page(plan, [*states, *states], folder=plan.folder)
    found = Sections(page)
    assert "is of a model of 6400 samples" in found.words["probe-fit"]
    # two tables with headings: two probes and their difference, and the points
    assert len(found.rows["probe-fit"]) == 4 + 1 + 2 * (len(plan.runs) - 1)
    page, _ = sweep_page(plan, states[:8], folder=plan.folder)
    assert "probe-fit" not in Sections(page).rows  # seven are too few


def test_the_newest_values_are_found_from_the_end_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    assert newest(log, ["samples"]) == {}
    lines = [{"samples": i, "pad": "x" * (70_000 if i == 7 else 10)} for i in range(1, 3000)]
    lines[4]["rare"] = 0.5
    text = "".join(json.dumps(line) + "\n" for line in lines)
    log.write_text(text + '[3]\n{"samples": 5000, "rare": null}\n{"samples": 60')
    assert newest(log, ["samples", "rare", "never"]) == {"samples": 5000, "rare": 0.5}

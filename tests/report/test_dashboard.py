"""Dashboards: the specification, what wandb's library makes of it, and the local page in a browser."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from simulated import METRICS, browse, make_sweep, write_run

from dualenc.dashboard import Panel, dashboard_of
from dualenc.dashboard.__main__ import main
from dualenc.dashboard.spec import AGAINST_AXIS, OVER_TRAINING
from dualenc.errors import InputError
from dualenc.report.html import anchor

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Charts(HTMLParser):
    """Of a page: section and title of a chart -> run -> its numbers, and where its points are drawn."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.numbers: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
        self.places: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
        self.section = self.run = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        if tag == "section":
            self.section = given["id"]
        if tag == "svg":
            self.chart = self.section, given["aria-label"]
            self.numbers[self.chart], self.places[self.chart] = {}, {}
        if tag == "g":
            self.run = given["data-run"]
            points = zip(json.loads(given["data-x"]), json.loads(given["data-y"]))
            self.numbers[self.chart][self.run] = list(points)
            self.places[self.chart][self.run] = []
        if tag == "circle":
            self.places[self.chart][self.run].append((float(given["cx"]), float(given["cy"])))


def test_the_specification_names_what_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = dashboard_of(make_sweep(tmp_path))
    assert (found.sweep, found.project, found.axis) == ("simulated", "dualenc", "data.coverage")
    titles = [*AGAINST_AXIS, *OVER_TRAINING, "Worst-bound scenes"]
    assert [section.title for section in found.sections] == titles
    assert found.sections[1].panels[0] == Panel("binding gain, held-out objects", "axis", "ood/binding_gain")
    assert found.sections[-1].panels == (Panel("worst-bound scenes", "examples"),)
    only_seeds = dashboard_of(make_sweep(tmp_path, "grid: {run.seed: [0, 1]}"))
    assert only_seeds.axis is None
    assert [section.title for section in only_seeds.sections] == titles[2:]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb_workspaces")  # of the library, about pydantic
def test_wandb_is_asked_for_the_same_panels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb_workspaces")
    from dualenc.dashboard.publish import report_of, workspace_of

    monkeypatch.chdir(tmp_path)
    dashboard = dashboard_of(make_sweep(tmp_path))
    built = workspace_of(dashboard, entity="lab")._to_model().model_dump(by_alias=True)
    sections = built["spec"]["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == [section.title for section in dashboard.sections]
    for section, expected in zip(sections, dashboard.sections):
        assert len(section["panels"]) == len(expected.panels)
        for panel, wanted in zip(section["panels"], expected.panels):
            config = panel["config"]
            if wanted.kind == "axis":
                assert (panel["viewType"], config["xAxis"]) == ("Scatter Plot", "config:data.value.coverage")
                assert config["yAxis"] == f"summary:{wanted.metric}"
            elif wanted.kind == "curve":
                assert (panel["viewType"], config["xAxis"]) == ("Run History Line Plot", "samples")
                assert config["metrics"] == [wanted.metric]
                assert config["groupBy"] == "data.value.coverage"
            else:
                assert "examples" in json.dumps(panel)
    assert '"simulated"' in json.dumps(built["spec"]["section"]["runSets"])  # the group of its runs
    report = report_of(dashboard, entity="lab")
    grids = [block for block in report.blocks if type(block).__name__ == "PanelGrid"]
    assert [len(grid.panels) for grid in grids] == [len(section.panels) for section in dashboard.sections]
    assert {grid.runsets[0].project for grid in grids} == {"dualenc"}


def test_who_is_not_logged_in_is_told_so_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb_workspaces")
    monkeypatch.chdir(tmp_path)
    for name, value in {"HOME": str(tmp_path), "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    make_sweep(tmp_path)
    with pytest.raises(InputError, match=r"^entity: wandb cannot save the dashboard: .*--offline") as refused:
        main(["simulated.yaml"])
    assert "\n" not in str(refused.value)


def means_of(values: list[float]) -> list[tuple[float, float]]:
    """At each coverage, of eight runs of three coverages in turn."""
    return [(x, pytest.approx(np.mean(values[i::3]))) for i, x in enumerate((0.3, 0.6, 0.9))]


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_in_a_browser_every_point_is_a_logged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    plan = make_sweep(tmp_path)
    lines = {run.index: write_run(run, lines=4 if run.index else 2) for run in plan.runs[:8]}
    assert main(["simulated.yaml", "--offline", "entity=lab"]) == 0
    said = capsys.readouterr()
    assert said.err == "note: entity has no effect with --offline\n"
    dom, console = browse(CHROMIUM or "", Path(said.out.strip()), tmp_path / "dashboard.png")
    assert console == []
    assert (tmp_path / "dashboard.png").stat().st_size > 20_000
    assert "<script" not in dom
    charts = Charts(dom)
    for section in dashboard_of(plan).sections[:-1]:
        for panel in section.panels:
            found = dict(charts.numbers.get((anchor(section.title), panel.title), {}))
            if panel.kind == "axis":
                assert found.pop("mean") == means_of([lines[index][-1][panel.metric] for index in range(8)])
            logged = {index: rows for index, rows in lines.items() if panel.metric in rows[0]}
            assert len(found) == len(logged) == (8 if panel.metric in METRICS else 0)
            for label, points in found.items():
                index = int(label.split()[1])
                curve = [(row["samples"], row[panel.metric]) for row in logged[index]]
                coverage = plan.runs[index].point["data.coverage"]
                assert points == (curve if panel.kind == "curve" else [(coverage, curve[-1][1])])
    [unfinished] = [label for label in charts.numbers["training", "training loss"] if label.startswith("run 0 ")]
    assert unfinished.endswith(" (waiting, 50%)")
    for chart, runs in charts.places.items():
        numbers = np.array([point for run in runs for point in charts.numbers[chart][run]])
        places = np.array([place for run in runs for place in runs[run]])
        for number, place in zip(numbers.T, places.T):  # drawn to scale
            assert np.abs(np.polyval(np.polyfit(number, place, 1), number) - place).max() < 0.02

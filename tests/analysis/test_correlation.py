"""The correlation of probe fit and recognition: figures by hand, ties, and real run folders as they are read."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from dualenc.analysis.correlation import compare, correlate, main, points_of
from dualenc.errors import InputError
from dualenc.files import read_json, write_json


def test_equals_scipy_with_ties():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, 30).astype(float)
    y = x + rng.normal(size=30).round()
    found = correlate(x, y)
    assert found["pearson"] == pytest.approx(pearsonr(x, y).statistic)
    assert found["spearman"] == pytest.approx(spearmanr(x, y).statistic)
    for name in ("pearson", "spearman"):
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high
    assert found == correlate(x, y)


def test_a_difference_of_correlations_is_resampled_with_both_sides_together():
    rng = np.random.default_rng(1)
    y = rng.normal(size=40)
    shared = rng.normal(size=40)  # what both fits have in common, so that their correlations move together
    x, other = y + shared, y + shared + 0.1 * rng.normal(size=40)
    found = compare(x, other, y)
    assert found["pearson"] == pytest.approx(pearsonr(x, y).statistic - pearsonr(other, y).statistic)
    low, high = found["pearson_interval"]
    assert low < found["pearson"] < high
    alone = [correlate(side, y)["pearson_interval"] for side in (x, other)]
    assert high - low < 0.3 * min(b - a for a, b in alone)
    assert compare(x, np.ones(40), y)["pearson"] is None


def test_a_constant_has_no_correlation():
    found = correlate(np.arange(5.0), np.ones(5))
    assert found["pearson"] is found["spearman"] is found["pearson_interval"] is None


def test_resamples_without_a_correlation_leave_no_interval():
    few = np.arange(9) == 8
    found = correlate(few + 0.1 * np.arange(9), 0.5 * few)
    assert found["pearson"] > 0.9
    assert found["pearson_interval"] is found["spearman_interval"] is None


OPTIONS = {"coverage": None, "data": {"path": None}}


def run(folder: Path, fit: float, recognition: float | None) -> Path:
    (folder / "analysis").mkdir(parents=True)
    rows = [
        {"probe": probe, "rank": rank, "r2_validation": chosen, "r2_heldout": r2}
        for probe, rank, chosen, r2 in (
            ("additive", None, 0.5, 1 - fit),
            ("global", 2, 0.9, fit),
            ("global", 4, 0.8, 5.0),  # better on held-out objects, but validation does not choose it
        )
    ]
    study = {"target": {"samples": 64}, "options": OPTIONS, "result": {"tables": {"Probes": rows}}}
    write_json(folder / "analysis" / "multiplicative.json", study)
    write_json(folder / "summary.json", {"samples": 64, "metrics": {"ood/object_recognition": recognition}})
    return folder


def test_many_runs_make_one_table_and_one_figure(tmp_path: Path):
    runs = [run(tmp_path / str(i), fit, fit**2) for i, fit in enumerate(np.linspace(0.1, 0.9, 8).tolist())]
    assert main([*map(str, runs), str(runs[0]), str(tmp_path / "out")]) == 0
    tables = read_json(tmp_path / "out" / "correlation.json")["tables"]
    found = {row["probe"]: row["spearman"] for row in tables["Correlations"]}
    assert found == {"additive": pytest.approx(-1), "global": pytest.approx(1)}
    [difference] = tables["Differences"]
    assert (difference["probe"], difference["minus"]) == ("global", "additive")
    assert difference["spearman"] == pytest.approx(2)
    assert {point["rank"] for point in tables["Runs"]} == {None, 2}
    assert len(tables["Runs"]) == 2 * len(runs)
    assert all((tmp_path / "out" / f"probe_fit.{kind}").stat().st_size > 1000 for kind in ("png", "pdf"))


@pytest.mark.parametrize(
    "other",
    [
        {"target": {"samples": 32}},
        {"options": {**OPTIONS, "coverage": 0.5}},
        {"options": {**OPTIONS, "data": {"path": "data/other"}}},
    ],
)
def test_a_study_of_something_else_is_no_point(tmp_path: Path, other: dict):
    study = run(tmp_path / "a", 0.5, 0.5) / "analysis" / "multiplicative.json"
    write_json(study, {**read_json(study), **other})
    with pytest.raises(InputError, match=r"dualenc\.analyze multiplicative .* again without"):
        points_of(tmp_path / "a")


def test_a_run_without_an_r2_is_named(tmp_path: Path):
    study = run(tmp_path / "a", 0.5, 0.5) / "analysis" / "multiplicative.json"
    study.write_text(study.read_text().replace('"r2_heldout": 0.5', '"r2_heldout": null'))
    with pytest.raises(InputError, match="do not vary; leave this run out"):
        points_of(tmp_path / "a")


def test_a_damaged_study_is_named(tmp_path: Path):
    study = run(tmp_path / "a", 0.5, 0.5) / "analysis" / "multiplicative.json"
    whole = study.read_text()
    for content in (whole[: len(whole) // 2], whole.replace('"samples"', '"number"')):
        study.write_text(content)
        with pytest.raises(InputError, match=r"^RUN: .*multiplicative\.json or .* is damaged or of another version"):
            points_of(tmp_path / "a")


def test_what_is_missing_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"dualenc\.analyze multiplicative"):
        points_of(tmp_path / "nothing")
    with pytest.raises(InputError, match="no ood/object_recognition"):
        points_of(run(tmp_path / "a", 0.5, None))
    with pytest.raises(InputError, match="1 runs are too few"):
        main([str(run(tmp_path / "b", 0.5, 0.5)), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()

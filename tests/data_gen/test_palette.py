"""`python -m data_gen.palette`: the sheet, its refusals, and the proof that distinct values give distinct pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_gen import palette
from data_gen.render.colors import COLORS
from data_gen.render.tables import VALUES
from data_gen.separation import CROP, Separation, crops, separation


@pytest.mark.parametrize("style", VALUES)
@pytest.mark.parametrize("concept", ["shape", "color", "pattern"])
def test_the_worst_pair_of_values_is_told_apart(style: str, concept: str) -> None:
    """With fixed pose and size, under other brightness, lights and backgrounds, and a fraction of a pixel away."""
    assert CROP >= 24
    found = separation(style, concept, "fixed", num=30 if style == "flat" else 12)
    assert found.worst(1)[0][2] >= 0.99, found.worst(5)


def test_values_with_the_same_pixels_are_not_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COLORS, "navy", COLORS["black"])
    monkeypatch.setitem(VALUES["flat"], "color", ["black", "red", "navy", "cyan"])
    found = separation("flat", "color", "fixed", num=40)
    first, second, accuracy = found.worst(1)[0]
    assert (first, second) == ("black", "navy")
    assert accuracy < 0.7


def test_ties_are_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    def same(style: str, concept: str, values: list[str], *_: object) -> np.ndarray:
        return np.ones((len(values), 3, CROP, CROP, 3), dtype=np.float32)

    monkeypatch.setattr("data_gen.separation.crops", same)
    assert separation("flat", "size", "fixed", num=3).worst(1)[0][2] == 0.0


def test_the_worst_pairs_come_first() -> None:
    accuracy = np.array([[1.0, 0.9, 0.7], [0.9, 1.0, 0.8], [0.7, 0.8, 1.0]])
    assert Separation(["a", "b", "c"], accuracy).worst(2) == [("a", "c", 0.7), ("b", "c", 0.8)]


def test_crops_hold_the_object_in_any_place() -> None:
    for condition in ("fixed", "free"):
        shown = crops("flat", "color", ["black"], condition, "val", 30, 0)
        assert shown.shape == (1, 30, CROP, CROP, 3)
        dark = (shown[0] < 0.3).all(axis=-1)
        assert 0.25 < dark.mean() < 0.5, "a square in its circle, in a square 1.1 times as wide"
        rim = np.concatenate([dark[:, [0, -1]].ravel(), dark[:, :, [0, -1]].ravel()])
        assert not rim.any(), "the object is whole"
    fixed, free = (crops("flat", "shape", ["arrow"], condition, "val", 20, 0) for condition in ("fixed", "free"))
    assert free.std(axis=1).mean() > 2 * fixed.std(axis=1).mean()


def test_the_sheet_shows_every_value(data_gen: Any, tmp_path: Path) -> None:
    result = data_gen.run("--style", "flat", "--out", tmp_path / "flat.png", cwd=tmp_path, module="data_gen.palette")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == str(tmp_path / "flat.png")
    assert [path.name for path in tmp_path.iterdir()] == ["flat.png"]
    image = np.asarray(Image.open(tmp_path / "flat.png").convert("RGB")).reshape(-1, 3)
    places = np.array([1 << 16, 1 << 8, 1])
    numbers, counts = np.unique(image @ places, return_counts=True)
    seen = dict(zip(numbers.tolist(), counts.tolist()))
    for name, color in COLORS.items():
        assert seen[int(color @ places)] > 800, name


def test_the_pictures_of_a_sheet_differ_in_the_value_alone() -> None:
    for style, concepts in VALUES.items():
        for concept in concepts:
            shown = [pixels.tobytes() for pixels in palette.pictures(style, concept)]
            assert len(set(shown)) == len(concepts[concept]), (style, concept)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--style", "round"], "--style: there is no style 'round'; use flat or clevr"),
        (["--style"], "--style: has no value; say --style flat"),
        (["--out", "--style", "flat"], "--out: has no value; say --out FILE.png"),
        (["--out", "no/such/sheet.png"], "--out: the folder no/such does not exist; create it first"),
        (["--out=sheet.jpg"], "--out: sheet.jpg is not the name of a PNG file; let it end in .png"),
        (["--out", "sheet.png", "--report"], "--out: has no effect with --report"),
        (["flat"], "flat: unknown; say python -m data_gen.palette"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments: list[str], message: str, data_gen: Any, tmp_path: Path) -> None:
    result = data_gen.run(*arguments, cwd=tmp_path, module="data_gen.palette")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {message}")
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_report_names_the_worst_pairs_of_both_conditions() -> None:
    lines = list(palette.report("flat", num=4))
    headings = [line for line in lines if "pairs below" in line]
    assert [heading.split(" pose")[0] for heading in headings] == [
        "shape, fixed",
        "shape, free",
        "color, fixed",
        "color, free",
    ]
    assert all("of 1225 pairs" in heading for heading in headings)
    rows = [line.split() for line in lines if line.startswith("  ")]
    assert len(rows) == 40
    for start in range(0, 40, 10):
        accuracies = [float(row[2]) for row in rows[start : start + 10]]
        assert accuracies == sorted(accuracies)
    assert {word for row in rows for word in row[:2]} <= {*VALUES["flat"]["shape"], *VALUES["flat"]["color"]}

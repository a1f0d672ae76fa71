"""`python -m dualenc.export`: what is given away is the same model, with honest numbers on its card."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import dualenc
from dualenc import evaluate, export
from dualenc.errors import InputError
from dualenc.loading import LoadedModel
from dualenc.report.results import format_number
from dualenc.scenes import Scenes


def card_rows(card: str) -> dict[str, list[list[str]]]:
    """The table of a card: label -> the cells of each row with this label."""
    rows: dict[str, list[list[str]]] = {}
    for line in card.splitlines():
        if line.startswith("| "):
            label, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows.setdefault(label, []).append(cells)
    return rows


def test_an_export_is_the_same_model(flat_run: Path, flat_model: LoadedModel, tmp_path: Path) -> None:
    out = tmp_path / "model"
    export.main([str(flat_run), str(out)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    assert sorted(path.name for path in out.iterdir()) == [
        *("README.md", "config.yaml", "model.json", "model.safetensors"),
    ]
    loaded = dualenc.load(out)
    assert (loaded.weights, loaded.samples) == ("last", flat_model.samples)
    assert loaded.spec == flat_model.spec
    assert loaded.config == flat_model.config
    texts = ["a red circle", "something blue"]
    assert torch.equal(loaded.encode_queries(texts), flat_model.encode_queries(texts))
    pictures = torch.randint(0, 256, (3, 24, 24, 3), dtype=torch.uint8)
    assert torch.equal(loaded.encode_scenes(pictures), flat_model.encode_scenes(pictures))
    with pytest.raises(InputError, match="weights=best"):
        dualenc.load(out, weights="best")


@pytest.mark.parametrize("weights", ["last", "best"])
def test_the_card_says_what_was_measured(flat_run: Path, tmp_path: Path, weights: str) -> None:
    export.main([str(flat_run), str(tmp_path / "model"), f"weights={weights}"])
    summary = json.loads((flat_run / "summary.json").read_text())
    metrics = summary["metrics"] if weights == "last" else summary["best"]["metrics"]
    card = (tmp_path / "model" / "README.md").read_text()
    rows = card_rows(card)
    splits = rows[""][0]
    assert sorted(splits) == ["mixed", "ood", "val", "val_ood"]

    def measured(key: str) -> list[str]:
        return [format_number(metrics[f"{split}/{key}"]) for split in splits]

    assert rows["concept recognition"] == [measured("concept_recognition")]
    assert rows["object recognition"] == [measured("object_recognition")]
    assert rows["- chance"] == [measured("concept_chance"), measured("object_chance")]
    assert rows["- candidates"] == [["8"] * 4, ["16"] * 4]
    assert rows["- bag level"] == [measured("bag_level")]
    assert rows["- bag ceiling"] == [measured("bag_ceiling")]
    assert rows["binding gain"] == [measured("binding_gain")]
    for edit in ("swap", "replace", "add"):
        assert rows[f"caption above {edit} (chance 0.5)"] == [measured(f"caption_vs_{edit}")]
    samples = summary["samples"] if weights == "last" else summary["best"]["samples"]
    assert f"after {samples:,} training samples" in card
    assert "coverage 0.500" in card
    assert "color: gray, red, blue, green" in card
    assert f"```bash\n{summary['command']}\n```" in card
    assert dualenc.load(tmp_path / "model").weights == weights
    assert dualenc.load(tmp_path / "model").samples == samples


def test_the_card_s_example_runs(symbolic_run: Path, tmp_path: Path) -> None:
    export.main([str(symbolic_run), str(tmp_path / "model"), "weights=best"])
    card = (tmp_path / "model" / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0].replace("FOLDER", str(tmp_path / "model"))
    space = dualenc.load(symbolic_run).space
    names: dict[str, object] = {"scenes": Scenes.of(space, [[1, 2], [3, 4]])}  # type: ignore[arg-type]
    exec(code, names)
    assert names["scores"].shape == (2, 1)  # type: ignore[attr-defined]
    assert dualenc.load(tmp_path / "model", weights="best").weights == "best"


def test_an_export_can_be_evaluated(
    flat_run: Path, flat_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export.main([str(flat_run), str(tmp_path / "model")])
    evaluate.main([str(tmp_path / "model"), f"data.path={flat_data}", f"out={tmp_path / 'result.json'}"])
    capsys.readouterr()
    result = json.loads((tmp_path / "result.json").read_text())["metrics"]
    summary = json.loads((flat_run / "summary.json").read_text())["metrics"]
    assert result == {name: summary[name] for name in result}
    assert len(result) > 100


def test_nothing_is_overwritten_or_left_half_done(
    flat_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy_of: Callable[[Path], Path]
) -> None:
    arguments = [str(flat_run), str(tmp_path / "model")]

    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(export, "card", fail)
        with pytest.raises(OSError, match="No space"):
            export.main(arguments)
    assert not list(tmp_path.iterdir())
    (tmp_path / "model").mkdir()
    with pytest.raises(InputError, match="exists"):
        export.main(arguments)
    assert not list((tmp_path / "model").iterdir())
    unfinished = copy_of(flat_run)
    (unfinished / "summary.json").unlink()
    with pytest.raises(InputError, match="to the end"):
        export.main([str(unfinished), str(tmp_path / "other")])
    assert not (tmp_path / "other").exists()

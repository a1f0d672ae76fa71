"""A multiplicative query tower beside pictures in shards: trained, loaded, given away."""

from pathlib import Path

import pytest
import torch
from conftest import run_folder, start_fit

import dualenc
from dualenc import export
from dualenc.files import read_json
from dualenc.models import MultiplicativeTower


@pytest.fixture(scope="module")
def run(flat_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on `flat_data`: pictures, and values as tokens."""
    folder = tmp_path_factory.mktemp("multiplicative")
    (folder / "config.yaml").write_text("model: {preset: tiny, query: {kind: multiplicative, rank: 8}}\n")
    training = start_fit(
        *(folder, str(folder / "config.yaml"), f"data.path={flat_data}", "trainer.max_samples=1024", "eval.every=512"),
        *("loss.infonce.weight=0", "loss.recognition.weight=1", "data.edits=[]"),
    )
    return run_folder(training)


def test_it_trains_on_pictures_loads_and_is_given_away(run: Path, tmp_path: Path) -> None:
    loaded = dualenc.load(run)
    assert isinstance(loaded.model.query_tower, MultiplicativeTower)
    assert loaded.model.query_tower.per_object.projection.in_features == 8
    metrics = read_json(run / "summary.json")["metrics"]
    assert 0 <= metrics["ood/object_recognition"] <= 1
    assert metrics["val/caption_vs_swap"] is None, "it reads no captions"
    texts = ["a red circle", "something red", "a circle"]
    embedded = loaded.encode_queries(texts)
    assert embedded.shape == (3, 64)
    export.main([str(run), str(tmp_path / "model")])
    assert torch.equal(dualenc.load(tmp_path / "model").encode_queries(texts), embedded)
    assert "query tower: multiplicative" in (tmp_path / "model" / "README.md").read_text()

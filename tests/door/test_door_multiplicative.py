"""A multiplicative query tower beside pictures in shards: trained, loaded, given away."""

from pathlib import Path

import torch

import dualenc
from dualenc import export
from dualenc.files import read_json
from dualenc.models import MultiplicativeTower


def test_it_trains_on_pictures_loads_and_is_given_away(multiplicative_run: Path, tmp_path: Path) -> None:
    loaded = dualenc.load(multiplicative_run)
    assert isinstance(loaded.model.query_tower, MultiplicativeTower)
    assert loaded.model.query_tower.per_object.projection.in_features == 8
    metrics = read_json(multiplicative_run / "summary.json")["metrics"]
    assert 0 <= metrics["ood/object_recognition"] <= 1
    assert metrics["val/caption_vs_swap"] is None, "it reads no captions"
    texts = ["a red circle", "something red", "a circle"]
    embedded = loaded.encode_queries(texts)
    assert embedded.shape == (3, 64)
    export.main([str(multiplicative_run), str(tmp_path / "model")])
    assert torch.equal(dualenc.load(tmp_path / "model").encode_queries(texts), embedded)
    assert "query tower: multiplicative" in (tmp_path / "model" / "README.md").read_text()

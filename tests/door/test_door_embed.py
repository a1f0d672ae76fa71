"""`python -m dualenc.embed`: the files agree with the loaded model and with the data."""

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import dualenc
from dualenc import embed
from dualenc.data import Dataset
from dualenc.errors import InputError
from dualenc.loading import LoadedModel
from dualenc.weights import read_weights, write_tensors


def run_embed(*arguments: Path | str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and texts written by a command."""
    embed.main([str(argument) for argument in arguments])
    base = str(arguments[2]).removesuffix(".safetensors")
    return load_file(f"{base}.safetensors"), json.loads(Path(f"{base}.json").read_text())


def test_embeddings_of_pictures_and_words(
    flat_run: Path, flat_data: Path, flat_model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "_BLOCK", 16)
    tensors, texts = run_embed(flat_run, "train", tmp_path / "out.safetensors")
    dataset, space = Dataset(flat_data), flat_model.space
    dataset.verify()
    with tarfile.open(dataset.shards["train"][1].path) as archive:
        names = [name for name in archive.getnames() if name.endswith(".txt") and ".neg" not in name]
        captions = [archive.extractfile(name).read().decode() for name in names]  # type: ignore[union-attr]
    second = slice(200, 400)  # the second shard
    assert texts["captions"][second] == captions
    assert texts["keys"][second] == [name.removesuffix(".txt") for name in names]
    assert tensors["index"][second].tolist() == list(range(200, 400))
    pictures = dataset.images("train", np.arange(200, 400))
    torch.testing.assert_close(tensors["scenes"][second], flat_model.encode_scenes(pictures))
    torch.testing.assert_close(tensors["captions"][second], flat_model.encode_queries(captions))
    assert texts["object_queries"] == [flat_model.grammar.object_query(i) for i in range(space.num_objects)]
    assert texts["concept_queries"][:2] == ["something gray", "something red"]
    for name in ("object_queries", "concept_queries"):
        torch.testing.assert_close(tensors[name], flat_model.encode_queries(texts[name]))
    assert tensors["objects"].tolist() == dataset.table("train").objects.tolist()
    assert tensors["counts"].tolist() == [2] * 400
    assert (texts["run"], texts["split"], texts["weights"]) == (flat_run.name, "train", "last")
    assert texts["logit_scale"] == pytest.approx(flat_model.logit_scale)
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        **dict.fromkeys(("scenes", "captions", "object_queries", "concept_queries"), torch.float32),
        **dict.fromkeys(("objects", "counts", "index"), torch.int64),
    }


def test_token_scenes_have_no_captions(symbolic_run: Path, symbolic_model: LoadedModel, tmp_path: Path) -> None:
    run = shutil.copytree(symbolic_run, tmp_path / "run")
    chosen = run / "checkpoints" / "best.safetensors"
    weights, samples = read_weights(chosen)
    noisy = {name: tensor + torch.rand_like(tensor) for name, tensor in weights.items()}
    write_tensors(chosen, noisy, metadata={"samples": str(samples)})  # surely not the last weights
    tensors, texts = run_embed(run, "mixed", tmp_path / "out", "weights=best")
    assert "captions" not in tensors
    assert "captions" not in texts
    assert len(tensors["scenes"]) == len(texts["keys"]) == 40
    assert tensors["object_queries"].shape == (27, 64)
    best = dualenc.load(run, weights="best")
    torch.testing.assert_close(tensors["concept_queries"], best.encode_queries(texts["concept_queries"]))
    assert not torch.allclose(tensors["concept_queries"], symbolic_model.encode_queries(texts["concept_queries"]))


def test_files_are_not_overwritten_unless_asked(
    symbolic_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.safetensors"
    out.write_text("mine")
    with pytest.raises(InputError, match="overwrite=true"):
        run_embed(symbolic_run, "val", out)
    assert [path.name for path in tmp_path.iterdir()] == ["out.safetensors"]
    assert out.read_text() == "mine"

    write = Path.write_bytes

    def fail(path: Path, data: bytes) -> None:
        write(path, data[: len(data) // 2])
        if ".safetensors" in path.name:
            raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", fail)
        with pytest.raises(OSError, match="No space"):
            run_embed(symbolic_run, "val", out, "overwrite=true")
    assert out.read_text() == "mine"
    assert not list(tmp_path.glob("*.tmp-*"))
    tensors, _ = run_embed(symbolic_run, "val", out, "overwrite=true")
    assert tensors["scenes"].shape == (40, 64)
    modes = {path.suffix: path.stat().st_mode for path in tmp_path.iterdir()}
    assert modes[".safetensors"] == modes[".json"]


@pytest.mark.parametrize(
    ("split", "out", "part"), [("vla", "out", "train, val, val_ood, ood, mixed"), ("val", "nowhere/out", "create it")]
)
def test_bad_places_and_splits_are_refused(symbolic_run: Path, tmp_path: Path, split: str, out: str, part: str) -> None:
    with pytest.raises(InputError, match=part):
        run_embed(symbolic_run, split, tmp_path / out)
    assert not list(tmp_path.iterdir())

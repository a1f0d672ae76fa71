"""The shards feed other tools as they are: webdataset, open_clip's convention, Hugging Face datasets."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

SPLIT = "train"


def shards(folder: Path, split: str = SPLIT) -> list[str]:
    """The tar files of a split."""
    return [str(path) for path in sorted((folder / split).glob("*.tar"))]


def records(folder: Path, split: str = SPLIT) -> list[dict[str, Any]]:
    """Raw samples, by webdataset without decoding."""
    return list(webdataset.WebDataset(shards(folder, split), shardshuffle=False, empty_check=False))


def test_webdataset_decodes_every_member_by_itself(rich_dataset: Path) -> None:
    dataset = webdataset.WebDataset(shards(rich_dataset), shardshuffle=False, empty_check=False).decode("rgb8")
    decoded, opposites = list(dataset), 0
    assert [sample["__key__"] for sample in decoded] == [f"train-{i:08d}" for i in range(120)]
    for sample in decoded:
        assert (sample["png"].shape, sample["png"].dtype) == ((48, 48, 3), np.uint8)
        assert isinstance(sample["txt"], str)
        assert isinstance(sample["json"]["objects"], list)
        if "opposite.txt" in sample:
            opposites += 1
            assert sample["opposite.png"].shape == (48, 48, 3)
            assert isinstance(sample["opposite.txt"], str)
        assert "mask.png" in sample
    assert opposites > 30


@pytest.mark.parametrize("name", ["small_dataset", "rich_dataset"])
def test_the_convention_of_open_clip(request: pytest.FixtureRequest, name: str) -> None:
    """Its training pipeline: samples with `txt` and an image among png, jpg, jpeg and webp; the first of "jpg;png;..."
    is the image, "txt" the text; then tuples and batches. Rebuilt with webdataset alone."""
    folder = request.getfixturevalue(name)

    def has_caption_and_image(sample: dict[str, Any]) -> bool:
        return "txt" in sample and any(ending in sample for ending in ("png", "jpg", "jpeg", "webp"))

    pipeline = webdataset.DataPipeline(
        webdataset.SimpleShardList(shards(folder)),
        webdataset.split_by_worker,
        webdataset.tarfile_to_samples(),
        webdataset.select(has_caption_and_image),
        webdataset.decode("pilrgb"),
        webdataset.rename(image="jpg;png;jpeg;webp", text="txt"),
        webdataset.map_dict(image=np.asarray, text=str.split),
        webdataset.to_tuple("image", "text"),
        webdataset.batched(8, partial=False),
    )
    raw, seen = records(folder), 0
    for images, texts in pipeline:
        assert images.shape[0] == len(texts) == 8
        for text in texts:
            assert text == raw[seen]["txt"].decode().split(), "the caption of its own sample, not of the opposite"
            seen += 1
    assert seen == len(raw) // 8 * 8


HUGGING_FACE = """
import json, sys
import datasets
from datasets import Features, Image, Json, Value, load_dataset

columns = {"__key__": Value("string"), "txt": Value("string"), "json": Json(), "neg.txt": Value("string")}
pictures, folder, streaming = sys.argv[1].split(","), sys.argv[2], sys.argv[3] == "streaming"
if "opposite" in sys.argv[4:]:
    columns |= {"opposite.txt": Value("string")}
columns |= {name: Image() for name in pictures}
datasets.disable_progress_bars()
files = {"train": f"{folder}/train/*.tar", "validation": f"{folder}/val/*.tar"}
dataset = load_dataset("webdataset", data_files=files, features=Features(columns), streaming=streaming)
for split in ("train", "validation"):
    for sample in dataset[split]:
        sizes = [None if sample[name] is None else list(sample[name].size) for name in pictures]
        edits, opposite = (sample["neg.txt"] or "").splitlines(), sample.get("opposite.txt")
        print(json.dumps([sample["__key__"], sample["txt"], sample["json"]["index"], len(edits), opposite, sizes]))
"""


def hugging_face(home: Path, *arguments: str | Path) -> list[list[Any]]:
    """What `load_dataset("webdataset", ...)` reads, in a process that may write into `home` and has no network."""
    settings = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", HUGGING_FACE, *map(str, arguments)]
    environment = {**os.environ, **settings}
    result = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("how", ["whole", "streaming"])
def test_hugging_face_datasets_reads_local_shards(rich_dataset: Path, tmp_path: Path, how: str) -> None:
    pytest.importorskip("datasets")
    read = hugging_face(tmp_path, "png,opposite.png,mask.png", rich_dataset, how, "opposite")
    raw = [*records(rich_dataset), *records(rich_dataset, "val")]
    assert len(read) == len(raw) == 140
    for (key, text, index, num_edits, opposite, sizes), sample in zip(read, raw):
        assert (key, text) == (sample["__key__"], sample["txt"].decode())
        assert index == json.loads(sample["json"])["index"]
        assert num_edits == len(sample.get("neg.txt", b"").decode().splitlines())
        assert opposite == (sample["opposite.txt"].decode() if "opposite.txt" in sample else None)
        assert sizes == [[48, 48], [48, 48] if "opposite.png" in sample else None, [48, 48]]


def test_hugging_face_datasets_reads_the_plain_members_of_any_dataset(small_dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    read = hugging_face(tmp_path, "jpg", small_dataset, "whole")
    raw = [*records(small_dataset), *records(small_dataset, "val")]
    assert [(key, text) for key, text, *_ in read] == [(s["__key__"], s["txt"].decode()) for s in raw]
    assert all(sizes == [[32, 32]] for *_, sizes in read)

"""What a dataset will cost is said before it is made, and a disk that cannot hold it is refused."""

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_gen.config import load_config
from data_gen.estimate import Estimator
from data_gen.make import make_dataset
from data_gen.recipe import Recipe
from data_gen.shards import plan
from dualenc.errors import InputError


def size_of(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_estimate_is_close_to_what_is_made(small_config: Path, small_dataset: Path) -> None:
    data = load_config(small_config)
    cost = Estimator(Recipe(data)).of(plan(data))
    assert cost.num_samples == 240
    made = sum(path.stat().st_size for path in small_dataset.rglob("*.tar"))
    assert cost.num_bytes == pytest.approx(made, rel=0.1)
    assert 0.01 < cost.seconds < 10


def test_what_is_about_to_be_made_is_said_first(data_gen: Any, small_config: Path, tmp_path: Path) -> None:
    result = data_gen.run(small_config, "data.out=set", "data.num_workers=2", cwd=tmp_path)
    first = result.stderr.splitlines()[0]
    pattern = r"to make: 240 samples, about 1\.\d MB, [\d,]+ samples/s with 2 processes, \d+ s"
    assert re.fullmatch(pattern, first), first
    again = data_gen.run(small_config, "data.out=set", cwd=tmp_path)
    assert "to make" not in again.stderr


@pytest.mark.parametrize("key", ["data.out", "data.root"])
def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    data_gen: Any, tmp_path: Path, key: str
) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    (tmp_path / "huge.yaml").write_text("data: {samples_per_shard: 1000000, num_samples: {mixed: 0}}\n")
    number = 1_000_000 * (free // (1_000_000 * 4500) + 1)
    place = tmp_path / "not" / "there"
    result = data_gen.run("huge.yaml", f"{key}={place}", f"data.num_samples.train={number}", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"error: {key}: {number + 5000:,} samples need about ")
    assert f"the disk of {tmp_path} has " in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["huge.yaml"]


def test_what_is_there_already_needs_no_room(
    small_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that has room for half of the shards: enough to continue a dataset of which the other half is there."""
    options = ["data.num_workers=1", f"data.out={tmp_path / 'set'}"]
    half = load_config(small_config, [*options, "data.num_tasks=2", "data.task=1"])
    make_dataset(half)
    room = 1.3 * size_of(tmp_path / "set")
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_blocks=1, f_bavail=int(room), f_frsize=1))
    with pytest.raises(InputError, match=r"^data\.out: 240 samples need about 1\.\d MB, the disk of .* has 0\.\d MB"):
        make_dataset(load_config(small_config, [f"data.out={tmp_path / 'other'}"]))
    assert not (tmp_path / "other").exists()
    make_dataset(load_config(small_config, options))
    assert (tmp_path / "set" / "dataset.json").exists()

"""A small dataset made by data_gen, read by many tests and copied by those that damage it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dualenc.data import Dataset

CONFIG = """
data:
  concepts: {color: 6, shape: 6}
  coverage: 0.65
  objects: {1: 0.2, 2: 0.5, 3: 0.3}
  collision_rate: 0.5
  num_samples: {train: 150, val: 30, val_ood: 20, ood: 30, mixed: 20}
  captions: {templates: ["{}", "there is {}", "a picture of {}"]}
  edits: {swap: 1, replace: 2, add: 1}
  samples_per_shard: 16
"""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset's folder, never opened."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "config.yaml").write_text(CONFIG)
    command = [sys.executable, "-m", "data_gen", "config.yaml", "data.out=dataset", "data.num_workers=2"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return folder / "dataset"


@pytest.fixture(scope="session")
def dataset(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The dataset, opened and verified; not to be changed."""
    opened = Dataset(shutil.copytree(made, tmp_path_factory.mktemp("opened") / "dataset"))
    opened.verify()
    return opened


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(made, tmp_path / "dataset")

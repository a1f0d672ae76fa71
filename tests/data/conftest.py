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


RICH = """
data:
  concepts: {color: 3, shape: 4}
  coverage: 0.34
  val_fraction: 0.34
  objects: {1: 0.1, 2: 0.9}
  layout: relational
  relation_margin: 0.2
  num_samples: {train: 120, val: 20, val_ood: 0, ood: 20, mixed: 20}
  captions:
    templates: ["{}", "there is {}"]
    kinds: {list: 0.3, partial: 0.1, relation: 0.4, count: 0.1, negation: 0.1}
    num: 3
    positives: 2
  edits: {swap: 1, replace: 1, add: 1, spatial: 1, negation: 1, depth2: 1}
  opposites: {binding: 1.0, spatial: 1.0, negation: 1.0}
  samples_per_shard: 20
"""


def make(config: str, folder: Path) -> Path:
    """A dataset of this config, made by data_gen as a process."""
    (folder / "config.yaml").write_text(config)
    command = [sys.executable, "-m", "data_gen", "config.yaml", "data.out=dataset", "data.num_workers=2"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return folder / "dataset"


def open_copy(made: Path, folder: Path) -> Dataset:
    """A copy of a dataset, opened and verified."""
    opened = Dataset(shutil.copytree(made, folder / "dataset"))
    opened.verify()
    return opened


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset's folder, never opened."""
    return make(CONFIG, tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="session")
def dataset(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The dataset, opened and verified; not to be changed."""
    return open_copy(made, tmp_path_factory.mktemp("opened"))


@pytest.fixture(scope="session")
def rich_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a dataset with captions of every kind, never opened."""
    return make(RICH, tmp_path_factory.mktemp("rich"))


@pytest.fixture(scope="session")
def rich_dataset(rich_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The same, opened and verified; not to be changed."""
    return open_copy(rich_made, tmp_path_factory.mktemp("opened"))


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(made, tmp_path / "dataset")

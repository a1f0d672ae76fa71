"""A small dataset that many tests read, and the command line as a user calls it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SMALL = """
data:
  concepts: {color: 6, shape: 6}
  coverage: 0.65
  objects: {1: 0.2, 2: 0.5, 3: 0.3}
  collision_rate: 0.25
  num_samples: {train: 130, val: 40, val_ood: 20, ood: 30, mixed: 20}
  captions: {templates: ["{}", "there is {}", "a picture of {}"]}
  edits: {swap: 2, replace: 1, add: 1}
  samples_per_shard: 20
"""


class DataGen:
    """`python -m data_gen` as a user calls it, in one folder."""

    def command(self, *arguments: str | Path, module: str = "data_gen") -> list[str]:
        """The command line."""
        return [sys.executable, "-m", module, *map(str, arguments)]

    def run(self, *arguments: str | Path, cwd: Path, module: str = "data_gen") -> subprocess.CompletedProcess[str]:
        """Runs the command in `cwd` and captures what it prints."""
        command = self.command(*arguments, module=module)
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="session")
def data_gen() -> DataGen:
    """The command line of data_gen."""
    return DataGen()


@pytest.fixture(scope="session")
def small_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML file of the small dataset."""
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="session")
def small_dataset(data_gen: DataGen, small_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small dataset, made by one worker."""
    folder = tmp_path_factory.mktemp("small") / "dataset"
    result = data_gen.run(small_config, f"data.out={folder}", "data.num_workers=1", cwd=folder.parent)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == str(folder)
    return folder


@pytest.fixture
def listing() -> Callable[[Path], list[str]]:
    """Lists everything under a folder, hidden files too."""
    return lambda folder: sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))

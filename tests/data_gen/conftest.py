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


RICH = """
data:
  name: rich
  style: {style}
  concepts: {{color: 6, shape: 6}}
  coverage: 0.65
  objects: {{1: 0.1, 2: 0.5, 3: 0.4}}
  layout: relational
  num_samples: {{train: {train}, val: 20, val_ood: 0, ood: 20, mixed: 20}}
  captions:
    templates: ["{{}}", "there is {{}}"]
    kinds: {{list: 0.3, partial: 0.1, relation: 0.3, count: 0.1, negation: 0.2}}
    num: 3
    positives: 2
  edits: {{swap: 1, replace: 1, add: 1, spatial: 1, negation: 1, depth2: 1}}
  opposites: {{binding: 1.0, spatial: 1.0, negation: 1.0}}
  picture: {{size: 48, masks: true, format: {image_format}}}
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


@pytest.fixture(scope="session")
def rich_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML file of a flat dataset that uses every feature, in PNG."""
    path = tmp_path_factory.mktemp("rich") / "rich.yaml"
    path.write_text(RICH.format(style="flat", train=120, image_format="png"))
    return path


@pytest.fixture(scope="session")
def rich_dataset(data_gen: DataGen, rich_config: Path) -> Path:
    """The dataset of `rich_config`, made by one worker."""
    folder = rich_config.parent / "dataset"
    result = data_gen.run(rich_config, f"data.out={folder}", "data.num_workers=1", cwd=folder.parent)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="session")
def clevr_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML file of a small 3-D dataset that uses every feature."""
    path = tmp_path_factory.mktemp("clevr") / "clevr.yaml"
    path.write_text(RICH.format(style="clevr", train=60, image_format="jpg"))
    return path

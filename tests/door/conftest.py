"""A tiny flat dataset, and two tiny finished runs: pictures with words, and token scenes with token queries."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from warm import WarmFit

import dualenc
from dualenc.loading import LoadedModel

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "trainer.batch_size=64",
    "trainer.threads=1",
    "trainer.accelerator=cpu",
    "eval.num_scenes=40",
    "eval.batch_size=32",
    "eval.worst_scenes=2",
    "run.report=false",
    "logging.wandb=disabled",
    "logging.progress=false",
    "data.num_workers=0",
    *(f"model.{side}.{key}" for side in ("scene", "query") for key in ("width=32", "depth=1", "dropout=0.1")),
]


def start_python(*arguments: str | Path) -> subprocess.Popen:
    """Starts Python on one thread, in the root of the checkout."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run_python(*arguments: str | Path) -> subprocess.CompletedProcess:
    """Runs Python to its end."""
    process = start_python(*arguments)
    out, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def start_fit(folder: Path, *arguments: str) -> WarmFit:
    """Starts a training into `folder`."""
    return WarmFit([*arguments, *SMALL, f"run.dir={folder}"], ROOT)


def run_folder(training: WarmFit) -> Path:
    """The run folder of a training, once it is done."""
    assert training.wait() == 0, training.stderr
    return Path(training.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def flat_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """560 pictures of 24 x 24 pixels, 4 colours x 4 shapes."""
    folder = tmp_path_factory.mktemp("flat") / "flat"
    sizes = {"train": 400, "val": 40, "val_ood": 40, "ood": 40, "mixed": 40}
    done = run_python(
        *("-m", "data_gen", "configs/data/flat.yaml", f"data.out={folder}", "data.num_workers=1"),
        *("data.picture.size=24", "data.concepts.color=4", "data.concepts.shape=4"),
        *("data.coverage=0.5", "data.val_fraction=0.25", "data.samples_per_shard=200"),
        *(f"data.num_samples.{split}={number}" for split, number in sizes.items()),
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def runs(flat_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """`flat_run` and `symbolic_run`, trained side by side."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "flat.yaml").write_text("model: {preset: tiny}\noptim: {lr: 0.005}\n")
    flat = start_fit(
        *(folder, str(folder / "flat.yaml"), f"data.path={flat_data}", "run.name=flat"),
        *("trainer.max_samples=2048", "eval.every=512"),
    )
    symbolic = start_fit(
        *(folder, "configs/symbolic.yaml", "trainer.max_samples=8192", "eval.every=4096", "optim.lr=0.005"),
        *(f"data.symbolic.{key}" for key in ("num_concepts=3", "num_values=3", "num_samples=40", "coverage=0.7")),
    )
    return run_folder(flat), run_folder(symbolic)


@pytest.fixture(scope="session")
def multiplicative_run(flat_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on `flat_data`: pictures, and values as tokens of a multiplicative query tower of rank 8."""
    folder = tmp_path_factory.mktemp("multiplicative")
    (folder / "config.yaml").write_text("model: {preset: tiny, query: {kind: multiplicative, rank: 8}}\n")
    training = start_fit(
        *(folder, str(folder / "config.yaml"), f"data.path={flat_data}", "trainer.max_samples=1024", "eval.every=512"),
        *("loss.infonce.weight=0", "loss.recognition.weight=1", "data.edits=[]"),
    )
    return run_folder(training)


@pytest.fixture(scope="session")
def flat_run(runs: tuple[Path, Path]) -> Path:
    """A finished run on `flat_data`: pictures and words."""
    return runs[0]


@pytest.fixture(scope="session")
def symbolic_run(runs: tuple[Path, Path]) -> Path:
    """A finished run on token scenes of three concepts with three values each, with token queries."""
    return runs[1]


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.CompletedProcess]:
    """`python(argument, ...)` runs Python as a process."""
    return run_python


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """`copy_of(folder)` -> a copy to damage."""
    return lambda folder: Path(shutil.copytree(folder, tmp_path / folder.name))


@pytest.fixture(scope="session")
def flat_model(flat_run: Path) -> LoadedModel:
    """The model of `flat_run`; tests leave it as it is."""
    return dualenc.load(flat_run)


@pytest.fixture(scope="session")
def symbolic_model(symbolic_run: Path) -> LoadedModel:
    """The model of `symbolic_run`; tests leave it as it is."""
    return dualenc.load(symbolic_run)


@pytest.fixture(autouse=True)
def _torch_settings() -> Iterator[None]:
    """Takes back what `set_up_torch` sets for the whole process, besides threads."""
    yield
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)

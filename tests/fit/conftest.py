"""Real command lines on tiny data."""

import subprocess
import sys
from pathlib import Path

import pytest
from fit_commands import PICTURES, Command, environment
from warm import WarmFit


@pytest.fixture
def fit(tmp_path: Path) -> Command:
    """Runs `python -m dualenc.fit` in a folder of its own."""

    def run(*arguments: str, timeout: float = 240) -> subprocess.CompletedProcess:
        process = WarmFit(list(arguments), tmp_path)
        code = process.wait(timeout)
        return subprocess.CompletedProcess(arguments, code, process.stdout, process.stderr)

    return run


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset of pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "tiny.yaml").write_text(PICTURES)
    command = [sys.executable, "-m", "data_gen", "tiny.yaml", "data.out=tiny"]
    subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True, timeout=240)
    return folder / "tiny"

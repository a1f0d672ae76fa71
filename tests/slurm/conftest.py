"""One cluster for all tests of this folder; they are skipped where Slurm is missing."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_cluster import Cluster, missing_programs, running_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three nodes, idle."""
    if missing := missing_programs():
        pytest.skip(f"Slurm is not installed ({', '.join(missing)} missing)")
    with tempfile.TemporaryDirectory(prefix="slurm-") as name:  # pytest's own folders are closed to munge's clients
        Path(name).chmod(0o755)
        with running_cluster(Path(name)) as running:
            yield running

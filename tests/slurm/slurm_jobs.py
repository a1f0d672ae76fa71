"""Sweeps and trainings as jobs of a cluster: the scripts as a user calls them, and what they leave behind."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from local_cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
SWEEP, TRAIN = (ROOT / "slurm" / f"{name}.sh" for name in ("sweep", "train"))

TINY = f"""
base: {ROOT}/configs/symbolic.yaml
overrides:
  run.name: tiny
  run.report: false
  data.num_workers: 0
  data.symbolic.num_samples: 40
  trainer.max_samples: 320
  trainer.batch_size: 32
  trainer.checkpoint_seconds: 0
  eval.every: 320
  eval.num_scenes: 40
  logging.wandb: disabled
  logging.every: 1
"""

TRAINING = [
    f"{ROOT}/configs/symbolic.yaml",
    "run.report=false",
    "data.num_workers=0",
    "data.symbolic.num_samples=40",
    "trainer.threads=1",
    "trainer.accelerator=cpu",
    "trainer.batch_size=32",
    "trainer.checkpoint_seconds=0",
    "eval.every=1000000",
    "eval.num_scenes=40",
    "logging.every=10",
    "logging.wandb=disabled",
]


class Site:
    """A user's place on a cluster: a working folder, and an empty home."""

    def __init__(self, folder: Path, cluster: Cluster | None = None, **settings: str) -> None:
        self.folder, self.cluster = folder, cluster
        self.home = folder / "home"
        self.logs = folder / "logs"
        self.home.mkdir(parents=True)
        base = cluster.environment if cluster else os.environ
        kept = {name: value for name, value in base.items() if not name.startswith(("SBATCH_", "XDG_"))}
        self.environment = {
            **kept,
            "PYTHON": sys.executable,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'no_extras'}",
            "LOGS": str(self.logs),
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "SWEEP_OPTIONS": "--ntasks=1",
            **settings,
        }

    def call(self, *command: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
        """A command in the folder, with further variables."""
        environment = {**self.environment, **settings}
        return subprocess.run(
            [*map(str, command)], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300
        )

    def submit(self, *command: str | Path, **settings: str) -> str:
        """The number of the job that sbatch makes of a script, its options and arguments; output in JOB.out."""
        sbatch = shutil.which("sbatch", path=self.environment["PATH"])
        assert sbatch
        result = self.call(sbatch, "--parsable", "--output=%j.out", *command, **settings)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def output(self, job: str) -> str:
        """What a job has written."""
        path = self.folder / f"{job}.out"
        return path.read_text() if path.exists() else ""

    def sweep(self, text: str, name: str = "tiny") -> Path:
        """A sweep file over TINY."""
        path = self.folder / f"{name}.yaml"
        path.write_text(TINY + text)
        return path

    def runs(self) -> list[Path]:
        """The run folders."""
        return sorted(path.parent for path in self.folder.glob("runs/*/config.yaml"))

    def only_run(self, name: str) -> Path:
        """The folder of the one run of a name."""
        [run] = self.folder.glob(f"runs/{name}-*")
        return run


def jobs_of(result: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What has been submitted: kind -> job."""
    assert result.returncode == 0, result.stderr
    return {kind: job for job, kind in re.findall(r"submitted: job (\d+)(?: \((\w+)\))?", result.stderr)}


def rows(run: Path) -> list[dict]:
    """metrics.jsonl; empty before it is there."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def position(site: Site, name: str) -> int:
    """Samples at the newest line of a run."""
    found = [row["samples"] for run in site.folder.glob(f"runs/{name}-*") for row in rows(run)]
    return max(found, default=0)


def starts(run: Path) -> list[int]:
    """Where each part of a run started."""
    path = run / "segments.jsonl"
    return [json.loads(line)["start_samples"] for line in path.read_text().splitlines()] if path.exists() else []


def steps_in(runs: list[Path]) -> int:
    """Training steps over all logs."""
    return sum("train/loss" in row for run in runs for row in rows(run))


def assert_gapless(run: Path) -> None:
    """No step and no metric appears twice, and samples increase strictly."""
    for key in ("train/loss", "val/object_recognition"):
        samples = [row["samples"] for row in rows(run) if key in row]
        assert samples == sorted({*samples}), [sample for sample, number in Counter(samples).items() if number > 1]


def num_inodes(run: Path) -> int:
    """Files and folders of a run, itself included."""
    return 1 + sum(1 for _ in run.rglob("*"))

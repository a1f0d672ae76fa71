"""slurm/generate.sh: what it submits, and that an array of jobs makes the same dataset as one process."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from watching import hashes

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """
data:
  num_samples: {train: 60, val: 20, val_ood: 0, ood: 20, mixed: 0}
  samples_per_shard: 10
"""

# Runs what sbatch would: every task of an array at once, in processes of their own, then what depends on them.
FAKE_SBATCH = """#!/usr/bin/env bash
echo "sbatch $*" >>"$FAKE_LOG"
for argument in "$@"; do
    case $argument in
        --wrap=*) wrap=${argument#*=} ;;
        --array=0-*) last=${argument#*-*-} ; last=${last#*-} ;;
        --dependency=afterok:*) [[ $(cat "$FAKE_LOG.state") == 0 ]] || exit 1 ;;
    esac
done
if [[ -n ${last-} ]]; then
    pids=()
    for ((task = 0; task <= last; task++)); do
        SLURM_ARRAY_TASK_ID=$task bash -c "$wrap" >"$FAKE_LOG.$task" 2>&1 &
        pids+=($!)
    done
    state=0
    for pid in "${pids[@]}"; do wait "$pid" || state=1; done
    echo $state >"$FAKE_LOG.state"
    echo 41
else
    bash -c "$wrap" >"$FAKE_LOG.last" 2>&1 || exit 1
    echo '42;cluster'
fi
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "a config.yaml"
    path.write_text(CONFIG)
    return path


def generate(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """slurm/generate.sh as a user calls it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SBATCH_", "SLURM_"))}
    settings = {**kept, "PYTHON": sys.executable, "LOGS": str(cwd / "logs"), "GENERATE_CPUS": "1", **environment}
    command = ["bash", str(ROOT / "slurm" / "generate.sh"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, timeout=120)


def fake(tmp_path: Path) -> dict[str, str]:
    """An environment whose sbatch is the fake one."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "sbatch").write_text(FAKE_SBATCH)
    (folder / "sbatch").chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "FAKE_LOG": str(tmp_path / "sbatch.log")}


@pytest.fixture
def whole(config: Path, tmp_path: Path) -> dict[str, str]:
    """The hashes of the dataset, made by one process."""
    command = [sys.executable, "-m", "data_gen", str(config), "data.out=whole", "data.num_workers=1"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    return hashes(tmp_path / "whole")


def test_a_dry_run_prints_what_would_be_submitted(config: Path, tmp_path: Path) -> None:
    result = generate(
        "--dry-run", config, "data.num_tasks=4", "data.captions.templates=['{}', 'there is {}']", "data.out=set",
        cwd=tmp_path, GENERATE_OPTIONS="--mem=8G --exclude=node7", GENERATE_CPUS="3",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    array, last = map(shlex.split, result.stdout.splitlines())
    common = ["--parsable", f"--chdir={tmp_path}", "--ntasks=1", "--cpus-per-task=3", "--requeue"]
    common += ["--open-mode=append", "--mem=8G", "--exclude=node7"]
    assert array[:9] == last[:9] == ["sbatch", *common]
    assert "--array=0-3" in array
    assert array[-1].startswith("--wrap=exec ")
    make = [sys.executable, "-m", "data_gen", str(config), "data.captions.templates=['{}', 'there is {}']"]
    make += ["data.out=set", "data.num_workers=3"]
    said = shlex.split(array[-1].removeprefix("--wrap=exec "))
    assert said == [*make, "data.num_tasks=4", "data.task=$SLURM_ARRAY_TASK_ID"]
    assert last[-1] == "--dependency=afterok:ARRAY_JOB"
    assert "--kill-on-invalid-dep=yes" in last
    check = ["&&", "exec", sys.executable, "-m", "data_gen.verify", "set", "num_workers=3"]
    assert shlex.split(last[-2].removeprefix("--wrap=")) == [*make, *check]
    assert not (tmp_path / "logs").exists()
    assert not (tmp_path / "set").exists()


def test_tasks_as_processes_make_the_same_dataset(config: Path, whole: dict[str, str], tmp_path: Path) -> None:
    result = generate(config, "data.num_tasks=3", "data.out=set", cwd=tmp_path, **fake(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stdout == "set\n"
    assert "submitted: array job 41 (3 tasks), then job 42" in result.stderr
    assert hashes(tmp_path / "set") == whole
    log = Path(fake(tmp_path)["FAKE_LOG"])
    assert "--dependency=afterok:41" in log.read_text().splitlines()[1]
    assert "set: right: 100 samples in 10 shards" in log.with_name("sbatch.log.last").read_text()
    assert "10 of 10 shards are finished" in log.with_name("sbatch.log.last").read_text()
    again = generate(config, "data.num_tasks=3", "data.out=set", cwd=tmp_path, **fake(tmp_path))
    assert (again.returncode, again.stdout) == (0, "set\n")
    assert "complete already" in again.stderr
    assert len(log.read_text().splitlines()) == 2, "nothing more is submitted"


def test_settings_of_the_cluster_are_read(config: Path, tmp_path: Path) -> None:
    """From slurm/cluster.env of the repository, here a copy, which SLURM_SUBMIT_DIR names as in a submitted script."""
    (tmp_path / "slurm").mkdir()
    (tmp_path / "data_gen").symlink_to(ROOT / "data_gen")
    (tmp_path / "slurm" / "cluster.env").write_text("SBATCH_ACCOUNT=lab\nGENERATE_CPUS=7\nPYTHON=" + sys.executable)
    environment = {**fake(tmp_path), "SLURM_SUBMIT_DIR": str(tmp_path)}
    (tmp_path / "bin" / "sbatch").write_text('#!/bin/sh\necho "$SBATCH_ACCOUNT" >>"$FAKE_LOG"\necho 5\n')
    result = generate(config, "data.num_tasks=2", "data.out=set", cwd=tmp_path, **environment)
    assert result.returncode == 0, result.stderr
    assert Path(environment["FAKE_LOG"]).read_text() == "lab\nlab\n"
    dry = generate("--dry-run", config, "data.num_tasks=2", cwd=tmp_path, **environment)
    assert "--cpus-per-task=7" in dry.stdout


def test_more_tasks_than_shards_are_not_needed(config: Path, tmp_path: Path) -> None:
    result = generate("--dry-run", config, "data.num_tasks=99", cwd=tmp_path)
    assert "note: there are 10 shards, so 10 tasks are enough" in result.stderr
    assert "--array=0-9" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no config given; say: slurm/generate.sh"),
        (["{config}"], "data.num_tasks: '' is no number of tasks"),
        (["{config}", "data.num_tasks=0"], "data.num_tasks: '0' is no number of tasks"),
        (["{config}", "data.num_tasks=2", "data.task=1"], "data.task=1: the tasks are numbered by"),
        (["{config}", "data.num_tasks=2", "data.num_workers=1"], "data.num_workers=1: set GENERATE_CPUS"),
        (["{config}", "data.num_tasks=2", "data.sed=1"], "data.sed: unknown key; did you mean data.seed"),
        (["nowhere.yaml", "data.num_tasks=2"], "nowhere.yaml: no such config file"),
        (["{config}", "data.num_tasks=2", "no sbatch"], "sbatch is not there"),
    ],
)
def test_bad_input_is_one_line_and_submits_nothing(
    config: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    environment = fake(tmp_path)
    if "no sbatch" in arguments:
        (tmp_path / "bin" / "sbatch").unlink()
        for name in ("bash", "dirname"):
            (tmp_path / "bin" / name).symlink_to(f"/usr/bin/{name}")
        environment["PATH"] = str(tmp_path / "bin")
        arguments = arguments[:-1]
    result = generate(*(argument.format(config=config) for argument in arguments), cwd=tmp_path, **environment)
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert not Path(environment["FAKE_LOG"]).exists()
    assert not (tmp_path / "logs").exists()


def test_a_real_cluster_makes_the_same_dataset(
    cluster: Any, config: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    def submit(*changes: str) -> Any:
        settings = {"SLURM_CONF": cluster.environment["SLURM_CONF"], "PATH": cluster.environment["PATH"]}
        return generate(config, "data.num_tasks=3", "data.out=set", *changes, cwd=tmp_path, **settings)

    result = submit()
    assert result.returncode == 0, result.stderr
    first, last = re.findall(r"job (\d+)", result.stderr)
    assert cluster.wait(last) == "COMPLETED"
    assert cluster.job(first)["JobState"] == "COMPLETED"
    assert hashes(tmp_path / "set") == whole
    [log] = (tmp_path / "logs").glob("finish-*.out")
    assert "set: right: 100 samples in 10 shards" in log.read_text()
    assert len(list((tmp_path / "logs").glob("make-*.out"))) == 3
    assert "complete already" in submit().stderr

"""What the scripts submit, and what they refuse, without a cluster."""

import os
import shlex
import subprocess
import time
from pathlib import Path

import pytest
from slurm_jobs import ROOT, SWEEP, TRAIN, TRAINING, Site

FOUR = "grid: {data.coverage: [0.3, 0.5], run.seed: [0, 1]}"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def dry_lines(result: subprocess.CompletedProcess[str]) -> list[list[str]]:
    assert result.returncode == 0, result.stderr
    return [shlex.split(line) for line in result.stdout.splitlines()]


def test_a_dry_run_prints_the_lines_that_would_be_submitted(site: Site) -> None:
    sweep = site.sweep(FOUR)
    result = site.call(SWEEP, "--dry-run", sweep, "max_tasks=3", "packed=2", LEAD="60")
    runs, report = dry_lines(result)
    common = ["sbatch", "--parsable", f"--chdir={site.folder}", "--requeue", "--open-mode=append"]
    common += ["--signal=B:USR1@60"]
    assert runs == [
        *common, "--job-name=sweep-tiny", f"--output={site.logs}/sweep-tiny-%a.out", "--array=0-2", "--ntasks=1",
        str(SWEEP), str(sweep), "stage=runs", "max_tasks=3", "packed=2",
    ]  # fmt: skip
    assert report[:6] == common
    assert "--dependency=afterany:ARRAY_JOB" in report
    assert report[-3:] == [str(SWEEP), str(sweep), "stage=report"]
    assert "4 runs: 4 waiting" in result.stderr
    assert not site.logs.exists()
    [train] = dry_lines(site.call(TRAIN, "--dry-run", *TRAINING, TRAIN_OPTIONS="--nodes=2 --gres=gpu:4"))
    assert train[-len(TRAINING) - 3 :] == ["--nodes=2", "--gres=gpu:4", str(TRAIN), *TRAINING]


def test_datasets_come_first_and_only_what_is_left_is_submitted(site: Site) -> None:
    (site.folder / "d.yaml").write_text("data: {num_samples: {train: 60, val: 20, val_ood: 0, ood: 20, mixed: 0}}\n")
    base = ROOT / "configs" / "quickstart.yaml"
    (site.folder / "s.yaml").write_text(
        f"base: {base}\noverrides: {{data.generate: d.yaml}}\n"
        "grid: {data.seed: [0, 1, 2], run.seed: [0, 1]}\n"
    )  # fmt: skip
    data, runs, _ = dry_lines(site.call(SWEEP, "--dry-run", "s.yaml", GENERATE_CPUS="3", MAX_TASKS="8"))
    assert {"--array=0-2", "--cpus-per-task=3"} <= {*data}
    assert data[-2:] == ["stage=data", "max_tasks=8"]
    assert {"--array=0-5", "--dependency=afterany:DATA_JOB"} <= {*runs}
    _finish(site, "s.yaml", 0, 1, 4)
    data, runs, _ = dry_lines(site.call(SWEEP, "--dry-run", "s.yaml"))
    assert "--array=1-2" in data
    assert "--array=2-3,5" in runs


def test_nothing_is_submitted_where_all_is_done_and_refused_runs_are_named(site: Site) -> None:
    sweep = site.sweep("list: [{run.seed: 0}, {run.seed: 1}]")
    _finish(site, sweep.name, 0, 1)
    result = site.call(SWEEP, "--dry-run", sweep)
    assert (result.returncode, result.stdout) == (0, "")
    assert "nothing is submitted: every run is done" in result.stderr
    sweep = site.sweep("list: [{run.seed: 0}, {run.seed: 1}, {optim.lr: -1}]")
    result = site.call(SWEEP, "--dry-run", sweep)
    assert (result.returncode, result.stdout) == (2, "")
    assert "run 2 is refused: optim.lr: " in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: optim.lr: ")


def _finish(site: Site, sweep: str, *indices: int) -> None:
    code = (
        "import sys; from dualenc.files import write_json; from dualenc.sweep import *\n"
        "runs = make_plan(read_sweep(sys.argv[1])).runs\n"
        "for run in (runs[int(index)].folder for index in sys.argv[2:]):\n"
        "    run.path.mkdir(parents=True); write_json(run.summary, {'metrics': {}})"
    )
    result = site.call(site.environment["PYTHON"], "-c", code, sweep, *map(str, indices))
    assert result.returncode == 0, result.stderr


def test_submitting_does_not_import_torch_and_costs_about_a_second(site: Site) -> None:
    sweep = site.sweep(f"grid: {{run.seed: {[*range(200)]}}}")
    before = os.times()
    site.call(SWEEP, "--dry-run", sweep)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 2.5  # seconds of a core, which other work on the machine slows down too
    code = "import sys; from dualenc.sweep import slurm; slurm.main(sys.argv[1:]); assert 'torch' not in sys.modules"
    result = site.call(site.environment["PYTHON"], "-c", code, "plan", sweep)
    assert (result.returncode, result.stdout) == (0, "0-63 -\n"), result.stderr


def without(site: Site, program: str) -> str:
    """A PATH on which a program is missing."""
    folder = site.folder / "bin"
    folder.mkdir()
    for name in ("bash", "dirname", "basename", "id", "awk", "paste", "grep", "cut", "head", "sed", "tr", "scontrol"):
        if name != program:
            (folder / name).symlink_to(f"/usr/bin/{name}")
    return str(folder)


@pytest.mark.parametrize(
    ("command", "settings", "said"),
    [
        (["SWEEP"], {}, "no sweep given; say: bash slurm/sweep.sh"),
        (["SWEEP", "nowhere.yaml"], {}, "nowhere.yaml: no such"),
        (["SWEEP", "tiny.yaml", "packed=0"], {}, "packed: '0' is no number from 1"),
        (["SWEEP", "tiny.yaml", "run.seed=3"], {}, "run.seed: is no option of slurm/sweep.sh"),
        (["SWEEP", "tiny.yaml"], {"LEAD": "2m"}, "LEAD: '2m' is no number of seconds"),
        (["SWEEP", "tiny.yaml"], {"SBATCH_TIMELIMIT": "5"}, "LEAD: 120 s before the end are more than a third of"),
        (["SWEEP", "tiny.yaml"], {"PYTHON": "/usr/bin/env"}, "PYTHON: /usr/bin/env cannot import dualenc and torch"),
        (["SWEEP", "tiny.yaml"], {"PYTHONPATH": "OTHER"}, "installed, not from"),
        (["SWEEP", "tiny.yaml"], {"PATH": "WITHOUT sbatch"}, "sbatch is not there"),
        (["TRAIN"], {}, "no config given; say: slurm/train.sh"),
        (["TRAIN", "c.yaml"], {"SBATCH_TIMELIMIT": "0-00:05:59"}, "a third of the time limit of 359 s"),
    ],
)
def test_bad_input_is_one_line_and_submits_nothing(
    site: Site, command: list[str], settings: dict[str, str], said: str
) -> None:
    site.sweep(FOUR)
    if settings.get("PYTHONPATH") == "OTHER":
        for package in ("dualenc", "torch"):
            (site.folder / "other" / package).mkdir(parents=True)
            (site.folder / "other" / package / "__init__.py").touch()
        settings = {"PYTHONPATH": str(site.folder / "other")}
    if "PATH" in settings:
        settings = {"PATH": without(site, "sbatch")}
    script = {"SWEEP": SWEEP, "TRAIN": TRAIN}[command[0]]
    began = time.monotonic()
    result = site.call("/usr/bin/bash", script, *command[1:], **settings)
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert not site.logs.exists()
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("slurm", "arguments", "said"),
    [
        ("NTASKS=4 TASKS_PER_NODE=2(x2)", ["trainer.devices=4"], "trainer.devices: 4, but Slurm has given 2"),
        ("NTASKS=2 TASKS_PER_NODE=2", ["trainer.nodes=2"], "trainer.nodes: 2, but Slurm has given 1 (SLURM_NTASKS=2)"),
        ("NTASKS=3 TASKS_PER_NODE=2,1", [], "SLURM_TASKS_PER_NODE: 2,1, but every node needs the same"),
        (
            "NTASKS=2 STEP_ID=0 STEP_TASKS_PER_NODE=2",
            ["trainer.devices=1"],
            "trainer.devices: 1, but Slurm has given 2",
        ),
        ("NTASKS=2 TASKS_PER_NODE=2", [], "srun: is not there to start the 2 tasks of job 7"),
    ],
)
def test_a_launch_in_conflict_with_slurm_is_one_line(site: Site, slurm: str, arguments: list[str], said: str) -> None:
    pairs = (pair.split("=") for pair in f"JOB_ID=7 JOB_NAME=train {slurm}".split())
    variables = {f"SLURM_{name}": value for name, value in pairs}
    command = [site.environment["PYTHON"], "-m", "dualenc.fit", *TRAINING, *arguments]
    result = site.call(*command, **variables, PATH=without(site, "srun"))
    assert (result.returncode, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not (site.folder / "runs").exists()

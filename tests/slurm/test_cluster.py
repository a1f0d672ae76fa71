"""Sweeps and trainings on a real cluster of three nodes: preempted, requeued, killed, cancelled, refused.

`python tests/slurm/shows.py` does more of it, longer, and prints figures.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from local_cluster import Cluster
from slurm_jobs import (
    ROOT,
    SWEEP,
    TRAIN,
    TRAINING,
    Site,
    assert_gapless,
    jobs_of,
    num_inodes,
    position,
    rows,
    starts,
    steps_in,
)

# The values of the second run are refused only by whoever trains.
RUNS = (
    "list: [{data.symbolic.num_values: 6, data.coverage: 0.7}, {data.symbolic.num_values: 2, data.coverage: 0.9}, "
    "{data.symbolic.num_values: 6, data.coverage: 0.5}]"
)
LONG = [*TRAINING, "trainer.max_samples=4800"]
PAIR = [*TRAINING, "trainer.max_samples=640", "logging.every=1"]
SLOW_FIT = """
from dualenc import fit, errors

def train(*args, **kwargs):
    import time
    from dualenc.callbacks import CheckpointCallback
    after_step = CheckpointCallback.after_step
    CheckpointCallback.after_step = lambda *step: (time.sleep(0.4), after_step(*step))[1]
    return original(*args, **kwargs)

original, fit._train = fit._train, train
errors.run_cli(fit.main)
"""
PATIENCE = 1200  # seconds; a machine may be busy

pytestmark = pytest.mark.timeout(2 * PATIENCE)


def eventually(condition: Callable[[], Any], what: str = "") -> Any:
    """The first true result of `condition`."""
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < deadline, f"it did not happen: {what}"
        time.sleep(0.1)
    return result


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"), cluster)


@pytest.fixture(scope="module")
def jobs(site: Site) -> dict[str, str]:
    """What runs meanwhile, on the first two nodes; the tests come back to it."""
    elsewhere = "--exclude=127.0.0.3"
    site.environment["SWEEP_OPTIONS"] = f"--ntasks=1 {elsewhere}"
    site.environment["REPORT_OPTIONS"] = elsewhere
    return {
        "sweep": site.submit(elsewhere, SWEEP, site.sweep(RUNS)),
        "one": site.submit(elsewhere, "--ntasks=1", TRAIN, *PAIR, "run.name=one"),
        "two": site.submit(elsewhere, "--nodes=2", "--ntasks-per-node=1", TRAIN, *PAIR, "run.name=two"),
        "undisturbed": site.submit(elsewhere, "--ntasks=1", TRAIN, *LONG, "run.name=undisturbed"),
    }


def slow_python(site: Site) -> Path:
    """A python whose trainings take at least 400 ms a step, so that on a fast machine too there is time to disturb."""
    (site.folder / "slow_fit.py").write_text(SLOW_FIT)
    script = site.folder / "python"
    script.write_text(
        f'#!/bin/bash\nif [[ $2 == dualenc.fit ]]; then set -- {site.folder}/slow_fit.py "${{@:3}}"; fi\n'
        f'exec {sys.executable} "$@"\n'
    )
    script.chmod(0o755)
    return script


def test_disturbed_in_every_way_a_training_ends_as_an_undisturbed_one(
    cluster: Cluster, site: Site, jobs: dict[str, str]
) -> None:
    place = ["--nodelist=127.0.0.3", "--exclusive", "--ntasks=1"]
    job = site.submit(*place, TRAIN, *LONG, "run.name=disturbed", PYTHON=str(slow_python(site)))
    seen = [0]

    def settled(num_starts: int) -> None:
        """Waits until the training has started so often, and has come further than ever since."""
        eventually(
            lambda: len(_starts()) >= num_starts and position(site, "disturbed") >= max(seen) + 320, site.output(job)
        )
        seen.append(position(site, "disturbed"))

    def _starts() -> list[int]:
        runs = [*site.folder.glob("runs/disturbed-*")]
        return starts(runs[0]) if runs else []

    settled(1)
    urgent = site.submit("-p", "urgent", "--nodelist=127.0.0.3", "--exclusive", "--wrap=true")  # preempts: USR1 at once
    settled(2)
    assert cluster.wait(urgent) == "COMPLETED"
    subprocess.run(
        ["scancel", "--signal=USR1", "--batch", job], env=cluster.environment, check=True
    )  # as --signal does
    settled(3)
    cluster.ask("scontrol", "requeue", job)  # SIGTERM alone
    settled(4)
    [claim] = site.folder.glob("runs/disturbed-*/claim")
    os.kill(int(claim.read_text().split(":")[1]), signal.SIGKILL)
    assert cluster.wait(job, PATIENCE) == "COMPLETED", site.output(job)

    said = site.output(job)
    assert int(cluster.job(job)["Restarts"]) == 3
    assert said.count("interrupted, with a checkpoint saved") == 3, said
    assert said.count(f"job {job} is requeued") >= 1, said  # by itself, on USR1; the others by Slurm
    assert "a process has died (exit code 137): the same command again" in said
    run = site.only_run("disturbed")
    assert len(starts(run)) == 5
    # Each life goes on where the one before was told to leave, or beyond; after the kill, beyond the life before that.
    assert all(start >= reached for start, reached in zip(starts(run)[1:], [*seen[1:4], seen[3]], strict=True)), seen
    assert_gapless(run)
    assert num_inodes(run) < 40
    assert cluster.wait(jobs["undisturbed"], PATIENCE) == "COMPLETED", site.output(jobs["undisturbed"])
    assert_same(run, site.only_run("undisturbed"))


def assert_same(run: Path, other: Path) -> None:
    """The same weights, bit for bit, and the same losses at the same samples."""
    import torch

    state, expected = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in (run, other)
    )
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    pairs = [[(row["samples"], row["train/loss"]) for row in rows(f) if "train/loss" in row] for f in (run, other)]
    assert pairs[0] == pairs[1]


def test_two_nodes_take_the_steps_of_one_process(cluster: Cluster, site: Site, jobs: dict[str, str]) -> None:
    for name in ("one", "two"):
        assert cluster.wait(jobs[name], PATIENCE) == "COMPLETED", site.output(jobs[name])
    assert '"nodes": 2' in (site.only_run("two") / "segments.jsonl").read_text()
    one, two = ([row for row in rows(site.only_run(name)) if "train/loss" in row] for name in ("one", "two"))
    assert len(one) == len(two) == 20
    for ours, theirs in zip(two, one):
        assert ours["train/samples_crc32"] == theirs["train/samples_crc32"]
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], abs=1e-4)


def test_a_sweep_names_what_fails_and_trains_nothing_twice(cluster: Cluster, site: Site, jobs: dict[str, str]) -> None:
    """Submitted from inside a job; once more on the login node after a fix, with one result deleted; then once more."""
    assert cluster.wait(jobs["sweep"], PATIENCE) == "COMPLETED", site.output(jobs["sweep"])
    submitted = dict(re.findall(r"submitted: job (\d+) \((\w+)\)", site.output(jobs["sweep"])))
    array, report = submitted
    assert list(submitted.values()) == ["array", "report"]
    assert cluster.wait(report, PATIENCE) == "COMPLETED", (site.logs / "sweep-tiny-report.out").read_text()
    assert cluster.states(array) == {"COMPLETED", "FAILED"}
    shown = site.call(sys.executable, "-m", "dualenc.sweep", "show", "tiny.yaml").stdout
    assert "3 runs: 2 done, 1 failed" in shown
    assert re.search(r"run 1 failed: error: data\.\S+: ", shown)
    [page] = site.folder.glob("runs/sweeps/tiny/*.html")
    assert "error: data." in page.read_text()

    site.sweep(RUNS.replace("2, data.coverage: 0.9", "6, data.coverage: 0.6"))
    first, second = (path for path in site.runs() if path.name.startswith("tiny-") and (path / "summary.json").exists())
    (second / "summary.json").unlink()
    before = steps_in([first, second])
    again = jobs_of(site.call(SWEEP, "tiny.yaml", "max_tasks=2"))
    assert cluster.wait(again["report"], PATIENCE) == "COMPLETED"
    assert cluster.states(again["array"]) == {"COMPLETED"}
    [third] = (path for path in site.runs() if path.name.startswith("tiny-") and path not in (first, second))
    assert [starts(path) for path in (first, second, third)] == [[0], [0, 320], [0]]
    assert steps_in([first, second]) == before
    done = site.call(SWEEP, "tiny.yaml")
    assert done.returncode == 0
    assert "3 runs: 3 done" in done.stderr
    assert "nothing is submitted: every run is done" in done.stderr
    assert not any(site.home.iterdir()), "nothing is written to the home folder"


def test_where_sbatch_is_refused_one_job_runs_the_whole_sweep(cluster: Cluster, site: Site) -> None:
    refusing = site.folder / "refusing"
    refusing.mkdir()
    (refusing / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: Access/permission denied' >&2\nexit 1\n")
    (refusing / "sbatch").chmod(0o755)
    bad = "list: [{data.symbolic.num_values: 2, data.coverage: 0.9}, {data.symbolic.num_values: 2, data.coverage: 0.8}]"
    path = f"{refusing}:{site.environment['PATH']}"
    job = site.submit(SWEEP, site.sweep(bad, "alone"), PATH=path)
    assert cluster.wait(job, PATIENCE) == "FAILED"
    said = site.output(job)
    assert (
        "Access/permission denied\nsbatch is refused inside jobs here: this one runs the whole sweep by itself\n"
        in said
    )
    assert "2 runs: 2 failed" in said
    assert cluster.job(job)["ExitCode"] == "2:0"
    assert (site.folder / "runs" / "sweeps" / "alone" / "report.html").exists()


STAND_IN = f"""#!/bin/bash
#SBATCH --requeue --open-mode=append
root={ROOT}
. $root/slurm/common.sh
echo "start ${{SLURM_RESTART_COUNT:-0}}"
attempt "$@"
"""
WAITING = """
import signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(130))
print("up", flush=True)
time.sleep(600)
"""


def test_a_job_requeues_itself_only_while_it_may(cluster: Cluster, site: Site) -> None:
    """What wraps the training, with commands that leave as it does."""
    script = site.folder / "stand_in.sh"
    script.write_text(STAND_IN)
    cancelled = site.submit(script, sys.executable, "-c", WAITING)
    limited = site.submit(script, sys.executable, "-c", WAITING, MAX_REQUEUES="1")
    lost = site.submit(script, sys.executable, "-c", "import sys; sys.exit(75)")
    short = site.submit("--time=2", TRAIN, *TRAINING)
    asked = site.submit("--time=6", "--ntasks=2", "--nodes=1", TRAIN, *TRAINING, "trainer.nodes=2")

    eventually(lambda: "up" in site.output(cancelled))
    cluster.ask("scancel", cancelled)
    assert cluster.wait(cancelled, PATIENCE) == "CANCELLED"
    for number in (1, 2):
        eventually(lambda: site.output(limited).count("up") == number, site.output(limited))  # noqa: B023
        cluster.ask("scancel", "--signal=USR1", "--batch", limited)
    assert cluster.wait(limited, PATIENCE) == "FAILED"
    assert f"error: MAX_REQUEUES: job {limited} has been requeued 1 times; submit it again" in site.output(limited)
    assert cluster.job(limited)["ExitCode"] == "2:0"
    assert cluster.wait(lost, PATIENCE) == "FAILED"
    assert site.output(lost).count("the same command again") == 2
    assert cluster.job(lost)["ExitCode"] == "75:0"
    for job, said in ((short, "LEAD: 120 s before the end are more than a third of the time limit of 120 s"),
                      (asked, "trainer.nodes: 2, but Slurm has given 1")):  # fmt: skip
        assert cluster.wait(job, PATIENCE) == "FAILED"
        assert cluster.job(job)["ExitCode"] == "2:0", site.output(job)
        [line] = site.output(job).splitlines()
        assert line.startswith(f"error: {said}")
    assert cluster.states(cancelled) == {"CANCELLED"}, "nobody brings back what its owner has cancelled"


@pytest.fixture
def few_files(site: Site) -> Iterator[Path]:
    """A folder that takes fifteen files and folders, as a quota of inodes would."""
    disk = site.folder / "few"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "nr_inodes=15", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_where_no_more_files_fit_the_job_says_so_and_fails(cluster: Cluster, site: Site, few_files: Path) -> None:
    job = site.submit("--ntasks=1", TRAIN, *PAIR, f"run.dir={few_files}", "run.name=few")
    assert cluster.wait(job, PATIENCE) == "FAILED"
    assert cluster.job(job)["ExitCode"] == "2:0", site.output(job)
    said = [line for line in site.output(job).splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert re.match(rf"error: {few_files}\S*: No space left on device; ", said[0])
    assert "Traceback" not in site.output(job)

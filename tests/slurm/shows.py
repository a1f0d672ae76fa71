"""What is too long for a test, on a real cluster of three nodes on this machine; prints figures.

    python tests/slurm/shows.py [smoke] [dataset] [time-limit] [node] [bytes] [samples=1000000]    # all by default

smoke: twelve runs as an array, submitted by sbatch; by bash again, and again with one result deleted; squeue and sacct
beside our table.
dataset: twelve tasks that want the same dataset. time-limit: a training of `samples`, five minutes of a free core, in
jobs of two. node: a node that goes down. bytes: a disk that fills (needs root). AssertionError where one is not as it
should be.
"""

import functools
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "report")]

from local_cluster import Cluster, running_cluster  # noqa: E402
from slurm_jobs import (  # noqa: E402
    ROOT,
    SWEEP,
    TRAIN,
    TRAINING,
    Site,
    assert_gapless,
    jobs_of,
    num_inodes,
    position,
    starts,
    steps_in,
)

PATIENCE = 7200  # seconds
SMOKE = ROOT / "configs" / "sweeps" / "smoke.yaml"
PICTURES = """
data:
  name: tiny
  concepts: {color: [red, blue, green, gray], shape: [circle, square, star, cross]}
  coverage: 0.5
  num_samples: {train: 256, val: 40, val_ood: 20, ood: 40, mixed: 20}
  picture: {size: 24, format: png}
"""
SHARED = f"""
base: {ROOT}/configs/quickstart.yaml
overrides:
  data.generate: tiny.yaml
  data.num_workers: 0
  model.scene.patch_size: 8
  trainer.max_samples: 320
  trainer.batch_size: 32
  eval.every: 320
  eval.num_scenes: 20
  run.report: false
  logging.wandb: disabled
grid: {{run.seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]}}
"""


def show(cluster: Cluster, site: Site, sweep: Path) -> str:
    """The last line of our table."""
    shown = site.call(sys.executable, "-m", "dualenc.sweep", "show", sweep).stdout
    return next(line for line in shown.splitlines() if " runs: " in line)


def queue(cluster: Cluster, job: str) -> dict[str, int]:
    """State -> how many tasks of an array the queue holds in it."""
    return dict(Counter(cluster.ask("squeue", "-h", "-r", "-j", job, "-o", "%T").split()))


def smoke(cluster: Cluster, site: Site) -> None:
    began = time.monotonic()
    outer = site.submit("--ntasks=1", SWEEP, SMOKE)
    assert cluster.wait(outer, PATIENCE) == "COMPLETED", site.output(outer)
    first = {kind: job for job, kind in re.findall(r"submitted: job (\d+) \((\w+)\)", site.output(outer))}
    print(f"submitted after {time.monotonic() - began:.1f} s: {first}")
    while queued := queue(cluster, first["array"]):
        ours = show(cluster, site, SMOKE)
        if queued == queue(cluster, first["array"]):  # else the table may be older or newer than the queue
            print(f"after {time.monotonic() - began:.0f} s: squeue {queued}; ours {ours}", flush=True)
        time.sleep(20)
    cluster.wait(first["report"], PATIENCE)
    assert cluster.states(first["array"]) == {"COMPLETED"}
    ended = cluster.ask("sacct", "-c", "-n", "-P", "-o", "JobName,State")
    counted = Counter(line for line in ended.splitlines() if line.startswith("sweep-smoke|"))
    steps, ours = steps_in(site.runs()), show(cluster, site, SMOKE)
    print(f"done in {time.monotonic() - began:.0f} s, {steps} logged steps")
    print(f"sacct -c: {dict(counted)}; queue: {cluster.ask('squeue', '-h')!r}; ours: {ours}")
    assert counted == {"sweep-smoke|COMPLETED": 12}
    assert ours.startswith("12 runs: 12 done")
    again = site.call(SWEEP, SMOKE)
    assert steps_in(site.runs()) == steps
    assert "nothing is submitted: every run is done" in again.stderr
    print("again:", " / ".join(again.stderr.splitlines()))
    victim = site.runs()[5]
    (victim / "summary.json").unlink()
    third = jobs_of(site.call(SWEEP, SMOKE))
    cluster.wait(third["report"], PATIENCE)
    number = Counter(len(starts(run)) for run in site.runs())
    assert number == {1: 11, 2: 1}
    assert steps_in(site.runs()) == steps
    inodes = max(map(num_inodes, site.runs()))
    assert inodes < 40
    print(f"with one summary.json deleted, runs by number of starts: {dict(number)}; at most {inodes} inodes a run")


def dataset(cluster: Cluster, site: Site) -> None:
    (site.folder / "tiny.yaml").write_text(PICTURES)
    sweep = site.folder / "shared.yaml"
    sweep.write_text(SHARED)
    jobs = jobs_of(site.call(SWEEP, sweep))
    cluster.wait(jobs["report"], PATIENCE)
    made = sorted(path.name for path in site.folder.glob("data/*"))
    maker = (site.logs / "sweep-shared-data-0.out").read_text()
    print(f"datasets: {made}; jobs: {jobs}; {show(cluster, site, sweep)}; the maker said: {maker.splitlines()[-1]}")
    assert len([path for path in site.folder.glob("data/*/dataset.json")]) == 1
    inodes = max(map(num_inodes, site.runs()))
    print(f"runs on pictures: at most {inodes} inodes a run")
    assert inodes < 40
    raced(cluster, Site(site.folder / "race", cluster))


def raced(cluster: Cluster, site: Site) -> None:
    """The same by an array of the user's own, for which nobody has made the dataset before."""
    (site.folder / "tiny.yaml").write_text(PICTURES)
    (site.folder / "shared.yaml").write_text(SHARED)
    job = site.submit("--array=0-11", "--ntasks=1", SWEEP, "shared.yaml")
    assert cluster.wait(job, PATIENCE) == "COMPLETED"
    logs = [path.read_text() for path in site.folder.glob("runs/sweeps/shared/logs/*.log")]
    waited, meanwhile = (sum(text in log for log in logs) for text in ("/.claim\n", "has been completed meanwhile"))
    datasets = len([*site.folder.glob("data/*/dataset.json")])
    print(f"twelve at once: {waited} waited, {meanwhile} found it made meanwhile; {datasets} dataset")
    assert datasets == 1
    assert waited == meanwhile


def time_limit(cluster: Cluster, site: Site, samples: int) -> None:
    arguments = [*TRAINING, "run.name=limited", f"trainer.max_samples={samples}", "logging.wandb=offline"]
    job = site.submit("--time=2", "--signal=B:USR1@20", "--ntasks=1", TRAIN, *arguments, LEAD="20")
    state = cluster.wait(job, PATIENCE)
    [run] = site.folder.glob("runs/limited-*")
    assert state == "COMPLETED", site.output(job)
    assert int(cluster.job(job)["Restarts"]) >= 1
    assert all(start > 0 for start in starts(run)[1:])
    assert_gapless(run)
    from test_wandb_sync import read_back

    [exported] = (run / "wandb").glob("offline-run-*")
    logged = [line["samples"] for line in read_back(exported)["history"] if "train/loss" in line]
    assert logged == sorted(set(logged))
    restarts = cluster.job(job)["Restarts"]
    print(
        f"{state} after {restarts} requeues, starts at {starts(run)}; one wandb run of {len(logged)} increasing samples"
    )


def node(cluster: Cluster, site: Site) -> None:
    arguments = [*TRAINING, "run.name=node", "trainer.max_samples=8000"]
    job = site.submit("--ntasks=1", TRAIN, *arguments)
    while position(site, "node") < 1600:
        time.sleep(0.2)
    first = cluster.job(job)["NodeList"]
    for state in ("DRAIN", "DOWN"):  # drained, or it would be back in a second
        cluster.ask("scontrol", "update", f"NodeName={first}", f"State={state}", "Reason=test")
    state = cluster.wait(job, PATIENCE)
    run = site.only_run("node")
    assert state == "COMPLETED", site.output(job)
    assert_gapless(run)
    assert len(starts(run)) == 2
    assert starts(run)[1] > 0
    nodes = f"{first}, then {cluster.job(job)['NodeList']}"
    print(f"{state} on {nodes}, starts at {starts(run)}, Restarts={cluster.job(job)['Restarts']}")


def bytes_(cluster: Cluster, site: Site) -> None:
    disk = site.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    try:
        arguments = [*TRAINING, "trainer.max_samples=3200", f"run.dir={disk}", "run.name=full"]
        job = site.submit("--ntasks=1", TRAIN, *arguments)
        state = cluster.wait(job, PATIENCE)
        said = [line for line in site.output(job).splitlines() if line.startswith("error: ")]
        assert len(said) == 1
        assert cluster.job(job)["ExitCode"] == "2:0"
        print(f"{state} {cluster.job(job)['ExitCode']}: {said[0]}")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def main(arguments: list[str]) -> None:
    names = [argument for argument in arguments if "=" not in argument]
    samples = int(next((a.removeprefix("samples=") for a in arguments if "=" in a), "1000000"))
    limited = functools.partial(time_limit, samples=samples)
    shows = {"smoke": smoke, "dataset": dataset, "time-limit": limited, "node": node, "bytes": bytes_}
    with tempfile.TemporaryDirectory(prefix="slurm-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "cluster").mkdir()
        with running_cluster(folder / "cluster") as cluster:
            for chosen in names or shows:
                print(f"== {chosen}", flush=True)
                shows[chosen](cluster, Site(folder / chosen, cluster))


if __name__ == "__main__":
    main(sys.argv[1:])

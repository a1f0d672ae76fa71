"""A real Slurm cluster of two nodes on this machine, for as long as the tests run; skipped where Slurm is missing.

Its daemons (munged, slurmctld, one slurmd a node) are children of the test process, in the foreground, and everything
they write is in one temporary folder. No cgroups, no database, no systemd. Debian's packages: slurmctld slurmd
slurm-client munge; their build allows several slurmd on one host.
"""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SBIN = "/usr/sbin:/sbin"
PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "scontrol", "sinfo")

CONFIG = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
MailProg=/bin/true
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
KillWait=5
MinJobAge=86400
NodeName=node1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={first} CPUs=2
NodeName=node2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={second} CPUs=2
PartitionName=main Nodes=ALL Default=YES
"""


@dataclass(frozen=True)
class Cluster:
    """A running cluster: the environment in which Slurm's commands talk to it."""

    environment: dict[str, str]

    def job(self, number: str) -> dict[str, str]:
        """What scontrol says of a job."""
        command = ["scontrol", "show", "job", number, "-o"]
        shown = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout
        return dict(pair.split("=", 1) for pair in shown.splitlines()[0].split() if "=" in pair)

    def wait(self, number: str, seconds: float = 90) -> str:
        """The state in which a job ended."""
        deadline = time.monotonic() + seconds
        while (state := self.job(number)["JobState"]) in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING"):
            assert time.monotonic() < deadline, f"job {number} is still {state}"
            time.sleep(0.2)
        return state


def free_ports(number: int) -> list[int]:
    """Ports on which nothing listens."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster, its nodes idle."""
    path = f"{os.environ['PATH']}:{SBIN}"
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if missing or sys.platform != "linux":
        pytest.skip(f"Slurm is not installed ({', '.join(missing)} missing)")
    with tempfile.TemporaryDirectory(prefix="slurm-") as name:  # pytest's own folders are closed to munge's clients
        Path(name).chmod(0o755)
        yield from _run_cluster(Path(name), path)


def _run_cluster(folder: Path, path: str) -> Iterator[Cluster]:
    environment = {**os.environ, "PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}
    for name in [name for name in environment if name.startswith(("SBATCH_", "SLURM_")) and name != "SLURM_CONF"]:
        del environment[name]
    port, first, second = free_ports(3)
    (folder / "slurm.conf").write_text(
        CONFIG.format(folder=folder, user=getpass.getuser(), port=port, first=first, second=second)
    )
    for name in ("munge", "state", "spool-node1", "spool-node2"):
        (folder / name).mkdir()
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    files = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed", "key-file": "key"}
    daemons = [
        ["munged", "--foreground", *(f"--{option}={folder / 'munge' / name}" for option, name in files.items())],
        ["slurmctld", "-D", "-f", environment["SLURM_CONF"]],
        *(["slurmd", "-D", "-f", environment["SLURM_CONF"], "-N", node] for node in ("node1", "node2")),
    ]
    running: list[subprocess.Popen[bytes]] = []
    try:
        for command in daemons:
            log = open(folder / f"{len(running)}-{command[0]}.out", "wb")  # noqa: SIM115
            running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            if command[0] == "munged":
                _wait_for((folder / "munge" / "socket").exists, running, folder)
        _wait_for(lambda: _idle(environment) == 2, running, folder)
        yield Cluster(environment)
    finally:
        subprocess.run(["scancel", "--user", getpass.getuser()], env=environment, capture_output=True, timeout=20)
        for process in reversed(running):
            process.terminate()
            process.wait(20)


def _idle(environment: dict[str, str]) -> int:
    shown = subprocess.run(["sinfo", "-h", "-N", "-o", "%t"], env=environment, capture_output=True, text=True)
    return shown.stdout.split().count("idle")


def _wait_for(condition: Callable[[], bool], running: list[subprocess.Popen[bytes]], folder: Path) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        ended = [process.args for process in running if process.poll() is not None]
        logs = "\n".join(path.read_text(errors="replace")[-600:] for path in folder.glob("*.out"))
        assert not ended, f"the cluster does not come up: {ended} {logs}"
        assert time.monotonic() < deadline, f"the cluster does not come up: {logs}"
        time.sleep(0.1)

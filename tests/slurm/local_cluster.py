"""A real Slurm cluster on this machine: munged, slurmctld and one slurmd for each node, all in the foreground.

Everything they write is in one folder. No cgroups, no database, no systemd. Debian's packages: slurmctld slurmd
slurm-client munge; their build allows several slurmd on one host. A job in the partition `urgent` preempts those in
`main`, which get their --signal at once and GraceTime later their end, and those in `abrupt`, which have no such time.
"""

import getpass
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SBIN = "/usr/sbin:/sbin"
PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "sinfo", "squeue")
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY"}

CONFIG = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# cred_expire is also how long a requeued job is held back, else 120 s
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
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobcomp.log
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
KillWait=10
MinJobAge=86400
ReturnToService=2
EnforcePartLimits=ALL
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
{nodes}
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=abrupt Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""


@dataclass(frozen=True)
class Cluster:
    """A running cluster: the environment in which Slurm's commands talk to it."""

    environment: dict[str, str]

    def ask(self, *command: str) -> str:
        """What a Slurm command prints."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout

    def job(self, number: str) -> dict[str, str]:
        """What scontrol says of a job; of an array, of its first task."""
        shown = self.ask("scontrol", "show", "job", number, "-o")
        return dict(pair.split("=", 1) for pair in shown.splitlines()[0].split() if "=" in pair)

    def states(self, number: str) -> set[str]:
        """The states of a job; of an array, of all its tasks."""
        return set(re.findall(r"\bJobState=(\w+)", self.ask("scontrol", "show", "job", number, "-o")))

    def wait(self, number: str, seconds: float = 90) -> str:
        """The state in which a job, or the whole of an array, ended; several are joined by commas."""
        deadline = time.monotonic() + seconds
        while (states := self.states(number)) - ENDED:
            assert time.monotonic() < deadline, f"job {number} is still {states}"
            time.sleep(0.2)
        return ",".join(sorted(states))


def missing_programs() -> list[str]:
    """What of Slurm is not installed."""
    path = f"{os.environ['PATH']}:{SBIN}"
    found = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    return found if sys.platform == "linux" else ["Linux"]


@contextmanager
def running_cluster(folder: Path, *, num_nodes: int = 3, cpus: int = 4) -> Iterator[Cluster]:
    """The cluster, its nodes idle. `folder` must be open to others: munge's clients ask for that."""
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:{SBIN}", "SLURM_CONF": str(folder / "slurm.conf")}
    for name in [name for name in environment if name.startswith(("SBATCH_", "SLURM_")) and name != "SLURM_CONF"]:
        del environment[name]
    # Names that need no entry in /etc/hosts: the processes of a training look up the first node of their job.
    names = [f"127.0.0.{number + 1}" for number in range(num_nodes)]
    port, *ports = _free_ports(1 + num_nodes)
    nodes = "\n".join(
        f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={own} CPUs={cpus}"
        for name, own in zip(names, ports)
    )
    config = CONFIG.format(folder=folder, user=getpass.getuser(), port=port, nodes=nodes)
    (folder / "slurm.conf").write_text(config)
    for name in ("munge", "state", *(f"spool-{name}" for name in names)):
        (folder / name).mkdir()
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    files = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed", "key-file": "key"}
    daemons = [
        ["munged", "--foreground", *(f"--{option}={folder / 'munge' / name}" for option, name in files.items())],
        ["slurmctld", "-D", "-f", environment["SLURM_CONF"]],
        *(["slurmd", "-D", "-f", environment["SLURM_CONF"], "-N", name] for name in names),
    ]
    running: list[subprocess.Popen[bytes]] = []
    try:
        for command in daemons:
            log = open(folder / f"{len(running)}-{command[0]}.out", "wb")  # noqa: SIM115
            running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            if command[0] == "munged":
                _wait_for((folder / "munge" / "socket").exists, running, folder)
        _wait_for(lambda: _idle(environment) == num_nodes, running, folder)
        yield Cluster(environment)
    finally:
        _stop(running, environment)


def _stop(running: list[subprocess.Popen[bytes]], environment: dict[str, str]) -> None:
    subprocess.run(["scancel", "--user", getpass.getuser()], env=environment, capture_output=True, timeout=20)
    deadline = time.monotonic() + 20  # slurmd leaves jobs alone when it stops, so they end before
    while _queue(environment) and time.monotonic() < deadline:
        time.sleep(0.2)
    for process in reversed(running):
        process.terminate()
        process.wait(20)


def _queue(environment: dict[str, str]) -> str:
    return subprocess.run(["squeue", "-h"], env=environment, capture_output=True, text=True).stdout


def _free_ports(number: int) -> list[int]:
    """Ports on which nothing listens."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _idle(environment: dict[str, str]) -> int:
    command = ["sinfo", "-h", "-N", "-p", "main", "-o", "%t"]
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.split().count("idle")


def _wait_for(condition: Callable[[], bool], running: list[subprocess.Popen[bytes]], folder: Path) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        ended = [process.args for process in running if process.poll() is not None]
        logs = "\n".join(path.read_text(errors="replace")[-600:] for path in folder.glob("*.out"))
        assert not ended, f"the cluster does not come up: {ended} {logs}"
        assert time.monotonic() < deadline, f"the cluster does not come up: {logs}"
        time.sleep(0.1)

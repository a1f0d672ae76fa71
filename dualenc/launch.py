"""This process among those of one training: its number, who has started it, and starting the others.

Three may start them: torchrun, srun (which is called here where Slurm has given a job several tasks), or this process
itself, for one node. None of it needs torch.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dualenc import configs
from dualenc.config import Config, TrainerConfig
from dualenc.errors import InputError
from dualenc.watch import Watch

_PARENT = "DUALENC_PARENT"  # process id of the process of this training that has started this one
_END_SECONDS = 60
_FIRST_SPECIAL_STEP = 2**32 - 100  # above are Slurm's own: batch scripts, interactive shells


def under_torchrun() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def under_srun() -> bool:
    """Whether srun has started this process as one of its tasks; a shell that srun has opened is none."""
    step = os.environ.get("SLURM_STEP_ID", "")
    other = under_torchrun() or is_child() or _is_interactive()
    return not other and step.isdigit() and int(step) < _FIRST_SPECIAL_STEP


def launcher_overrides(argv: list[str]) -> list[str]:
    """The numbers of processes, where a launcher has started, or will start, this one: they come from it.

    InputError where the config asks srun for others, or where they differ between nodes.
    """
    if under_torchrun():
        world, local = (int(os.environ[name]) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        return _overrides(local, world // local)
    if not (under_srun() or _has_several_tasks()):
        return []
    given = os.environ.get("SLURM_STEP_TASKS_PER_NODE" if under_srun() else "SLURM_TASKS_PER_NODE", "1")
    found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", given)
    if found is None:
        raise InputError(f"SLURM_TASKS_PER_NODE: {given}, but every node needs the same; say --ntasks-per-node=N")
    devices, nodes = int(found[1]), int(found[2] or 1)
    asked = configs.load(Config, argv[0], argv[1:]).trainer
    for key, number, option in (("devices", devices, "ntasks-per-node"), ("nodes", nodes, "nodes")):
        value = getattr(asked, key)
        if value != number and (value != 1 or any(text.startswith(f"trainer.{key}=") for text in argv)):
            raise InputError(
                f"trainer.{key}: {value}, but Slurm has given {number} (SLURM_NTASKS={devices * nodes}); leave the key "
                f"out, or submit with --{option}={value}"
            )
    os.environ["SLURM_NTASKS_PER_NODE"] = str(devices)  # of the step, where Lightning looks for it
    return _overrides(devices, nodes)


def hand_over_to_srun(argv: list[str]) -> None:
    """Becomes `srun python -m dualenc.fit ...` in the script of a job that has several tasks; else does nothing.

    InputError where srun is missing.
    """
    if under_srun() or not _has_several_tasks():
        return
    if (srun := shutil.which("srun")) is None:
        raise InputError(
            f"srun: is not there to start the {os.environ['SLURM_NTASKS']} tasks of job {os.environ['SLURM_JOB_ID']}; "
            "put it on the PATH, or submit with --ntasks=1 and set trainer.devices"
        )
    if "SLURM_CPUS_PER_TASK" in os.environ:  # which srun has not read since Slurm 22.05
        os.environ.setdefault("SRUN_CPUS_PER_TASK", os.environ["SLURM_CPUS_PER_TASK"])
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(srun, [srun, sys.executable, "-m", "dualenc.fit", *argv])


def rank_of(trainer: TrainerConfig) -> int:
    """The number of this process among all processes of the training."""
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ:
            return int(os.environ[name])
    node, local = (int(os.environ.get(name, "0")) for name in ("NODE_RANK", "LOCAL_RANK"))
    return node * trainer.devices + local


@contextmanager
def launched(trainer: TrainerConfig, argv: list[str], rank: int) -> Iterator[Watch]:
    """The watch over the processes of the training; where no launcher has started those of this node, they start here.

    Lightning would start them too, but only once the first process has imported everything, and it ends the first one
    without a word when another fails. They have ended when this context does. InputError where nodes cannot meet.
    """
    children: list[subprocess.Popen] = []
    try:
        with Watch(rank) as watch:
            if is_child():
                watch.parent(int(os.environ[_PARENT]), rank=rank - int(os.environ["LOCAL_RANK"]))
            elif under_torchrun():
                watch.parent(os.getppid())
            elif trainer.devices * trainer.nodes > 1 and not _has_launcher():
                children += _start(trainer, argv, rank)
                watch.children(children)
            yield watch
        for child in children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(_END_SECONDS)
    finally:
        for child in children:
            child.kill()
            child.wait()


def is_child() -> bool:
    """Whether another process of this node's training has started this one, with the same config."""
    return _PARENT in os.environ


def _has_launcher() -> bool:
    """Whether something else starts the processes of each node."""
    return under_srun() or "LOCAL_RANK" in os.environ


def _has_several_tasks() -> bool:
    """Whether this is the script of a Slurm job of several tasks, none of which has been started."""
    started = {"LOCAL_RANK", "RANK", "NODE_RANK", "SLURM_STEP_ID"} & os.environ.keys()
    job = "SLURM_JOB_ID" in os.environ and not _is_interactive() and not started
    return job and int(os.environ.get("SLURM_NTASKS", "1")) > 1


def _is_interactive() -> bool:
    """Whether a person types in a shell of Slurm's, as Lightning tells it."""
    return os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")


def _overrides(devices: int, nodes: int) -> list[str]:
    return [f"trainer.devices={devices}", f"trainer.nodes={nodes}"]


def _start(trainer: TrainerConfig, argv: list[str], rank: int) -> list[subprocess.Popen]:
    """Starts the further processes of this node by the same command, their place in the environment."""
    if trainer.nodes > 1 and not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= os.environ.keys():
        raise InputError(
            "trainer.nodes: several nodes need to find each other; start with torchrun or srun, or set MASTER_ADDR, "
            "MASTER_PORT and NODE_RANK in the environment of each node's command"
        )
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(_free_port()))
    os.environ["WORLD_SIZE"] = str(trainer.devices * trainer.nodes)
    command = [sys.executable, "-m", "dualenc.fit", *argv]
    children = [
        subprocess.Popen(command, env={**os.environ, **_place(rank + local, local), _PARENT: str(os.getpid())})
        for local in range(1, trainer.devices)
    ]
    os.environ |= _place(rank, 0)
    return children


def _place(rank: int, local: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(local)}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]

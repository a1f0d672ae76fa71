"""This process among those of one training: its number, who has started it, and starting the others on this node."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dualenc.config import TrainerConfig
from dualenc.errors import InputError
from dualenc.watch import Watch

_PARENT = "DUALENC_PARENT"  # process id of the process of this training that has started this one
_END_SECONDS = 60


def launcher_overrides() -> list[str]:
    """The numbers of processes, where torchrun has started this one: its options count, not the config."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return []
    world, local = (int(os.environ[name]) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    return [f"trainer.devices={local}", f"trainer.nodes={world // local}"]


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
            if _PARENT in os.environ:
                watch.parent(int(os.environ[_PARENT]), rank=rank - int(os.environ["LOCAL_RANK"]))
            elif "TORCHELASTIC_RUN_ID" in os.environ:
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


def _has_launcher() -> bool:
    """Whether the processes of each node are started by something else, as Lightning sees it."""
    slurm = "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")
    return slurm or "LOCAL_RANK" in os.environ


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

"""`python -m dualenc.fit ARGUMENTS` in a process of its own, forked from one that has imported everything already.

The imports take most of the time of a short run. A warm process has its own memory, signals, working directory,
environment and output; what it does not show is the start itself, for which some tests use the command.
"""

import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from fit_commands import environment

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["dualenc.training", "dualenc.report", "PIL.Image"])


class WarmFit:
    """A running `dualenc.fit` in `folder`; prepare: called in it before, from a module that it can import."""

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        *,
        further: Mapping[str, str] | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._output = tempfile.TemporaryDirectory()  # not in `folder`, where some tests look at what was written
        self.log = Path(self._output.name) / "log"
        variables = {**environment(), **(further or {})}
        self._process = _CONTEXT.Process(target=_run, args=(arguments, folder, variables, self.log, prepare))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float = 240) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise AssertionError(f"still there after {timeout} s: {self.stderr}")
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    @property
    def stdout(self) -> str:
        return self.log.with_suffix(".out").read_text()

    @property
    def stderr(self) -> str:
        """Without what Lightning says on its own; empty before the process has come that far."""
        path = self.log.with_suffix(".err")
        return path.read_text() if path.exists() else ""


def warm_processes(
    arguments: list[str], folder: Path, *, world: int = 2, prepare: Mapping[int, Callable[[], None]] | None = None
) -> list[WarmFit]:
    """The processes of one training as a launcher on one node starts them; rank -> what to call in it before."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world)}
    arguments = [*arguments, f"trainer.devices={world}", "trainer.accelerator=cpu"]
    return [
        WarmFit(
            arguments,
            folder,
            further={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            prepare=(prepare or {}).get(rank),
        )
        for rank in range(world)
    ]


def wait_until(condition: Callable[[], bool], *, seconds: float = 120, what: str = "") -> None:
    """Waits for `condition`; AssertionError where it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def _run(
    arguments: list[str], folder: Path, variables: dict[str, str], log: Path, prepare: Callable[[], None] | None
) -> None:
    for descriptor, suffix in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(log.with_suffix(suffix), os.O_CREAT | os.O_WRONLY | os.O_APPEND), descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = ["fit.py", *arguments]
    from dualenc import fit
    from dualenc.errors import run_cli

    fit.STOP.install()
    if prepare is not None:
        prepare()
    run_cli(fit.main)

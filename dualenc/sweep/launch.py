"""Runs several trainings at a time, each a process of its own, and survives whatever becomes of them."""

import fcntl
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from dualenc.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK
from dualenc.signals import SIGNALS
from dualenc.sweep.plan import Plan, PlannedRun
from dualenc.sweep.spec import as_text
from dualenc.sweep.state import MARK, RunState, State, ended, log_path, look, now

_POLL_SECONDS = 0.2
_ELSEWHERE_SECONDS = 2.0  # between looks at runs that others run
_THREADS = "trainer.threads"


@dataclass
class Child:
    """A training that runs. `log` stays locked as long as any of its processes holds it open."""

    run: PlannedRun
    process: subprocess.Popen
    log: BinaryIO
    slot: int
    signalled: bool = False
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long this attempt has taken so far."""
        return time.monotonic() - self.began


@dataclass
class Watcher:
    """Who is told of every run that starts or ends (after how many seconds, None where it did not run here), and a few
    times a second."""

    started: Callable[[Child], None] = lambda child: None
    ended: Callable[[RunState, float | None], None] = lambda state, seconds: None
    changed: Callable[[list[Child]], None] = lambda children: None


class Launcher:
    """Runs what is not done of some runs of a plan, at most `jobs` times `packed` at a time.

    Each of the `jobs` has a GPU of its own where there are several, and its `packed` models share it. SIGINT, SIGTERM
    and SIGUSR1 go on to the trainings, which save and leave; no further one starts then. A run that someone else runs
    is left to them, and looked at again when there is nothing else to start.
    """

    def __init__(self, plan: Plan, watcher: Watcher, *, jobs: int = 1, packed: int = 1) -> None:
        self.plan, self.watcher, self.packed = plan, watcher, packed
        self.free = list(range(jobs * packed))
        self.gpus = visible_gpus() if jobs > 1 else []
        self.queue: deque[PlannedRun] = deque()  # further ones may be added while it runs
        self.children: list[Child] = []
        self.codes: dict[int, int] = {}
        self.signal: int | None = None  # the newest one that has come

    def run(self, runs: Sequence[PlannedRun]) -> dict[int, int]:
        """Runs them, and what is added to `queue` meanwhile; index -> exit code of those that ended here."""
        self.queue.extend(runs)
        elsewhere: deque[PlannedRun] = deque()
        with self._signals():
            while self.children or ((self.queue or elsewhere) and self.signal is None):
                while self.queue and self.free and self.signal is None:
                    if not self._begin(run := self.queue.popleft()):
                        elsewhere.append(run)
                if elsewhere and not self.queue and not self.children and self.signal is None:
                    time.sleep(_ELSEWHERE_SECONDS)
                if not self.queue:
                    self.queue, elsewhere = elsewhere, self.queue
                self._pass_on()
                self._reap()
                self.watcher.changed(self.children)
                time.sleep(_POLL_SECONDS if self.children else 0)
        return self.codes

    def _begin(self, run: PlannedRun) -> bool:
        """Starts a run unless it is done or refused; False where someone else runs it."""
        state = look(self.plan, run)
        if run.folder is None:
            self.codes[run.index] = EXIT_BAD_INPUT
        if run.folder is None or state.state is State.DONE:
            self.watcher.ended(state, None)
            return True
        log = locked_log(log_path(self.plan, run)) if state.state is not State.RUNNING else None
        if log is None:
            return False
        if run.folder.summary.exists():  # someone has finished it since we looked
            log.close()
            return False
        self._start(run, log)
        return True

    def _start(self, run: PlannedRun, log: BinaryIO) -> None:
        fixed = {_THREADS} & {*self.plan.sweep.overrides, *run.point}
        arguments = [*run.arguments, *([] if fixed else [f"{_THREADS}=1"])]
        shown = shlex.join(["python", "-m", "dualenc.fit", *arguments])
        log.write(f"{MARK}{now()} {socket.gethostname()}: {shown}\n".encode())
        log.flush()
        slot = self.free.pop(0)
        process = subprocess.Popen(
            [sys.executable, "-m", "dualenc.fit", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**live_wandb(self.plan, run), **self.environment(slot)},
            start_new_session=True,  # a terminal's Ctrl-C reaches it once, from here
        )
        self.children.append(Child(run, process, log, slot))
        self.watcher.started(self.children[-1])

    def environment(self, slot: int) -> dict[str, str]:
        """Of the training in a slot."""
        if not self.gpus:
            return dict(os.environ)
        return {**os.environ, "CUDA_VISIBLE_DEVICES": self.gpus[slot // self.packed % len(self.gpus)]}

    def _pass_on(self) -> None:
        """Tells every training once that it should stop, where we have been told."""
        for child in self.children:
            if self.signal is not None and not child.signalled and child.process.poll() is None:
                child.process.send_signal(self.signal)
                child.signalled = True

    def _reap(self) -> None:
        for child in [child for child in self.children if child.process.poll() is not None]:
            code = child.process.returncode
            if child.signalled and -code in SIGNALS:  # it was told before it could listen
                code = EXIT_INTERRUPTED
            with child.log:
                child.log.write(f"{ended(code, child.seconds)}\n".encode())
                child.log.flush()
                fcntl.flock(child.log, fcntl.LOCK_UN)  # a loader worker may hold the file open for a moment more
            self.children.remove(child)
            self.free = sorted([*self.free, child.slot])
            self.codes[child.run.index] = code
            self.watcher.ended(look(self.plan, child.run), child.seconds)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def note(number: int, frame: FrameType | None) -> None:
            self.signal = number

        before = {number: signal.signal(number, note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def live_wandb(plan: Plan, run: PlannedRun) -> dict[str, str]:
    """What wandb reads where a training logs to it live: the sweep as group, axis values as tags, which hold no comma
    and 64 characters at most."""
    tags = [f"{key}={as_text(value)}"[:64] for key, value in run.point.items()]
    return {"WANDB_RUN_GROUP": plan.sweep.name, "WANDB_TAGS": ",".join(tag for tag in tags if "," not in tag)}


def locked_log(path: Path) -> BinaryIO | None:
    """The log, opened to append and locked for us and the processes that inherit it; None where someone else has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    log = open(path, "ab")  # noqa: SIM115 - it outlives this function
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.close()
        return None
    except OSError:  # a file system without locks: the claim in the run folder keeps two processes apart
        pass
    return log


def visible_gpus() -> list[str]:
    """The GPUs that processes started here may use, as CUDA_VISIBLE_DEVICES names them; found without torch."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    return sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))


def exit_code(states: Sequence[RunState], codes: dict[int, int], *, stopped: bool) -> int:
    """Of the whole command: 130 where it was stopped, 0 where all is done, else that of the first run that failed, as
    a shell counts (137 for SIGKILL)."""
    if stopped:
        return EXIT_INTERRUPTED
    failed = [codes.get(state.run.index, EXIT_BAD_INPUT) for state in states if state.state is not State.DONE]
    return next((code if code > 0 else 128 - code for code in failed if code), EXIT_OK)

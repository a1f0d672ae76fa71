"""What has become of a run, from what lies on the disk: its folder, and its log in the sweep's folder.

SWEEPS/NAME/logs/RUN.log holds the output of all attempts, each between two lines of ours:

    == 2026-11-22T12:00:00 HOST: python -m dualenc.fit ...
    == exit 0 after 812 s

Whoever runs it holds a lock on the log as long as any of its processes lives, so a kill leaves no stale mark. Runs that
were started without a sweep are known by the claim in their folder.
"""

import fcntl
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from dualenc.errors import EXIT_INTERRUPTED, InputError
from dualenc.files import is_claimed
from dualenc.report.folder import newest, read_lines, read_summary
from dualenc.sweep.plan import Plan, PlannedRun

METRICS = {
    "ood/object_recognition": "ood object",
    "ood/bag_level": "bag level",
    "ood/binding_gain": "ood gain",
    "ood/object_recognition_same_status": "same status",
    "val/object_recognition": "val object",
}
"""The metrics of a run that a sweep shows -> what tables call them."""

MARK = "== "
KILLED = (
    "killed by SIGKILL; where memory ran out (dmesg, or OUT_OF_MEMORY in sacct) give the job more (--mem in "
    "SWEEP_OPTIONS), run fewer at a time (jobs, packed, data.num_workers), or batches in more trainer.chunks; the same "
    "command continues it"
)
_TAIL = 8192  # bytes of a log's end that are looked at
_NUM_LINES = 3


class State(StrEnum):
    """Of a run. One that was interrupted, or killed together with whoever ran it, waits."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    WAITING = "waiting"


@dataclass(frozen=True)
class RunState:
    """A run as it stands. `folder` is where it lies (perhaps under another run.name), `progress` the share of its
    training that is done, `seconds` what a finished run took, `projected` what a running one will take at the speed so
    far, `error` the last lines of a failed one."""

    run: PlannedRun
    state: State
    folder: Path | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    progress: float = 0.0
    seconds: float | None = None
    projected: float | None = None
    error: list[str] = field(default_factory=list)


class Folders:
    """The run folders of a parent by hash: the same run under another name is the same run. One listing serves all."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent

    @cached_property
    def by_hash(self) -> dict[str, list[Path]]:
        """Hash -> folders."""
        found: dict[str, list[Path]] = {}
        if self.parent.is_dir():
            for name in os.listdir(self.parent):
                found.setdefault(name.rpartition("-")[2], []).append(self.parent / name)
        return found

    def of(self, run: PlannedRun) -> Path:
        """Where a run lies: the finished folder of its hash, or else its own."""
        assert run.folder is not None
        own = run.folder.path
        others = (path for path in self.by_hash.get(run.folder.hash, []) if path != own)
        return next((path for path in (own, *others) if (path / "summary.json").is_file()), own)


def log_path(plan: Plan, run: PlannedRun) -> Path:
    """The log of a run in the sweep's folder: runs that are the same share it."""
    name = run.folder.path.name if run.folder else f"refused-{run.index}"
    return plan.folder / "logs" / f"{name}.log"


def look(plan: Plan, run: PlannedRun, folders: Folders | None = None) -> RunState:
    """The state of one run; `folders` spares a listing for each where many are looked at."""
    if run.folder is None:
        return RunState(run, State.FAILED, error=[run.error or ""])
    return look_in((folders or Folders(run.folder.path.parent)).of(run), run, log=log_path(plan, run))


def look_in(folder: Path, run: PlannedRun, *, log: Path | None) -> RunState:
    """The state of a run that lies in `folder`; `log` is what a sweep has kept of its output, where one has run it."""
    try:
        summary = read_summary(folder)
    except InputError as error:
        return RunState(run, State.FAILED, folder, error=[str(error)])
    if summary:
        metrics = {key: summary["metrics"].get(key) for key in METRICS}
        seconds = _seconds(folder, "summary.json", run.max_samples, run)
        return RunState(run, State.DONE, folder, metrics, 1.0, seconds)
    samples = newest(folder / "metrics.jsonl", ["samples"]).get("samples", 0)
    progress = samples / run.max_samples
    if is_claimed(folder / "claim") or (log and is_locked(log)):
        projected = _seconds(folder, "metrics.jsonl", samples, run)
        return RunState(run, State.RUNNING, folder, progress=progress, projected=projected)
    if log and (said := last_failure(log)):
        return RunState(run, State.FAILED, folder, progress=progress, error=said)
    return RunState(run, State.WAITING, folder, progress=progress)


def look_at_all(plan: Plan) -> list[RunState]:
    """The state of every run."""
    parents: dict[Path, Folders] = {}
    states = []
    for run in plan.runs:
        parent = run.folder.path.parent if run.folder else Path()
        states.append(look(plan, run, parents.setdefault(parent, Folders(parent))))
    return states


def is_locked(log: Path) -> bool:
    """Whether someone writes the log."""
    try:
        with open(log, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks: the claim in the run folder says it
        return False
    return False


def tail(path: Path) -> list[str]:
    """The last whole lines of a file; none where it is missing."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            lines = file.read().decode(errors="replace").split("\n")
    except FileNotFoundError:
        return []
    return lines[1:-1] if size > _TAIL else lines[:-1]


def ended(code: int, seconds: float) -> str:
    """The line that ends an attempt in a log. A negative code is the signal that killed it."""
    return f"{MARK}exit {code} after {seconds:.0f} s"


def last_failure(log: Path) -> list[str]:
    """The last lines of the newest attempt where it failed, and what killed it where it could not say so itself; none
    where it has not failed, or was interrupted."""
    lines = [line for line in tail(log) if line.strip()]
    if not lines or not lines[-1].startswith(f"{MARK}exit "):
        return []
    code = int(lines[-1].split()[2])
    if code in (0, EXIT_INTERRUPTED):
        return []
    said: list[str] = []
    for line in reversed(lines[:-1]):
        if line.startswith(MARK) or len(said) == _NUM_LINES:
            break
        said.insert(0, line)
    return [*(said or [lines[-1].removeprefix(MARK)]), *_killed_by(code)]


def _killed_by(code: int) -> list[str]:
    """A line about the signal in an exit code, of Python (-9) or of a shell or srun (137); none where it was none."""
    number = -code if code < 0 else code - 128
    if number not in {*signal.Signals}:
        return []
    return [KILLED if number == signal.SIGKILL else f"killed by {signal.Signals(number).name}"]


def _seconds(folder: Path, written: str, samples: int, run: PlannedRun) -> float | None:
    """What all samples of a run take, from the start of its newest part to when `written`, at `samples`, was written.

    Only starts are noted in segments.jsonl, so for a run in several parts the newest one's speed stands for all; None
    where there is nothing to tell from.
    """
    try:
        part = read_lines(folder / "segments.jsonl", ("start_samples", "time"))[-1]
        began = datetime.strptime(part["time"], "%Y-%m-%dT%H:%M:%S%z").timestamp()
        seconds = (folder / written).stat().st_mtime - began
    except (IndexError, ValueError, OSError):
        return None
    done = samples - part["start_samples"]
    return seconds * run.max_samples / done if done > 0 and seconds > 0 else None


def remaining(states: list[RunState]) -> dict[int, float]:
    """Index -> estimated seconds of what is left of each unfinished run; empty while no run of the sweep has begun.

    Every sample is taken to cost what it cost in the finished runs on average; before there are any, in those that run.
    """
    done = [(state.seconds, state.run.max_samples) for state in states if state.seconds]
    done = done or [(state.projected, state.run.max_samples) for state in states if state.projected]
    if not done:
        return {}
    per_sample = sum(seconds for seconds, _ in done) / sum(samples for _, samples in done)
    return {
        state.run.index: per_sample * state.run.max_samples * (1 - state.progress)
        for state in states
        if state.state is not State.DONE and state.run.folder
    }


def as_json(state: RunState) -> dict[str, Any]:
    """A run as sweep.json lists it."""
    run = state.run
    values: Mapping[str, Any] = {
        "index": run.index,
        "values": run.point,
        "state": str(state.state),
        "folder": str(state.folder) if state.folder else None,
        "hash": run.folder.hash if run.folder else None,
        "seconds": state.seconds,
        "metrics": state.metrics,
        "error": state.error,
        "command": ["python", "-m", "dualenc.fit", *run.arguments],
    }
    return dict(values)


def now() -> str:
    """The time as logs have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")

"""What slurm/sweep.sh asks about a sweep; nothing here submits anything or knows Slurm's commands.

    python -m dualenc.sweep.slurm plan SWEEP [max_tasks=N] [busy=LIST]
    python -m dualenc.sweep.slurm data SWEEP TASK [max_tasks=N] [num_workers=N]

`plan` prints two lists of array tasks, as sbatch reads them, or `-` for none: those that have runs to train, and those
that have datasets to make for them; what is left out, it says. Task t has the runs t, t + max_tasks, and so on, and so
it is with datasets. `data` makes those of one task.
"""

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dualenc.command import read_command
from dualenc.configs import field
from dualenc.errors import EXIT_OK, InputError, run_cli
from dualenc.sweep.plan import make_plan
from dualenc.sweep.spec import read_sweep
from dualenc.sweep.state import RunState, State, look_at_all
from dualenc.sweep.table import totals

NONE = "-"


@dataclass
class Options:
    """Of both commands."""

    max_tasks: int = field(64, "tasks that the runs are spread over", minimum=1)
    busy: list[int] = field(list, "tasks that are still in the queue, and so are left alone")
    num_workers: int = field(1, "processes that make a dataset", minimum=1)


def main(argv: list[str]) -> int:
    """Runs the command and returns its exit code."""
    verb = argv[0] if argv else ""
    names = {"plan": ("plan", "SWEEP"), "data": ("data", "SWEEP", "TASK")}.get(verb)
    if names is None:
        raise InputError(f"{verb or 'plan|data'}: which command is missing; use plan or data")
    [_, path, *task], options = read_command(argv, Options, names=names, about=__doc__)
    plan = make_plan(read_sweep(Path(path)))
    states = look_at_all(plan)
    datasets = list(dict.fromkeys(run.dataset for run in plan.runs if run.dataset))
    if verb == "data":
        wanted = {run.dataset for run in (state.run for state in _to_train(states))}
        own = datasets[int(task[0]) :: options.max_tasks]
        return _make([list(dataset) for dataset in own if dataset in wanted], options.num_workers)
    for note in plan.notes:
        print(note, file=sys.stderr)
    runs, data = _tasks(states, datasets, options)
    print(ranges(runs), ranges(data))
    return EXIT_OK


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as sbatch's --array takes them, `0-3,7`; `-` for none."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts) or NONE


def _tasks(states: list[RunState], datasets: list[tuple[str, ...]], options: Options) -> tuple[set[int], set[int]]:
    """The tasks to submit, for runs and for datasets; says what is left out. InputError where nothing but runs that
    are refused is left."""
    print(totals(states, {}).partition(";")[0], file=sys.stderr)
    refused = [state for state in states if state.run.folder is None]
    for state in refused:
        print(f"run {state.run.index} is refused: {state.run.error}", file=sys.stderr)
    left = _to_train(states)
    tasks = {state.run.index % options.max_tasks for state in left}
    if waiting := tasks & {*options.busy}:
        print(f"tasks {ranges(waiting)} are in the queue already, and are left alone", file=sys.stderr)
    tasks -= waiting
    if not tasks:
        if refused and not waiting:
            raise InputError(f"{refused[0].run.error} (all runs that are not refused are done or running)")
        print("nothing is submitted: every run is done, runs, or is in the queue", file=sys.stderr)
        return set(), set()
    runs = [state.run for state in left if state.run.index % options.max_tasks in tasks]
    return tasks, {datasets.index(run.dataset) % options.max_tasks for run in runs if run.dataset}


def _to_train(states: list[RunState]) -> list[RunState]:
    """Those that are neither done, nor running, nor refused."""
    return [state for state in states if state.run.folder and state.state not in (State.DONE, State.RUNNING)]


def _make(datasets: list[list[str]], num_workers: int) -> int:
    """Makes datasets one after the other; the exit code of the first that failed."""
    codes = []
    for arguments in datasets:
        command = [sys.executable, "-m", "data_gen", *arguments, f"data.num_workers={num_workers}"]
        codes.append(subprocess.run(command, check=False).returncode)
    return next((code if code > 0 else 128 - code for code in codes if code), EXIT_OK)


if __name__ == "__main__":
    run_cli(main)

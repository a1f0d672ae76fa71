"""Shows or runs the runs of a sweep (see dualenc/sweep/spec.py for the file).

    python -m dualenc.sweep show SWEEP
    python -m dualenc.sweep run SWEEP all|INDEX [INDEX ...] [jobs=N] [packed=K]
    python -m dualenc.sweep threshold SWEEP [jobs=N] [packed=K]

An INDEX is a number of the table, or A:B:C as in Python: 3::16 is 3, 19, 35 and so on. What is done is left alone, what
was interrupted continues. `threshold` runs only what it takes to know where each curve crosses (see
dualenc/sweep/threshold.py). Results go to RUN.DIR/sweeps/NAME, the output of every run to logs/ there.

Exit codes: 0 all done; 130 interrupted, the same command continues; 2 bad input; otherwise that of the first run that
failed, whose last lines are printed; the others go on.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dualenc.command import read_command
from dualenc.configs import field
from dualenc.errors import EXIT_OK, InputError, run_cli
from dualenc.sweep.plan import Plan, PlannedRun, make_plan
from dualenc.sweep.spec import read_sweep
from dualenc.sweep.state import RunState, look_at_all
from dualenc.sweep.table import table

USAGE = "python -m dualenc.sweep show|run|threshold SWEEP [all|INDEX ...] [jobs=N] [packed=K]; see --help"


@dataclass
class RunOptions:
    """Of `run`."""

    jobs: int = field(
        1, "tasks at a time on this machine, each with a GPU of its own where there are several", minimum=1
    )
    packed: int = field(1, "models of a task, each a process, that share its GPU", minimum=1)


def main(argv: list[str]) -> int:
    """Runs the command and returns its exit code."""
    names = [argument for argument in argv if "=" not in argument]
    options = [argument for argument in argv if "=" in argument]
    verb, indices = (names or [""])[0], names[2:]
    if verb in ("run", "threshold"):
        [_, path], settings = read_command([*names[:2], *options], RunOptions, names=(verb, "SWEEP"), about=__doc__)
        plan = _plan(path)
        if verb == "run":
            return run(plan, chosen(plan, indices), settings)
        if indices:
            raise InputError(f"INDEX: {indices[0]!r} has no place after threshold, which chooses the runs itself")
        return find_threshold(plan, settings)
    if verb not in ("", "show", "-h", "--help"):
        raise InputError(f"{verb}: no such command; usage: {USAGE}")
    about = f"{__doc__}\nOf run:"
    [_, path], _ = read_command(argv, RunOptions, names=("show", "SWEEP"), about=about)
    plan = _plan(path)
    print(table(plan, look_at_all(plan)))
    return EXIT_OK


def run(plan: Plan, runs: Sequence[PlannedRun], options: RunOptions) -> int:
    """Runs them, writes the results of the whole sweep, prints the table."""
    from dualenc.sweep.launch import Launcher, exit_code
    from dualenc.sweep.results import write_results
    from dualenc.sweep.screen import screen

    with screen(plan, runs) as watcher:
        launcher = Launcher(plan, watcher, jobs=options.jobs, packed=options.packed)
        codes = launcher.run(runs)
    states = look_at_all(plan)
    for path in write_results(plan, states):
        print(path, file=sys.stderr)
    print(table(plan, states))
    own = {run.index for run in runs}
    return exit_code([s for s in states if s.run.index in own], codes, stopped=launcher.signal is not None)


def find_threshold(plan: Plan, options: RunOptions) -> int:
    """Runs what the search asks for until it needs no more, writes and prints what it has found."""
    from dualenc.sweep.launch import Launcher, exit_code
    from dualenc.sweep.screen import screen
    from dualenc.sweep.threshold import Threshold, write_threshold

    threshold = Threshold(plan)
    first = threshold.begin()
    states: list[RunState] = []
    with screen(plan, first) as watcher:
        launcher = Launcher(plan, watcher, jobs=options.jobs, packed=options.packed)
        show = watcher.ended

        def ended(state: RunState, seconds: float | None) -> None:
            show(state, seconds)
            states.append(state)
            if further := threshold.told(state, ran=seconds is not None):
                launcher.queue.append(further)

        watcher.ended = ended
        codes = launcher.run(first)
    print(write_threshold(threshold))
    return exit_code(states, codes, stopped=launcher.signal is not None)


def chosen(plan: Plan, indices: Sequence[str]) -> list[PlannedRun]:
    """The runs that are named on the command line, in the plan's order. InputError for a number without a run."""
    if not indices:
        raise InputError(f"INDEX: it is missing; name runs of the table, or all; usage: {USAGE}")
    numbers: set[int] = set()
    for index in indices:
        try:
            parts = [int(part) if part else None for part in ("::" if index == "all" else index).split(":")]
        except ValueError:
            raise InputError(f"INDEX: {index!r} is no number, range A:B:C or all") from None
        if len(parts) > 3 or parts == [None] or (len(parts) == 3 and parts[2] == 0):
            raise InputError(f"INDEX: {index!r} is no number, range A:B:C or all")
        if len(parts) == 1 and not 0 <= (parts[0] or 0) < len(plan.runs):
            raise InputError(f"INDEX: {index} is no run of {plan.sweep.path}; it has 0 to {len(plan.runs) - 1}")
        numbers |= {parts[0] or 0} if len(parts) == 1 else set(range(len(plan.runs))[slice(*parts)])
    return [plan.runs[number] for number in sorted(numbers)]


def _plan(path: str) -> Plan:
    plan = make_plan(read_sweep(Path(path)))
    for note in plan.notes:
        print(note, file=sys.stderr)
    return plan


if __name__ == "__main__":
    run_cli(main)

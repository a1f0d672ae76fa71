"""What a person sees while runs go on: a bar for each on a terminal, a line for each start and end elsewhere."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from dualenc.report.results import format_number
from dualenc.sweep.launch import Child, Watcher
from dualenc.sweep.plan import Plan, PlannedRun
from dualenc.sweep.state import RunState, State, log_path, look
from dualenc.sweep.table import duration

_LOOK_EVERY = 10  # calls of `changed` between looks at the run folders


@contextmanager
def screen(plan: Plan, runs: Sequence[PlannedRun]) -> Iterator[Watcher]:
    """The watcher that shows them on stderr, until all have ended."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        yield _Screen(plan, runs, progress).watcher()


class _Screen:
    def __init__(self, plan: Plan, runs: Sequence[PlannedRun], progress: Progress) -> None:
        self.plan, self.progress = plan, progress
        self.all = progress.add_task("all runs", total=len(runs))
        self.bars: dict[int, TaskID] = {}
        self.calls = 0
        self.say(f"output of the runs: {plan.folder / 'logs'}")

    def watcher(self) -> Watcher:
        """Its three ears."""
        return Watcher(self.started, self.ended, self.changed)

    def say(self, line: str) -> None:
        """One line above the bars."""
        if self.progress.disable:
            print(line, file=sys.stderr, flush=True)
        else:
            self.progress.console.print(line, markup=False)

    def started(self, child: Child) -> None:
        """Adds its bar."""
        self.bars[child.run.index] = self.progress.add_task(f"run {child.run.index}", total=child.run.max_samples)
        self.say(f"run {child.run.index}: starts ({child.run.label})")

    def ended(self, state: RunState, seconds: float | None) -> None:
        """Removes its bar and says what came of it; nothing of what was done before."""
        index = state.run.index
        if index in self.bars:
            self.progress.remove_task(self.bars.pop(index))
        self.progress.advance(self.all, state.state is State.DONE)
        if seconds is not None:
            self.say(f"run {index}: {_outcome(state)} after {duration(seconds)}")
        for line in state.error:
            self.say(f"run {index}: {line}")
        if state.error and state.run.folder:
            self.say(f"run {index}: all of it in {log_path(self.plan, state.run)}")

    def changed(self, children: list[Child]) -> None:
        """Moves the bars."""
        self.calls += 1
        if self.progress.disable or self.calls % _LOOK_EVERY:
            return
        for child in children:
            state = look(self.plan, child.run)
            self.progress.update(self.bars[child.run.index], completed=int(state.progress * child.run.max_samples))


def _outcome(state: RunState) -> str:
    if state.state is State.DONE:
        return f"done, ood object recognition {format_number(state.metrics.get('ood/object_recognition'))},"
    return "failed" if state.state is State.FAILED else "interrupted"

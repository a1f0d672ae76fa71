"""How runs stand: state, speed, recognition of held-out objects, time left, how often they were started again.

    python -m dualenc.status SWEEP
    python -m dualenc.status RUN|FOLDER [...]

SWEEP is the YAML file of a sweep, RUN a run folder, FOLDER one that holds run folders. On a terminal the table stays
and follows the runs until none is running or waiting, or Ctrl-C; elsewhere it is printed once.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dualenc.configs import read_yaml
from dualenc.errors import EXIT_OK, InputError, run_cli
from dualenc.report.folder import newest, read_lines, read_summary, run_folders
from dualenc.report.results import format_number
from dualenc.run import RunFolder
from dualenc.sweep.plan import FOLDER, PlannedRun, make_plan
from dualenc.sweep.spec import read_sweep
from dualenc.sweep.state import RunState, State, look_at_all, look_in, remaining
from dualenc.sweep.table import aligned, duration, totals, word

USAGE = "python -m dualenc.status SWEEP, or RUN|FOLDER [...]"
HEADINGS = ["run", "state", "samples/s", "ood object", "left", "restarts", "what"]
RECOGNITION = "ood/object_recognition"
SPEED = "throughput/samples_per_second"
_ORDER = [State.RUNNING, State.FAILED, State.WAITING, State.DONE]  # what one looks for comes first
_COLORS = {State.RUNNING: "cyan", State.FAILED: "red", State.WAITING: "yellow", State.DONE: "green"}
_LOOK_SECONDS = 2.0


def watched(given: Sequence[str]) -> Callable[[], list[RunState]]:
    """What looks at the runs of a sweep, or of folders. InputError for what is neither."""
    sweeps = [name for name in given if Path(name).suffix in (".yaml", ".yml")]
    if sweeps and len(given) > 1:
        raise InputError(f"SWEEP: {sweeps[0]} has to stand alone; usage: {USAGE}")
    if sweeps:
        plan = make_plan(read_sweep(sweeps[0]))
        return lambda: look_at_all(plan)
    folders = run_folders([Path(name) for name in given])
    return lambda: [_look(folder, number) for number, folder in enumerate(folders)]


def rows(states: Sequence[RunState]) -> list[list[str]]:
    """The cells of the table, under `HEADINGS`: what runs first, what is done last."""
    left = remaining(list(states))
    return [_row(state, left) for state in sorted(states, key=lambda state: _ORDER.index(state.state))]


def _row(state: RunState, left: dict[int, float]) -> list[str]:
    folder, run = state.folder, state.run
    what = run.label or (run.folder.path.name if run.folder else "")
    if state.error:
        what += f": {state.error[-1]}"
    if folder is None:
        return [str(run.index), word(state), "", "", "", "", what]
    wanted = [SPEED] if state.state is State.DONE else [SPEED, RECOGNITION]
    said = {**state.metrics, **newest(folder / "metrics.jsonl", wanted)}
    segments = read_lines(folder / "segments.jsonl")
    seconds = seconds_left(state, segments[-1]) if segments else None
    seconds = left.get(run.index) if seconds is None else seconds
    return [
        str(run.index),
        word(state),
        f"{said[SPEED]:,.0f}" if SPEED in said else "",
        format_number(said[RECOGNITION]) if RECOGNITION in said else "",
        f"~{duration(seconds)}" if seconds is not None else "",
        str(len(segments) - 1) if segments else "",
        what,
    ]


def seconds_left(state: RunState, segment: dict) -> float | None:
    """What is left of a running run at the speed of its newest segment, validation included; None where it has logged
    nothing yet."""
    if state.state is not State.RUNNING or state.folder is None:
        return None
    samples = state.progress * state.run.max_samples
    seen = samples - segment.get("start_samples", 0)
    if seen <= 0:
        return None
    began = datetime.strptime(segment["time"], "%Y-%m-%dT%H:%M:%S%z").timestamp()
    logged = (state.folder / "metrics.jsonl").stat().st_mtime
    return max(0.0, (logged - began) / seen * (state.run.max_samples - samples) - (time.time() - logged))


def _look(folder: Path, number: int) -> RunState:
    """The state of a run that is known by its folder alone."""
    try:
        samples = read_summary(folder).get("samples")
    except InputError:
        samples = None
    if samples is None:
        samples = read_yaml(folder / "config.yaml").get("trainer", {}).get("max_samples") or 1
    name, _, identity = folder.resolve().name.rpartition("-")
    run = PlannedRun(number, {}, [], int(samples), RunFolder(folder, identity or name))
    logs = sorted(folder.parent.glob(f"{FOLDER}/*/logs/{folder.name}.log"), key=lambda log: log.stat().st_mtime)
    return look_in(folder, run, log=logs[-1] if logs else None)


def text(states: Sequence[RunState]) -> str:
    """The table as plain aligned text, for pipes."""
    return "\n".join([*aligned([HEADINGS, *rows(states)]), "", totals(list(states), remaining(list(states)))])


def table(states: Sequence[RunState]) -> Table:
    """The table for a terminal."""
    shown = Table(box=box.SIMPLE_HEAD, caption=totals(list(states), remaining(list(states))), caption_justify="left")
    for heading in HEADINGS:
        shown.add_column(heading, justify="left" if heading in ("state", "what") else "right", no_wrap=True)
    for row in rows(states):
        shown.add_row(*map(Text, row), style=_COLORS[State(row[1].partition(" ")[0])])
    return shown


def main(argv: list[str]) -> int:
    """Shows the table."""
    if set(argv) & {"-h", "--help"}:
        print((__doc__ or "").strip())
        return EXIT_OK
    if not argv:
        raise InputError(f"RUN: it is missing; usage: {USAGE}")
    look = watched(argv)
    console = Console(highlight=False)
    if not console.is_terminal:
        print(text(look()))
        return EXIT_OK
    with Live(console=console, auto_refresh=False) as live, suppress(KeyboardInterrupt):
        while follow(live, look):
            pass
    return EXIT_OK


def follow(live: Live, look: Callable[[], list[RunState]]) -> bool:
    """Shows where the runs stand, then waits a while; False once none is running or waiting. Looking takes at most a
    tenth of the time."""
    began = time.monotonic()
    states = look()
    live.update(table(states), refresh=True)
    if not any(state.state in (State.RUNNING, State.WAITING) for state in states):
        return False
    time.sleep(max(_LOOK_SECONDS, 10 * (time.monotonic() - began)))
    return True


if __name__ == "__main__":
    run_cli(main)

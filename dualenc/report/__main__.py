"""`python -m dualenc.report`: see the package."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from dualenc import report
from dualenc.errors import InputError, run_cli
from dualenc.report import write_report, write_sweep_report
from dualenc.sweep.state import RunState

USAGE = "python -m dualenc.report RUN [RUN...] | --sweep SWEEP [--watch] [out=FILE]"
_REFRESH_SECONDS = 10  # of an open page
_LOOK_SECONDS = 2.0


def main(argv: list[str]) -> None:
    """Writes the report and prints its path."""
    if set(argv) & {"-h", "--help"}:
        print((report.__doc__ or "").strip())
        return
    outs = [argument.removeprefix("out=") for argument in argv if argument.startswith("out=")]
    names = [argument for argument in argv if not argument.startswith(("out=", "--"))]
    options = [argument for argument in argv if argument.startswith("--")]
    for option in options:
        if option not in ("--sweep", "--watch"):
            raise InputError(f"{option}: no such option; usage: {USAGE}")
    if not names or len(outs) > 1:
        missing = "SWEEP" if "--sweep" in options else "RUN"
        raise InputError(f"{'out: is given twice' if names else f'{missing}: it is missing'}; usage: {USAGE}")
    out = Path(outs[0]) if outs else None
    if "--sweep" in options:
        if len(names) > 1:
            raise InputError(f"SWEEP: one at a time, but {' '.join(names)} are given; usage: {USAGE}")
        _report_sweep(names[0], out, watch="--watch" in options)
    elif options:
        raise InputError(f"--watch: only a sweep can be watched; usage: {USAGE}")
    else:
        print(write_report([Path(name) for name in names], out))


def _report_sweep(path: str, out: Path | None, *, watch: bool) -> None:
    from dualenc.sweep import State, make_plan, read_sweep
    from dualenc.sweep.state import look_at_all

    plan = make_plan(read_sweep(path))
    for note in plan.notes:
        print(note, file=sys.stderr)
    states = look_at_all(plan)
    while watch and any(state.state in (State.RUNNING, State.WAITING) for state in states):
        print(write_sweep_report(plan, states, out, refresh=_REFRESH_SECONDS), flush=True)
        states = _changed(states, lambda: look_at_all(plan))
    print(write_sweep_report(plan, states, out))


def _changed(before: list[RunState], look: Callable[[], list[RunState]]) -> list[RunState]:
    """What `look` sees once that differs; looking takes at most a tenth of the time."""
    while True:
        began = time.monotonic()
        if (now := look()) != before:
            return now
        time.sleep(max(_LOOK_SECONDS, 10 * (time.monotonic() - began)))


if __name__ == "__main__":
    run_cli(main)

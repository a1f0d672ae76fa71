"""`python -m dualenc.report RUN [RUN...] [out=FILE]`."""

from pathlib import Path

from dualenc.errors import InputError, run_cli
from dualenc.report import write_report

USAGE = "python -m dualenc.report RUN [RUN...] [out=FILE]"


def main(argv: list[str]) -> None:
    """Writes the report and prints its path."""
    if set(argv) & {"-h", "--help"}:
        print(f"usage: {USAGE}")
        return
    outs = [argument.removeprefix("out=") for argument in argv if argument.startswith("out=")]
    runs = [Path(argument) for argument in argv if not argument.startswith("out=")]
    if not runs or len(outs) > 1:
        raise InputError(f"{'out: is given twice' if runs else 'RUN: it is missing'}; usage: {USAGE}")
    print(write_report(runs, Path(outs[0]) if outs else None))


if __name__ == "__main__":
    run_cli(main)

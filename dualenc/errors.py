"""A clear no: how every entry point says that an input is wrong (one line, exit code 2)."""

import os
import select
import sys
from collections.abc import Callable
from pathlib import Path

STDOUT = 1
EXIT_OK = 0
EXIT_BAD_INPUT = 2
EXIT_LOST = 75  # the system's EX_TEMPFAIL: "try again"
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141  # what a shell shows for SIGPIPE: the reader of our output, as `head`, has enough


class InputError(ValueError):
    """Something the user gave is wrong. The message is one line that names the key, file or word and the fix."""


class NotFinite(ValueError):
    """A measurement met NaN or Inf: the model diverged, or an input is broken."""


class ProcessLost(Exception):
    """A process that this one cannot do without has died, for whatever reason; the same command continues."""


def check_output(path: Path, *, key: str) -> None:
    """Refuses, before any long work, a place where no file (or new folder) `path` can be written; names `key`."""
    if path.is_dir():
        raise InputError(f"{key}: {path} is a folder; give the path of a file")
    if not path.parent.exists():
        raise InputError(f"{key}: the folder {path.parent} does not exist; create it first")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"{key}: {path.parent} is no folder that can be written to; choose another place")


def run_cli(main: Callable[[list[str]], int | None], *, continues: bool = True) -> None:
    """Runs `main(argv)` and leaves the process with the exit code the README promises.

    `InputError` and `OSError` (disk full, no permission, no such file) become one line on stderr and exit 2,
    `ProcessLost` one line and exit 75, an interrupt exit 130; continues: whether the same command then goes on where it
    was. Where the reader of our output leaves first, as `head` does, nothing is said. All else is a
    defect of ours and keeps its traceback.
    """
    said, code = None, EXIT_OK
    try:
        code = main(sys.argv[1:]) or EXIT_OK
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        said = f"interrupted; the same command {'continues' if continues else 'starts again'}"
        code = exit_code(error)
    except (InputError, OSError, ProcessLost) as error:
        said, code = f"error: {one_line(error)}", exit_code(error)
        if isinstance(error, BrokenPipeError) and not _has_reader():
            said, code = None, EXIT_UNREAD
    if not _has_reader():  # the interpreter would complain at its end about what is left to write
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
    if said:
        print(said, file=sys.stderr)
    sys.exit(code)


def _has_reader() -> bool:
    """Whether anyone can still read our output."""
    pipe = select.poll()
    pipe.register(STDOUT, 0)  # asks for errors only; a pipe without a reader is one
    return not pipe.poll(0)


def exit_code(error: BaseException | None) -> int:
    """The exit code of a process that ends with `error`."""
    if error is None:
        return EXIT_OK
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, ProcessLost):
        return EXIT_LOST
    return EXIT_BAD_INPUT if isinstance(error, InputError | OSError) else 1


def one_line(error: BaseException) -> str:
    """The message of `error` on a single line; for an `OSError`, with the path and what would help."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        help = "check the path, its permissions and the free space and inodes (df, df -i, quota)"
        return f"{where}{error.strerror}; {help}, then run the same command"
    return " ".join(str(error).split())

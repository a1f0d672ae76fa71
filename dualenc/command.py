"""Command lines of the small tools: some positional arguments, then `key=value`s over a dataclass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from dualenc import configs
from dualenc.configs import field
from dualenc.errors import EXIT_OK, InputError

T = TypeVar("T")


@dataclass
class OtherData:
    """Another dataset than the run's own."""

    path: str | None = field(None, "folder of another dataset; null: the run's own data", identity=False)


@dataclass
class ModelOptions:
    """Options of whatever uses the model of a run."""

    weights: Literal["last", "best"] = field("last", "the last weights, or those chosen on val_ood", identity=False)


@dataclass
class DataOptions(ModelOptions):
    """Options of whatever looks at data with it."""

    data: OtherData = field(OtherData, "the data", identity=False)


def read_command(argv: Sequence[str], options: type[T], *, names: Sequence[str], about: str) -> tuple[list[str], T]:
    """The positional arguments called `names`, and the options.

    `-h` or `--help` prints `about` and the options, and leaves with exit code 0. InputError for a missing argument or
    an unknown option.

    about: the tool's docstring; its first line that begins with `python -m` is the usage.
    """
    usage = next(line.strip() for line in about.splitlines() if line.strip().startswith("python -m "))
    if {"-h", "--help"} & set(argv):
        print(f"{about.strip()}\n\n{configs.help_text(options)}")
        raise SystemExit(EXIT_OK)
    given = list(argv[: len(names)])
    for name, argument in zip(names, [*given, *[""] * len(names)]):
        if not argument or "=" in argument:
            found = f"{argument!r} stands where it should" if argument else "it is missing"
            raise InputError(f"{name}: {found}; usage: {usage}")
    return given, configs.load(options, None, argv[len(names) :])

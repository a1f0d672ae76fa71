"""What the benchmarks share: their options, alternating rounds, the table and the JSON."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType


def options(description: str | None) -> argparse.Namespace:
    """`quick`, and `json`: a path or None."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything; within two minutes on two cores")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures to this file too")
    return parser.parse_args()


def alternated(
    works: Mapping[str, Callable[[], object]],
    rounds: int,
    clocks: Mapping[str, Callable[[], float]] = MappingProxyType({}),
) -> dict[str, list[float]]:
    """Seconds of each work in each round, of this process's CPU time unless a work has another clock.

    All works are done in every round, and every second round backwards, so that whatever else the machine does meets
    all of them; a first round, which warms caches up, does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name in list(works)[:: 1 if number % 2 else -1]:
            clock = clocks.get(name, time.process_time)
            start = clock()
            works[name]()
            if number:
                seconds[name].append(clock() - start)
    return seconds


def speed_ratio(seconds: Mapping[str, list[float]], name: str, other: str) -> float:
    """How many times as fast as the other a work is: the median over rounds of the ratio within a round."""
    return statistics.median(b / a for a, b in zip(seconds[name], seconds[other]))


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a Markdown table with its columns aligned."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    print(f"\n{title}\n")
    for line in lines:
        print("| " + " | ".join(cell.rjust(width) for cell, width in zip(line, widths)) + " |")
    print()


def report(
    found: Mapping[str, float],
    path: Path | None,
    *,
    at_least: Mapping[str, float] = MappingProxyType({}),
    at_most: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """Prints every figure beside what it is held against, and writes them as JSON where a path is given."""
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:{width}s} {value:14.3f}  {_verdict(name, value, at_least, at_most)}".rstrip())
    write(found, path)


def write(found: Mapping[str, float], path: Path | None) -> None:
    """Writes the figures as JSON where a path is given."""
    if path:
        path.write_text(json.dumps(found, indent=2) + "\n")


def _verdict(name: str, value: float, at_least: Mapping[str, float], at_most: Mapping[str, float]) -> str:
    if name in at_most:
        return f"at most {at_most[name]:g}: {'yes' if value <= at_most[name] else 'NO'}"
    if name in at_least:
        return f"at least {at_least[name]:g}: {'yes' if value >= at_least[name] else 'NO'}"
    return ""

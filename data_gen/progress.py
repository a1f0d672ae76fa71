"""How far the work is: a bar on a terminal, else a plain line now and then. Always on stderr."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_SECONDS = 5.0


class Meter:
    """Counts samples and shows how many there are, how fast they come and how long the rest will take."""

    def __init__(self, total: int, *, done: int = 0) -> None:
        self.total, self.done = total, done
        self._made, self._since = 0, time.monotonic()
        self._next_line = self._since + _LINE_SECONDS
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("samples"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
            self._task = self._bar.add_task("samples", total=total, completed=done, rate="")

    @property
    def rate(self) -> float:
        """Samples per second, those made by this process only."""
        return self._made / max(time.monotonic() - self._since, 1e-9)

    def add(self, number: int) -> None:
        """`number` more samples are made."""
        self.done += number
        self._made += number
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, rate=f"{self.rate:,.0f}/s")
        elif time.monotonic() >= self._next_line:
            left = (self.total - self.done) / max(self.rate, 1e-9)
            print(f"{self.done:,} of {self.total:,} samples, {self.rate:,.0f}/s, {left:.0f} s left", file=sys.stderr)
            self._next_line = time.monotonic() + _LINE_SECONDS

    def __enter__(self) -> "Meter":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is None:
            print(f"{self.done:,} samples, {self.rate:,.0f}/s", file=sys.stderr)

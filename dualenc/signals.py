"""One handler for SIGTERM, SIGINT and SIGUSR1: while training it only sets a flag that the end of a step looks at."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopFlag:
    """Set by a signal. Outside training, where there is no step to finish, a signal raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.is_set = False
        self.deferred = False

    def install(self) -> None:
        """Takes the signals over, also from libraries that took them meanwhile."""
        for number in SIGNALS:
            signal.signal(number, self._handle)

    def ignore(self) -> None:
        """From here on signals do nothing, not even while Python ends: launchers send them to whom they see leaving."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    @contextmanager
    def during_training(self) -> Iterator[None]:
        """Inside, a signal only sets the flag; the end of a step, or the end of the block, acts on it."""
        self.install()
        self.deferred = True
        try:
            yield
        finally:
            self.install()
            self.deferred = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True
        if not self.deferred:
            raise KeyboardInterrupt

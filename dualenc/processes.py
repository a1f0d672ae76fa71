"""Worker processes: how many, deaf to signals that are the main process's business, and gone when it is gone."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from dualenc.signals import SIGNALS

_PR_SET_PDEATHSIG = 1
_WATCH_SECONDS = 0.5


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def become_worker(parent: int) -> None:
    """To be called first in a worker: leaves SIGINT and SIGUSR1 to process `parent`, SIGTERM ends it as usual, and it
    dies with `parent`."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with(parent)


@contextmanager
def worker_pool(number: int, start: Callable[..., None], *arguments: Any) -> Iterator[ProcessPoolExecutor]:
    """A pool of `number` fresh processes, each of which calls `start(*arguments)` first. Where the block ends by an
    exception, an interrupt above all, what runs is not waited for: the workers are ended."""
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    pool = ProcessPoolExecutor(number, context, start, arguments)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in set(multiprocessing.active_children()) - before:
            worker.kill()  # by SIGKILL, as one that still starts may not have set its signals
        raise
    pool.shutdown()


def kill_children() -> None:
    """Ends the children that this process started through multiprocessing and has not seen end.

    At exit Python asks them with SIGTERM and waits; loader workers do not listen to it.
    """
    for child in multiprocessing.active_children():
        child.kill()


def die_with(parent: int) -> None:
    """Ends this process when the process `parent`, which started it, is no longer there.

    On Linux the kernel does it; everywhere a thread compares the parent's process id.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

"""What tests of every room share, and in which order several processes take them."""

import gc
import os
import signal
import sys
from collections.abc import Iterator

import pytest
from xdist.scheduler import LoadFileScheduling

# Threads of tests side by side wait for each other; before numpy is imported, and for all that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Until all tests are collected nothing is garbage, and looking for it takes a fifth of the time.
gc.disable()

# A shell ignores SIGINT for what it starts in the background, and children would inherit that; tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# They wait more than they compute, for jobs and for trainings that are killed: begun first, they leave the cores to
# the others meanwhile.
WAITING = ("slurm/test_cluster.py", "fit/test_faults.py", "fit/test_resume.py", "sweep/test_sweep_run.py")
# What their tests share for the whole session (trained models, a group of processes) is costly: one process has each.
TOGETHER = ("tests/door/", "tests/losses/")


class Scheduling(LoadFileScheduling):
    """A file at a time to whoever is free, in the order of the collection; some rooms as a whole."""

    def _split_scope(self, nodeid: str) -> str:
        return next((room for room in TOGETHER if nodeid.startswith(room)), super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling | None:
    """Ours, unless another --dist is asked for."""
    return Scheduling(config, log) if config.option.dist == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits comes first, then the rooms that stay together, then the rest as collected."""
    first = [*WAITING, *TOGETHER]
    items.sort(key=lambda item: next((i for i, part in enumerate(first) if part in item.nodeid), len(first)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """From here on garbage is collected, and looked for only among what tests make."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: models of tests are too small for more, and threads of tests side by side wait for each other."""
    torch = sys.modules.get("torch")  # most tests of scenes, sweeps and data_gen need none
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

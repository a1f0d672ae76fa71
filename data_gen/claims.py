"""Who may write into the folder of an unfinished dataset: one maker of everything, or several tasks.

DATASET/.claim              of the process that makes what is missing and finishes the dataset
DATASET/.claim-N-task-K     of task K of N, which makes every N-th shard

A maker of everything and tasks of different N would make the same shards and remove each other's unfinished files, so
they wait for one another. Everyone first shows a claim, then looks for others: of two, at least one sees the other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dualenc.files import Claim

CLAIM = ".claim"


@contextmanager
def claimed(folder: Path, *, task: int | None, num_tasks: int) -> Iterator[None]:
    """Waits until `folder` is ours: that of a maker of everything (task None), or of task `task` of `num_tasks`."""
    rank = 0 if task is None else num_tasks
    mine = folder / (CLAIM if task is None else f"{CLAIM}-{num_tasks}-task-{task}")
    while True:
        with Claim(mine):
            others = {path: _rank(path) for path in folder.glob(f"{CLAIM}*")}
            stronger = [path for path, other in others.items() if other < rank]
            if not stronger:
                for path, other in others.items():
                    if other > rank:
                        _wait_for(path)
                yield
                return
        for path in stronger:
            _wait_for(path)


def _rank(claim: Path) -> int:
    """Whoever has the lower rank goes first, the other steps back; equal ranks work side by side."""
    number = claim.name.removeprefix(f"{CLAIM}-").partition("-")[0]
    return int(number) if number.isdecimal() else 0


def _wait_for(claim: Path) -> None:
    with Claim(claim):
        pass

"""What a dataset will cost, before anything is written: bytes on disk and time, from a few samples drawn for it."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_gen.recipe import Recipe
from data_gen.shards import Shard, tar_size
from data_gen.tally import Tally
from dualenc.errors import InputError

_SAMPLES = 24  # of each split, drawn to measure
_SECONDS = 0.3  # of each split, at most about so long
_SPARE = 1.02  # indices, records, and samples larger than the measured ones


@dataclass(frozen=True)
class Estimate:
    """Of some shards: number of samples, bytes on disk, seconds of one process."""

    num_samples: int
    num_bytes: float
    seconds: float


class Estimator:
    """Extrapolates from the first samples of each split, which are drawn once."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._measured: dict[str, tuple[float, float]] = {}  # split -> mean bytes and seconds of a sample

    def of(self, shards: Sequence[Shard]) -> Estimate:
        """What these shards will cost."""
        num_samples, num_bytes, seconds = 0, 0.0, 0.0
        for shard in shards:
            if shard.split not in self._measured:
                self._measured[shard.split] = self._measure(shard)
            size, time_each = self._measured[shard.split]
            number = shard.stop - shard.start
            num_samples += number
            num_bytes += _SPARE * number * size
            seconds += number * time_each
        return Estimate(num_samples, num_bytes, seconds)

    def _measure(self, shard: Shard) -> tuple[float, float]:
        """One sample is drawn first, to warm up and to see how many can be."""
        _, seconds = self._draw(shard.split, shard.start, shard.start + 1)
        number = max(1, min(round(_SECONDS / max(seconds, 1e-9)), _SAMPLES))
        stop = min(shard.start + number, shard.stop)
        size, seconds = self._draw(shard.split, shard.start, stop)
        return size / (stop - shard.start), seconds / (stop - shard.start)

    def _draw(self, split: str, start: int, stop: int) -> tuple[int, float]:
        begin = time.perf_counter()
        size = sum(map(tar_size, self.recipe.samples(split, start, stop, Tally())))
        return size, time.perf_counter() - begin


def announce(cost: Estimate, num_processes: int) -> None:
    """Says on stderr what is about to be made."""
    rate = num_processes * cost.num_samples / max(cost.seconds, 1e-9)
    processes = "1 process" if num_processes == 1 else f"{num_processes} processes"
    amount = f"{cost.num_samples:,} samples, about {_size(cost.num_bytes)}"
    speed = f"{rate:,.0f} samples/s with {processes}, {_duration(cost.num_samples / rate)}"
    print(f"to make: {amount}, {speed}", file=sys.stderr)


def check_room(folder: Path, cost: Estimate, key: str) -> None:
    """InputError, naming `key`, where the disk that `folder` is or will be on cannot hold so much more."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    disk = os.statvfs(place)
    free = disk.f_bavail * disk.f_frsize
    if disk.f_blocks and cost.num_bytes > free:  # file systems without blocks do not say what they hold
        raise InputError(
            f"{key}: {cost.num_samples:,} samples need about {_size(cost.num_bytes)}, the disk of {place} has "
            f"{_size(free)} free; make room, choose another place or fewer samples"
        )


def _size(num_bytes: float) -> str:
    unit, divisor = ("GB", 1e9) if num_bytes >= 1e9 else ("MB", 1e6)
    return f"{num_bytes / divisor:,.1f} {unit}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

"""Shards: plain WebDataset tars with the same bytes for the same samples, an index beside each, a progress record.

DATASET/train/train-000000.tar        members KEY.jpg|png, KEY.txt, KEY.json and others of data_gen/members.py
DATASET/train/train-000000.idx.npy    int64 [num_samples, 8 or more]: (offset, size) of each member in the tar
DATASET/.progress/train-000000.json   while the dataset is being made: hash, size and tally of a finished shard
"""

import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_gen import config
from data_gen.config import DataConfig
from data_gen.members import MEMBERS, listed_columns
from data_gen.recipe import Recipe, Sample
from data_gen.tally import Tally
from dualenc.files import atomic_path, read_json, write_json

PROGRESS = ".progress"

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 250  # samples between two reports of progress


@dataclass(frozen=True)
class Shard:
    """Shard number `number` of a split: samples start..stop-1."""

    split: str
    number: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """File name without ending."""
        return f"{self.split}-{self.number:06d}"

    def tar(self, folder: Path) -> Path:
        """The tar file in the dataset `folder`."""
        return folder / self.split / f"{self.name}.tar"

    def index(self, folder: Path) -> Path:
        """The index beside the tar file."""
        return folder / self.split / f"{self.name}.idx.npy"

    def record(self, folder: Path) -> Path:
        """The progress record."""
        return folder / PROGRESS / f"{self.name}.json"


def plan(data: DataConfig) -> list[Shard]:
    """All shards of a dataset, in order."""
    size = data.samples_per_shard
    return [
        Shard(split, number, start, min(start + size, total))
        for split, total in config.num_samples(data).items()
        for number, start in enumerate(range(0, total, size))
    ]


def finished(folder: Path, shard: Shard) -> dict[str, Any] | None:
    """The progress record of a shard whose files are there and have the recorded sizes, else None."""
    try:
        record = read_json(shard.record(folder))
        sizes = [path.stat().st_size for path in (shard.tar(folder), shard.index(folder))]
    except (FileNotFoundError, ValueError):
        return None
    return record if sizes == [record["size"], record["index_size"]] else None


def write_shard(recipe: Recipe, folder: Path, shard: Shard, progress: Callable[[int], None]) -> None:
    """Makes one shard: tar, index, then the record that says both are whole. `progress` hears of samples made."""
    tally = Tally()
    tar, offsets = bytearray(), np.full((shard.stop - shard.start, 2 * len(MEMBERS)), -1, dtype=np.int64)
    row = 0
    for start in range(shard.start, shard.stop, _CHUNK):
        stop = min(start + _CHUNK, shard.stop)
        for sample in recipe.samples(shard.split, start, stop, tally):
            _append(tar, offsets[row], sample)
            row += 1
        progress(stop - start)
    tar += bytes(2 * _BLOCK)
    tar += bytes(-len(tar) % tarfile.RECORDSIZE)
    index = io.BytesIO()
    np.save(index, np.ascontiguousarray(listed_columns(offsets)), allow_pickle=False)
    for path, content in ((shard.tar(folder), bytes(tar)), (shard.index(folder), index.getvalue())):
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    record = {
        "sha256": hashlib.sha256(tar).hexdigest(),
        "size": len(tar),
        "index_size": len(index.getvalue()),
        "tally": tally.to_json(),
    }
    write_json(shard.record(folder), record, indent=None)


def tar_size(sample: Sample) -> int:
    """Bytes that a sample takes in a tar file."""
    contents = (content for _, _, content in sample.members() if content is not None)
    return sum(_BLOCK + len(content) + -len(content) % _BLOCK for content in contents)


def _append(tar: bytearray, offsets: np.ndarray, sample: Sample) -> None:
    for name, ending, content in sample.members():
        if content is not None:
            tar += _header(f"{sample.key}.{ending}", len(content))
            slot = 2 * MEMBERS.index(name)
            offsets[slot : slot + 2] = len(tar), len(content)
            tar += content
            tar += bytes(-len(content) % _BLOCK)


def _header(name: str, size: int) -> bytes:
    """The USTAR header of a plain file without owner and time: a function of name and size.

    The same bytes as `tarfile.TarInfo.tobuf(tarfile.USTAR_FORMAT)`, at a tenth of its time."""
    assert len(name) <= 100
    front, back = name.encode().ljust(100, b"\0") + _MODE_AND_OWNER + b"%011o\0" % size + _NO_TIME, _USTAR
    checksum = sum(front) + sum(back) + 8 * ord(" ")
    return front + b"%06o\0 " % checksum + back


_MODE_AND_OWNER = b"0000644\0" + 2 * b"0000000\0"
_NO_TIME = b"00000000000\0"
_USTAR = (b"0" + bytes(100) + b"ustar\x0000").ljust(_BLOCK - 156, b"\0")

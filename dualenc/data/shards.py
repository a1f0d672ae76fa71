"""Datasets on disk: dataset.json, WebDataset shards, their index, and the check that all of it is as it says.

A dataset is checked once, from the data itself (law 4), and the check leaves two things beside it in `.cache/`: a
stamp (size, time and SHA-256 of every shard) that makes later openings quick, and for each split a table of
everything but the pictures as plain arrays, so that training parses no JSON.
"""

import io
import os
import sys
import tarfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dualenc.data.checks import SampleChecker
from dualenc.data.table import Table, stack_rows
from dualenc.errors import InputError
from dualenc.files import Claim, atomic_path, read_json, sha256_file, write_json
from dualenc.scenes import SPLITS, ConceptSpace, Grammar, ObjectSplit, Tokenizer

FORMAT_VERSION = 1
TABLE_VERSION = 1
MEMBERS = ("image", "txt", "json", "neg.txt")
IMAGE_FORMATS = ("jpg", "png")

_OPEN_FILES = 64


@dataclass(frozen=True)
class Shard:
    """One tar file of a split."""

    path: Path
    num_samples: int
    sha256: str

    @property
    def index_path(self) -> Path:
        """The index beside it: int64 [num_samples, 8], offset and size of each of MEMBERS, -1 where absent."""
        return self.path.with_suffix(".idx.npy")


class Dataset:
    """A dataset folder, opened for reading. Raises InputError, one line, for whatever is wrong with it."""

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        self.meta = self._read_meta()
        self.space = ConceptSpace.from_dict(self.meta["concepts"])
        ids = {name: np.asarray(self.meta["objects"][name], dtype=np.int64) for name in ("train", "val_ood", "ood")}
        self.split = ObjectSplit(self.space, **ids, kind=self.meta["config"]["split"])
        self.grammar = Grammar(self.space)
        self.tokenizer = Tokenizer(self.meta["vocabulary"])
        self.shards = {
            name: [
                Shard(self.folder / name / shard["name"], shard["num_samples"], shard["sha256"])
                for shard in self.meta["splits"].get(name, {"shards": []})["shards"]
            ]
            for name in SPLITS
        }
        self._tables: dict[str, Table] = {}
        self._files: OrderedDict[Path, int] = OrderedDict()

    def _read_meta(self) -> dict[str, Any]:
        path = self.folder / "dataset.json"
        try:
            meta = read_json(path)
        except FileNotFoundError:
            raise InputError(
                f"data.path: {self.folder} holds no dataset.json; make a dataset with python -m data_gen"
            ) from None
        except (ValueError, NotADirectoryError):
            raise InputError(f"data.path: {path} is not valid JSON; make the dataset again") from None
        version = meta.get("format_version")
        if version != FORMAT_VERSION:
            raise InputError(
                f"data.path: {path} has format version {version}, this dualenc reads {FORMAT_VERSION}; "
                "update dualenc or make the dataset again"
            )
        return meta

    @property
    def hash(self) -> str:
        """The hash of the data config, as in dataset.json."""
        return self.meta["hash"]

    @property
    def image_size(self) -> int:
        """The side of the square pictures, in pixels."""
        return self.meta["config"]["picture"]["size"]

    @cached_property
    def max_objects(self) -> int:
        """The largest number of objects in a scene."""
        return max(int(count) for count in self.meta["config"]["objects"])

    @property
    def paired(self) -> bool:
        """Whether train scenes 2j and 2j + 1 may be swap partners."""
        return self.meta["config"]["collision_rate"] > 0

    def __len__(self) -> int:
        return sum(self.num_samples(name) for name in SPLITS)

    def num_samples(self, split: str) -> int:
        """Number of samples of a split."""
        return sum(shard.num_samples for shard in self.shards[split])

    def table(self, split: str) -> Table:
        """Everything but the pictures of a split, as arrays."""
        if split not in self._tables:
            self._tables[split] = Table.load(self._cache / f"{split}.npz")
        return self._tables[split]

    def image(self, split: str, i: int) -> np.ndarray:
        """uint8 [H, W, 3]: the picture of sample `i` of a split."""
        table = self.table(split)
        shard = self.shards[split][table.shard[i]]
        offset, size = table.image[i]
        return decode_image(os.pread(self._open(shard.path), size, offset))

    def images(self, split: str, indices: np.ndarray) -> np.ndarray:
        """uint8 [n, H, W, 3]: pictures of samples of a split."""
        return np.stack([self.image(split, i) for i in indices.tolist()])

    def _open(self, path: Path) -> int:
        """A file descriptor of a shard; the last few stay open."""
        if path not in self._files:
            if len(self._files) >= _OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
            self._files[path] = os.open(path, os.O_RDONLY)
        self._files.move_to_end(path)
        return self._files[path]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": OrderedDict()}

    # The check: once for a dataset, by one process.

    @property
    def _cache(self) -> Path:
        return self.folder / ".cache"

    def verify(self) -> None:
        """Checks the data against dataset.json and against itself unless it was checked as it is; builds the tables.

        InputError names the shard and the sample: a missing or damaged shard, a missing member, a word outside the
        vocabulary, a picture of another size, a false caption, a true edit, a held-out object in `train`.
        """
        stamp = self._stamp()
        if self._stamped(stamp):
            return
        try:
            self._cache.mkdir(exist_ok=True)
            writable = os.access(self._cache, os.W_OK)
        except OSError:
            writable = False
        if not writable:
            print(f"note: {self.folder} is read-only; its check is repeated by every process", file=sys.stderr)
            self._tables = {split: self._check_split(split) for split in SPLITS}
            return
        with Claim(self._cache / "claim"):
            if self._stamped(stamp):
                return
            for split in SPLITS:
                self._check_split(split).save(self._cache / f"{split}.npz")
            write_json(self._cache / "stamp.json", stamp)

    def _stamp(self) -> dict[str, Any]:
        files = {}
        for shard in self._all_shards():
            try:
                status = shard.path.stat()
            except FileNotFoundError:
                raise InputError(f"data.path: shard {shard.path} is missing; make the dataset again") from None
            files[f"{shard.path.parent.name}/{shard.path.name}"] = [status.st_size, status.st_mtime_ns, shard.sha256]
        return {"table_version": TABLE_VERSION, "dataset": self.hash, "shards": files}

    def _stamped(self, stamp: dict[str, Any]) -> bool:
        path = self._cache / "stamp.json"
        return path.exists() and read_json(path) == stamp

    def _all_shards(self) -> Iterator[Shard]:
        for split in SPLITS:
            yield from self.shards[split]

    def _check_split(self, split: str) -> Table:
        checker = SampleChecker(self.grammar, self.split, self.tokenizer, self.image_size, split)
        rows: list[dict[str, Any]] = []
        for number, shard in enumerate(self.shards[split]):
            try:
                rows.extend(self._check_shard(shard, number, checker))
            except tarfile.TarError as error:
                raise InputError(
                    f"data.path: shard {shard.path} is damaged ({error}); make the dataset again"
                ) from None
            if sha256_file(shard.path) != shard.sha256:
                raise InputError(
                    f"data.path: shard {shard.path} is not the one of dataset.json (its SHA-256 differs); "
                    "make the dataset again"
                )
        table = stack_rows(rows, self.space, self.max_objects)
        checker.check_table(table, [shard.path for shard in self.shards[split]])
        return table

    def _check_shard(self, shard: Shard, number: int, checker: SampleChecker) -> list[dict[str, Any]]:
        data = shard.path.read_bytes()
        keys, index = read_index(data)
        if len(keys) != shard.num_samples:
            raise InputError(
                f"data.path: shard {shard.path} holds {len(keys)} samples, dataset.json says {shard.num_samples}; "
                "make the dataset again"
            )
        self._refresh_index(shard, index)
        rows = []
        for key, entry in zip(keys, index.reshape(len(keys), len(MEMBERS), 2)):
            members = {}
            for name, (offset, size) in zip(MEMBERS, entry.tolist()):
                if offset < 0 and name != "neg.txt":
                    raise InputError(f"data.path: sample {key} of {shard.path} has no {name}; make the dataset again")
                members[name] = data[offset : offset + size] if offset >= 0 else b""
            try:
                row = checker.row(members)
            except InputError as error:
                raise InputError(f"data.path: sample {key} of {shard.path}: {error}") from None
            rows.append({**row, "shard": number, "image": entry[0]})
        return rows

    def _refresh_index(self, shard: Shard, index: np.ndarray) -> None:
        """Writes the index beside the shard where it is missing or stale."""
        try:
            if np.array_equal(np.load(shard.index_path, allow_pickle=False), index):
                return
        except (OSError, ValueError):
            pass
        if os.access(shard.path.parent, os.W_OK):
            with atomic_path(shard.index_path) as temporary, open(temporary, "wb") as file:
                np.save(file, index, allow_pickle=False)


def read_index(tar: bytes) -> tuple[list[str], np.ndarray]:
    """Sample keys and int64 [num_samples, 8] offsets and sizes of MEMBERS in the bytes of a tar file."""
    samples: dict[str, np.ndarray] = {}
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
        for member in archive:
            key, _, extension = member.name.partition(".")
            name = "image" if extension in IMAGE_FORMATS else extension
            if member.isfile() and name in MEMBERS:
                entry = samples.setdefault(key, np.full((len(MEMBERS), 2), -1, dtype=np.int64))
                entry[MEMBERS.index(name)] = member.offset_data, member.size
        if archive.offset and archive.offset > len(tar):
            raise tarfile.ReadError("unexpected end of data")
    index = np.array(list(samples.values()), dtype=np.int64).reshape(len(samples), 2 * len(MEMBERS))
    return list(samples), index


def decode_image(data: bytes) -> np.ndarray:
    """uint8 [H, W, 3] of the bytes of a JPEG or PNG."""
    import simplejpeg

    if data[:2] == b"\xff\xd8":
        return simplejpeg.decode_jpeg(data)
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data), formats=("PNG",)).convert("RGB"))

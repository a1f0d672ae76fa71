"""Datasets on disk: dataset.json, WebDataset shards, their index, and the check that all of it is as it says.

A dataset is checked once, from the data itself (law 4), and the check leaves two things beside it in `.cache/`: a
stamp (size, time and SHA-256 of every shard) that makes later openings quick, and for each split a table of
everything but the pictures as plain arrays, so that training parses no JSON.
"""

import contextlib
import hashlib
import io
import os
import sys
import tarfile
from collections import OrderedDict
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from dualenc.configs import short_hash
from dualenc.data.checks import SampleChecker
from dualenc.data.queries import TextQueries, max_rows
from dualenc.data.table import Table, TableWidths, concatenate, stack_rows
from dualenc.errors import InputError
from dualenc.files import Claim, atomic_path, read_json, sha256_file, write_json
from dualenc.processes import become_worker, num_cores
from dualenc.scenes import (
    MAX_OBJECTS_OF_SCENE,
    OPERATORS,
    SPLITS,
    ConceptSpace,
    Grammar,
    Language,
    ObjectSplit,
    Scenes,
    Tokenizer,
)

FORMAT_VERSION = 1
TABLE_VERSION = 3
DESCRIPTION = "dataset.json"
MEMBERS = ("image", "txt", "json", "neg.txt", "opposite.image", "opposite.txt", "mask.png")
REQUIRED = ("image", "txt", "json")
IMAGE_FORMATS = ("jpg", "png")
HASHED = ("config", "format_version", "generator_version", "device", "versions")

_ALWAYS_LISTED = 4  # of MEMBERS, in an index
_OPEN_FILES = 64
_BLOCK = 512  # of a tar file


@dataclass(frozen=True)
class Shard:
    """One tar file of a split."""

    path: Path
    num_samples: int
    sha256: str

    @property
    def index_path(self) -> Path:
        """The index beside it: int64 [num_samples, 8 or more], offset and size of each of MEMBERS, -1 where absent; the
        first four, then those up to the last one that some sample has."""
        return self.path.with_suffix(".idx.npy")


class Dataset:
    """A dataset folder, opened for reading. Raises InputError, one line, for whatever is wrong with it.

    hash: of the data config; image_size: side of the square pictures, in pixels; max_objects: most in a scene;
    paired: whether train scenes 2j and 2j + 1 may be swap partners. All as in dataset.json, which is `meta`.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        self.path = self.folder / DESCRIPTION
        self.meta = self._read_meta()
        try:
            self._describe(self.meta)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"data.path: {self.path} is damaged ({type(error).__name__}: {error}); make the dataset again"
            ) from None
        self._tables: dict[str, Table] = {}
        self._files: OrderedDict[Path, int] = OrderedDict()

    def _read_meta(self) -> dict[str, Any]:
        try:
            meta = read_json(self.path)
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"data.path: {self.folder} holds no {DESCRIPTION}; make a dataset with python -m data_gen"
            ) from None
        except ValueError:
            raise InputError(f"data.path: {self.path} is not valid JSON; make the dataset again") from None
        version = meta.get("format_version") if isinstance(meta, dict) else None
        if version != FORMAT_VERSION:
            raise InputError(
                f"data.path: {self.path} has format version {version}, this dualenc reads {FORMAT_VERSION}; "
                "update dualenc or make the dataset again"
            )
        return meta

    def _describe(self, meta: dict[str, Any]) -> None:
        self.space = ConceptSpace.from_dict(meta["concepts"])
        ids = {name: np.asarray(meta["objects"][name], dtype=np.int64) for name in ("train", "val_ood", "ood")}
        listed = np.sort(np.concatenate(list(ids.values())))
        if len(listed) != self.space.num_objects or np.any(listed != np.arange(len(listed))):
            raise ValueError("train, val_ood and ood do not divide the objects among them")
        self.split = ObjectSplit(self.space, **ids, kind=meta["split_kind"])
        self.grammar = Grammar(self.space, Language.from_dict(meta["language"]) if "language" in meta else None)
        self.tokenizer = Tokenizer(meta["vocabulary"])
        self.shards = {
            name: [
                Shard(self._inside(shard["path"]), _count(shard["num_samples"]), shard["sha256"])
                for shard in meta["splits"].get(name, {"shards": []})["shards"]
            ]
            for name in SPLITS
        }
        self.hash, self.image_size = meta["hash"], _count(meta["picture"]["size"])
        self.max_objects = _count(meta["max_objects"], most=MAX_OBJECTS_OF_SCENE)
        config = meta["config"]
        self.paired = config["collision_rate"] > 0
        self.relation_margin = config.get("relation_margin", 0.0)
        for number in (config["coverage"], config["seed"], config["val_fraction"], self.relation_margin):
            if not isinstance(number, int | float):
                raise TypeError(f"{number!r} in its config is no number")
        for number in (config["picture"]["size"], *(config["edits"][operator] for operator in OPERATORS)):
            _count(number)
        found = short_hash({key: meta[key] for key in HASHED})
        if found != self.hash:
            raise ValueError(f"its hash is {self.hash!r}, but its config and versions have {found}")

    def _inside(self, path: str) -> Path:
        """The path of a file of the dataset; a path that leads out of its folder is refused."""
        relative = PurePosixPath(path)
        if relative.is_absolute() or ".." in relative.parts:
            raise ValueError(f"the shard {path!r} lies outside the dataset's folder")
        return self.folder / relative

    def __len__(self) -> int:
        return sum(self.num_samples(name) for name in SPLITS)

    def num_samples(self, split: str) -> int:
        """Number of samples of a split."""
        return sum(shard.num_samples for shard in self.shards[split])

    def table(self, split: str) -> Table:
        """Everything but the pictures of a split, as arrays, which `verify` has made once."""
        if split not in self._tables:
            self._tables[split] = Table.load(self._cache / f"{split}.npz")
        return self._tables[split]

    def image(self, split: str, i: int) -> np.ndarray:
        """uint8 [H, W, 3]: the picture of sample `i` of a split."""
        table = self.table(split)
        return self._picture(split, table.shard[i], table.image[i].tolist())

    def opposite_image(self, split: str, i: int) -> np.ndarray:
        """uint8 [H, W, 3]: the opposite picture of sample `i` of a split, which has one."""
        table = self.table(split)
        return self._picture(split, table.shard[i], table.opposite_image[i].tolist())

    def _picture(self, split: str, shard: int, extent: list[int], out: np.ndarray | None = None) -> np.ndarray:
        offset, size = extent
        return decode_image(os.pread(self._open(self.shards[split][shard].path), size, offset), out)

    def images(self, split: str, indices: np.ndarray) -> np.ndarray:
        """uint8 [n, H, W, 3]: pictures of samples of a split."""
        table = self.table(split)
        pictures = np.empty((len(indices), self.image_size, self.image_size, 3), dtype=np.uint8)
        places = zip(table.shard[indices].tolist(), table.image[indices].tolist())
        for picture, (shard, extent) in zip(pictures, places):
            self._picture(split, shard, extent, picture)  # in place: to stack them costs about as much as to decode
        return pictures

    def scenes(self, split: str, rows: np.ndarray) -> Scenes:
        """The scenes of samples of a split."""
        return self.table(split).scenes(self.space, rows, relation_margin=self.relation_margin)

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
        if self._read_checked(stamp):
            for shard in self._all_shards():
                if not shard.index_path.exists():
                    self._refresh_index(shard, read_index(shard.path.read_bytes())[1])
            return
        is_first = not self._cache.exists()
        try:
            self._cache.mkdir(exist_ok=True)
            writable = os.access(self._cache, os.W_OK)
        except OSError:
            writable = False
        if not writable:
            print(f"note: {self.folder} is read-only; its check is repeated by every process", file=sys.stderr)
            self._tables = {split: self._check_split(split) for split in SPLITS}
            return
        try:
            with Claim(self._cache / "claim"):
                if not self._read_checked(stamp):
                    self._tables = {split: self._check_split(split) for split in SPLITS}
                    for split, table in self._tables.items():
                        table.save(self._cache / f"{split}.npz")
                    write_json(self._cache / "stamp.json", stamp)
        finally:
            if is_first:
                with contextlib.suppress(OSError):  # it holds the tables, or another process waits in it
                    self._cache.rmdir()

    def _stamp(self) -> dict[str, Any]:
        files = {}
        for shard in self._all_shards():
            try:
                status = shard.path.stat()
            except FileNotFoundError:
                raise InputError(f"data.path: shard {shard.path} is missing; make the dataset again") from None
            files[f"{shard.path.parent.name}/{shard.path.name}"] = [status.st_size, status.st_mtime_ns, shard.sha256]
        return {"table_version": TABLE_VERSION, DESCRIPTION: sha256_file(self.path), "shards": files}

    def _read_checked(self, stamp: dict[str, Any]) -> bool:
        """Reads the tables of an earlier check; False where there was none, or where what it left is damaged."""
        try:
            if read_json(self._cache / "stamp.json") != stamp:
                return False
            self._tables = {split: Table.load(self._cache / f"{split}.npz") for split in SPLITS}
        except (OSError, ValueError):
            return False
        return True

    def _all_shards(self) -> Iterator[Shard]:
        for split in SPLITS:
            yield from self.shards[split]

    def _check_split(self, split: str) -> Table:
        """The table of a split whose shards were checked by a pool of processes, one shard at a time."""
        checker = SampleChecker(self.grammar, self.split, self.tokenizer, self.image_size, split, self.relation_margin)
        empty = stack_rows([], self._widths)
        check = partial(self._check_shard, checker)
        with (
            get_context("fork").Pool(num_cores(), become_worker, (os.getpid(),)) as pool,
            closing(_track(split, len(self.shards[split]))) as bar,
        ):
            tables = [empty]
            for table in pool.imap(check, enumerate(self.shards[split])):
                tables.append(table)
                bar.send(1)
        return concatenate(tables)

    @property
    def _widths(self) -> TableWidths:
        config, captions = self.meta["config"], self.meta["config"]["captions"]
        return TableWidths(
            max_objects=self.max_objects,
            num_concepts=self.space.num_concepts,
            num_rows=max_rows(self.grammar.language, self.max_objects),
            num_edits=sum(config["edits"].values()),
            num_further=captions.get("num", 1) - 1,
            num_positives=captions.get("positives", 0),
            length=TextQueries(self.space, self.tokenizer, self.max_objects).max_length,
        )

    def _check_shard(self, checker: SampleChecker, numbered: tuple[int, Shard]) -> Table:
        number, shard = numbered
        data = shard.path.read_bytes()
        try:
            keys, index = read_index(data)
            table = stack_rows(self._rows(shard, number, data, keys, index, checker), self._widths)
            checker.check_table(table)
        except (tarfile.TarError, InputError) as error:
            raise InputError(f"data.path: shard {shard.path}: {error}; make the dataset again") from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # any byte may be wrong
            raise InputError(
                f"data.path: shard {shard.path} is damaged ({type(error).__name__}: {error}); make the dataset again"
            ) from None
        if len(keys) != shard.num_samples:
            raise InputError(
                f"data.path: shard {shard.path} holds {len(keys)} samples, dataset.json says {shard.num_samples}; "
                "make the dataset again"
            )
        if hashlib.sha256(data).hexdigest() != shard.sha256:
            raise InputError(
                f"data.path: shard {shard.path} is not the one of dataset.json (its SHA-256 differs); "
                "make the dataset again"
            )
        self._refresh_index(shard, index)
        return table

    def _rows(
        self, shard: Shard, number: int, data: bytes, keys: list[str], index: np.ndarray, checker: SampleChecker
    ) -> list[dict[str, Any]]:
        rows = []
        absent = [-1] * (2 * len(MEMBERS) - index.shape[1])
        for key, listed in zip(keys, index.tolist()):
            entry = np.array([*listed, *absent]).reshape(len(MEMBERS), 2)
            members = {}
            for name, (offset, size) in zip(MEMBERS, entry.tolist()):
                if offset < 0 and name in REQUIRED:
                    raise InputError(f"sample {key} has no {name}")
                members[name] = data[offset : offset + size] if offset >= 0 else b""
            try:
                place = {"shard": number, "image": entry[0], "opposite_image": entry[MEMBERS.index("opposite.image")]}
                rows.append({**checker.row(members), **place})
            except InputError as error:
                raise InputError(f"sample {key}: {error}") from None
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


def _count(number: object, most: int = 2**31) -> int:
    if not isinstance(number, int) or not 0 <= number <= most:
        raise TypeError(f"{number!r} is no count from 0 to {most}")
    return number


def _track(split: str, total: int) -> Generator[None, int, None]:
    """A progress bar on a terminal, silent elsewhere: `send(n)` advances it, `close()` ends it."""

    def advance() -> Generator[None, int, None]:
        with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
            task = progress.add_task(f"checking {split}", total=total)
            while True:
                progress.advance(task, (yield))

    bar = advance()
    next(bar)
    return bar


def read_index(tar: bytes) -> tuple[list[str], np.ndarray]:
    """Sample keys, and offsets and sizes as an index lists them, in the bytes of a plain ustar file.

    Headers are read directly: `tarfile` makes an object of each and takes longer than everything else together.
    """
    samples: dict[str, np.ndarray] = {}
    position = 0
    while tar[position : position + 1] not in (b"\0", b""):
        header = tar[position : position + _BLOCK]
        if header[257:262] != b"ustar" or header[156:157] not in (b"0", b"\0"):
            raise tarfile.ReadError(f"no plain file at byte {position}")
        key, _, extension = header[:100].partition(b"\0")[0].decode().partition(".")
        name, size = _member(extension), int(header[124:135], 8)
        if name in MEMBERS:
            entry = samples.setdefault(key, np.full((len(MEMBERS), 2), -1, dtype=np.int64))
            entry[MEMBERS.index(name)] = position + _BLOCK, size
        position += _BLOCK + -(-size // _BLOCK) * _BLOCK
    if tar[position : position + 2 * _BLOCK] != bytes(2 * _BLOCK):
        raise tarfile.ReadError("unexpected end of data")
    index = np.array(list(samples.values()), dtype=np.int64).reshape(len(samples), 2 * len(MEMBERS))
    used = np.flatnonzero(np.any(index[:, ::2] >= 0, axis=0))
    return list(samples), np.ascontiguousarray(index[:, : 2 * max(_ALWAYS_LISTED, used[-1] + 1 if len(used) else 0)])


def _member(extension: str) -> str:
    """The name in MEMBERS of the files KEY.extension."""
    front, _, last = extension.rpartition(".")
    if last in IMAGE_FORMATS and front in ("", "opposite"):
        return ".".join(filter(None, [front, "image"]))
    return extension


def decode_image(data: bytes, out: np.ndarray | None = None) -> np.ndarray:
    """uint8 [H, W, 3] of the bytes of a JPEG or PNG; in `out`, of that shape, where it is given."""
    import simplejpeg

    if data[:2] == b"\xff\xd8":
        return simplejpeg.decode_jpeg(data, buffer=out)
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(data), formats=("PNG",)).convert("RGB"))
    if out is None:
        return pixels
    out[...] = pixels
    return out

"""How fast one worker turns shards into training batches, beside what decoding alone takes and beside webdataset.

    python benchmarks/loader.py [--quick] [--json PATH]

On shards of CLEVR's concepts, made first: `bare` preads and decodes every JPEG once, in the order of training, and
drops the picture; `pictures` is the dataset reader, `batches` all that a training step is given (captions and queries
as tokens, edits, which is true of which); `webdataset` is that library's pipeline (shuffle, decode, to_tuple, batched),
which yields pictures and captions, with its own JPEG decoder and, `_simplejpeg`, with ours. One thread, batches of 256,
files in the page cache. Samples/s are per second of CPU time, so that other work on the machine disturbs little;
`worker` is the time of a loader's worker process, which also hands batches over through shared memory. Ratios are
medians over rounds of the ratio within a round, works alternating. Names that end in _ratio are ratios.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch

import resource
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import simplejpeg
import torch
import webdataset
from common import alternated, options, report, speed_ratio

from data_gen.config import load_config
from data_gen.make import make_dataset
from dualenc.data.datamodule import SceneDataModule
from dualenc.data.shards import Dataset
from dualenc.data.sources import QuerySettings, ShardSource

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "data" / "clevr.yaml"
BATCH = 256
SIZES = (64, 128)
FAST = webdataset.handle_extension("jpg", simplejpeg.decode_jpeg)
WORKS = (
    *("bare", "pictures", "batches", "batches_without_pictures", "worker"),
    *("webdataset", "webdataset_simplejpeg", "webdataset_worker"),
)
RATIOS = {
    ("pictures", "bare"): 0.8,
    ("batches", "bare"): 0.8,
    ("worker", "bare"): 0.8,
    ("batches", "webdataset"): 1.0,
    ("batches", "webdataset_simplejpeg"): 1.0,
    ("worker", "webdataset_worker"): 1.0,
}


def make(folder: str, size: int, number: int) -> Dataset:
    """Shards of `number` train samples, and hardly any of the other splits."""
    splits = f"{{train: {number}, val: 10, val_ood: 10, ood: 10, mixed: 10}}"
    overrides = {"out": folder, "picture.size": size, "num_samples": splits, "samples_per_shard": 512, "opposites": {}}
    dataset = Dataset(make_dataset(load_config(CONFIG, [f"data.{key}={value}" for key, value in overrides.items()])))
    dataset.verify()
    return dataset


class Readers:
    """Everything that is compared, on `number` train samples of one dataset, a multiple of the batch."""

    def __init__(self, dataset: Dataset, number: int) -> None:
        self.dataset, self.number = dataset, number
        mix = QuerySettings(seed=0, captions=0.5, objects=0.35, concepts=0.15, edits=("swap",), edits_per_scene=1)
        self.source = ShardSource(dataset, query_tower="text", scene_tower="vision", settings=mix)
        self.blind = ShardSource(dataset, query_tower="text", scene_tower="symbolic", settings=mix)
        self.shards = [str(shard.path) for shard in dataset.shards["train"]]

    def bare(self) -> None:
        """The bound: nothing but pread and decoding."""
        table, rows = self.dataset.table("train"), self.source.order(0, self.number)
        files = [os.open(path, os.O_RDONLY) for path in self.shards]
        for shard, (offset, size) in zip(table.shard[rows].tolist(), table.image[rows].tolist()):
            simplejpeg.decode_jpeg(os.pread(files[shard], size, offset))
        for file in files:
            os.close(file)

    def pictures(self) -> None:
        """The dataset reader."""
        for start in range(0, self.number, BATCH):
            self.dataset.images("train", self.source.order(start, start + BATCH))

    def batches(self) -> None:
        """What training asks for."""
        for start in range(0, self.number, BATCH):
            self.source.train_batch(start, batch_size=BATCH, rank=0, world=1)

    def batches_without_pictures(self) -> None:
        """The same with scenes as tokens."""
        for start in range(0, self.number, BATCH):
            self.blind.train_batch(start, batch_size=BATCH, rank=0, world=1)

    def worker(self) -> None:
        """The same batches, by a worker process of training's own loader."""
        module = SceneDataModule(self.source, batch_size=BATCH, max_samples=self.number, num_workers=1)
        module.trainer = SimpleNamespace(global_rank=0, world_size=1)  # type: ignore[assignment]
        self._count(len(batch.scenes) for batch in module.train_dataloader())

    def pipeline(self, decoder: Any) -> Any:
        """webdataset's way to batches of pictures and captions, spared the members that it would not use."""
        samples = webdataset.WebDataset(
            self.shards, shardshuffle=100, seed=0, select_files=lambda name: name.endswith((".jpg", ".txt"))
        )
        return samples.shuffle(1000).decode(decoder).to_tuple("jpg", "txt").batched(BATCH)

    def webdataset(self) -> None:
        """webdataset as its documentation has it."""
        self._count(len(texts) for _, texts in self.pipeline("rgb8"))

    def webdataset_simplejpeg(self) -> None:
        """webdataset with our JPEG decoder."""
        self._count(len(texts) for _, texts in self.pipeline(FAST))

    def webdataset_worker(self) -> None:
        """The latter, by a worker process of webdataset's loader."""
        loader = webdataset.WebLoader(
            self.pipeline(FAST), batch_size=None, num_workers=1, multiprocessing_context="fork"
        )
        self._count(len(texts) for _, texts in loader)

    def _count(self, sizes: Iterable[int]) -> None:
        assert sum(sizes) == self.number


def seconds_of_children() -> float:
    """CPU seconds of the processes that this one has started and seen end."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(size: int, number: int, rounds: int) -> dict[str, float]:
    """Samples/s of everything at one picture size, and their ratios."""
    with tempfile.TemporaryDirectory() as folder:
        readers = Readers(make(folder, size, number), number)
        works = {name: getattr(readers, name) for name in WORKS}
        clocks = dict.fromkeys(("worker", "webdataset_worker"), seconds_of_children)
        seconds = alternated(works, rounds, clocks)
    found = {f"{size}px/{name}_samples_per_s": number / statistics.median(times) for name, times in seconds.items()}
    for pair in RATIOS:
        found[f"{size}px/{pair[0]}_of_{pair[1]}_ratio"] = speed_ratio(seconds, *pair)
    return found


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    chosen = options(__doc__)
    torch.set_num_threads(1)
    number, rounds = (1536, 5) if chosen.quick else (4096, 11)
    found: dict[str, float] = {}
    for size in SIZES:
        found |= measure(size, number, rounds)
    at_least = {f"{size}px/{a}_of_{b}_ratio": aim for size in SIZES for (a, b), aim in RATIOS.items()}
    report(found, chosen.json, at_least=at_least)


if __name__ == "__main__":
    main()

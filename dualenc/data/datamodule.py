"""Batches for Lightning: one endless pass whose position is one integer."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from dualenc.data.batches import TrainBatch
from dualenc.data.sources import Source
from dualenc.processes import become_worker


class TrainBatches(Dataset):
    """A map from a position to this process's share of the batch that starts there."""

    def __init__(self, source: Source, *, batch_size: int, rank: int, world: int) -> None:
        self.source, self.batch_size, self.rank, self.world = source, batch_size, rank, world

    def __getitem__(self, position: int) -> TrainBatch:
        return self.source.train_batch(position, batch_size=self.batch_size, rank=self.rank, world=self.world)


class Positions(Sampler[int]):
    """start, start + batch_size, ... below stop."""

    def __init__(self, start: int, stop: int, batch_size: int) -> None:
        self.positions = range(start, stop, batch_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions)


class SceneDataModule(pl.LightningDataModule):
    """Training batches from `position` on; the position is the only state of the data."""

    def __init__(self, source: Source, *, batch_size: int, max_samples: int, num_workers: int) -> None:
        super().__init__()
        self.source, self.batch_size, self.max_samples = source, batch_size, max_samples
        self.num_workers = num_workers
        self.position = 0

    def train_dataloader(self) -> DataLoader:
        """Whole batches, made in worker processes that leave signals to the main process."""
        trainer = self.trainer
        assert trainer is not None
        batches = TrainBatches(
            self.source, batch_size=self.batch_size, rank=trainer.global_rank, world=trainer.world_size
        )
        return DataLoader(
            batches,
            batch_size=None,
            sampler=Positions(self.position, self.max_samples, self.batch_size),
            num_workers=self.num_workers,
            worker_init_fn=partial(_start_worker, os.getpid()),
            multiprocessing_context="fork" if self.num_workers else None,
            pin_memory=torch.cuda.is_available(),
            prefetch_factor=4 if self.num_workers else None,
        )

    def state_dict(self) -> dict[str, Any]:
        """The position, in samples."""
        return {"position": self.position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues at the stored position."""
        self.position = state_dict["position"]


def _start_worker(parent: int, _: int) -> None:
    become_worker(parent)
    # A launcher that ends a job sends SIGTERM to everyone; batches must come until the main process has left.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)

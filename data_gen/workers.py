"""Worker processes that write shards and never outlive the process that started them.

A worker gets one shard at a time through a pipe of its own. On Linux the kernel kills it when its parent dies; on every
system a watchdog thread compares the parent's process id, and the temporary names of files are unique, so a worker that
lives a moment longer can only finish a file that is right.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Generator, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path

from data_gen.config import DataConfig
from data_gen.recipe import Recipe
from data_gen.shards import Shard, write_shard
from dualenc.errors import InputError, one_line
from dualenc.processes import become_worker


def write_shards(
    data: DataConfig, folder: Path, shards: Sequence[Shard], num_workers: int
) -> Generator[int, None, None]:
    """Writes shards in `num_workers` processes and yields numbers of samples as they are made.

    Raises InputError with the first worker's reason (disk full, no permission); leaves no process behind, however
    it is left.
    """
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(shards))
    processes = []
    pipes: dict[Connection, multiprocessing.process.BaseProcess] = {}
    try:
        for _ in range(min(num_workers, len(shards))):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, os.getpid(), data, folder), daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            pipes[ours] = process
        while pipes:
            for pipe in wait(list(pipes)):
                assert isinstance(pipe, Connection)
                yield from _hear(pipe, pipes, waiting)
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def _hear(
    pipe: Connection, pipes: dict[Connection, multiprocessing.process.BaseProcess], waiting: list[Shard]
) -> Iterator[int]:
    """Takes one message of a worker: a number of samples made, "ready" for the next shard, or why it failed."""
    try:
        message = pipe.recv()
    except EOFError:
        process = pipes[pipe]
        process.join()
        raise InputError(
            f"data.num_workers: a worker ended with exit code {process.exitcode} (out of memory?); "
            "use fewer workers and run the same command to continue"
        ) from None
    if message == "ready":
        if waiting:
            pipe.send(waiting.pop())
        else:
            del pipes[pipe]
            pipe.close()
    elif isinstance(message, int):
        yield message
    else:
        raise InputError(message)


def _work(pipe: Connection, parent: int, data: DataConfig, folder: Path) -> None:
    """The life of a worker: ask for a shard, write it, until the pipe is closed."""
    become_worker(parent)  # Ctrl-C reaches the whole group; the parent decides
    recipe = Recipe(data)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            pipe.send("ready")
            shard = pipe.recv()
            try:
                write_shard(recipe, folder, shard, pipe.send)
            except (OSError, InputError) as error:
                pipe.send(f"{shard.tar(folder)}: {one_line(error)}")
                return

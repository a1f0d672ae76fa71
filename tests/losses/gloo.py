"""What tests of losses share: real gloo processes, the tolerances of exactness, and the usual mistake made on purpose.

    def mine(group, case): ...  # runs on every rank of a group; stands at the top level of the test module


    def test_it(workers):  # the fixture of conftest.py
        results = workers.run(mine, "case", world=2)  # what it returned, rank by rank

Processes start once and stay for the session: four imports of torch would cost more than all the tests.
"""

import contextlib
import multiprocessing
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from dualenc.losses import collectives

__all__ = ["DTYPES", "WORLD_SIZES", "DistributedDataParallel", "Workers", "broken_backward", "check"]

WORLD_SIZES = (1, 2, 4)
DTYPES = (torch.float64, torch.float32)
SECONDS = 120
"""For the processes to start, and for one run. Far more than needed: it ends a hang, it does not measure speed."""
GRACE_SECONDS = 5
"""How long the other ranks may take to fail too, so that the message shows all of them."""


class Workers:
    """Four processes with groups of the first 1, 2 and 4 ranks. Started by the first run, and anew after a failure."""

    def __init__(self) -> None:
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []

    def run(self, function: Callable[..., Any], *args: Any, world: int = max(WORLD_SIZES)) -> list[Any]:
        """``function(group, *args)`` on ``world`` ranks; their results in rank order.

        The function travels by name and must be at the top level of an importable module; arguments and results are
        pickled. Raises AssertionError with the tracebacks of the ranks that failed.
        """
        if not self._processes:
            self._start()
        # Pickled here, not by the pipe, which would know torch's shared memory and not the paths of our modules.
        task = pickle.dumps((sys.path, pickle.dumps((function, args)), world))
        for pipe in self._pipes[:world]:
            pipe.send_bytes(task)
        answers = self._answers(self._pipes[:world])
        failures = [f"rank {rank}: {text}" for rank, (text, _) in sorted(answers.items()) if text]
        if failures or len(answers) < world:
            self.close()  # a rank may still wait for a collective that the others never reach
            missing = sorted(set(range(world)) - answers.keys())
            raise AssertionError("\n".join([*failures, f"ranks that did not answer: {missing}"]))
        return [answers[rank][1] for rank in range(world)]

    def close(self) -> None:
        """Ends the processes."""
        for process in self._processes:
            process.kill()
            process.join()
        for pipe in self._pipes:
            pipe.close()
        self._processes, self._pipes = [], []

    def _start(self) -> None:
        # One process imports what takes seconds (DDP needs torch._dynamo), and the others are forks of it.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch._dynamo", "dualenc.losses"])
        self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        for rank in range(max(WORLD_SIZES)):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, self._store.port, theirs))
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)

    def _answers(self, pipes: list[Connection]) -> dict[int, tuple[str, Any]]:
        """Every rank's error (or "") and result, as far as they come in time."""
        answers: dict[int, tuple[str, Any]] = {}
        deadline = time.monotonic() + SECONDS
        while len(answers) < len(pipes):
            waiting = [pipe for rank, pipe in enumerate(pipes) if rank not in answers]
            ready = wait(waiting, timeout=max(0.0, deadline - time.monotonic()))
            if not ready:
                return answers
            for pipe in ready:
                answers[pipes.index(pipe)] = answer = _received(pipe)
                if answer[0]:
                    deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
        return answers


def _received(pipe: Connection) -> tuple[str, Any]:
    try:
        return pickle.loads(pipe.recv_bytes())
    except EOFError:
        return "the process died", None


def _serve(rank: int, port: int, pipe: Connection) -> None:
    """A worker: does tasks until the other end of the pipe is closed."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    timeout = timedelta(seconds=SECONDS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=max(WORLD_SIZES), timeout=timeout)
    groups = {world: dist.new_group(list(range(world)), timeout=timeout) for world in WORLD_SIZES[:-1]}
    with contextlib.suppress(EOFError):
        while True:
            path, task, world = pickle.loads(pipe.recv_bytes())
            try:
                sys.path[:] = path
                function, args = pickle.loads(task)
                answer = "", function(groups.get(world), *args)
            except Exception:
                answer = traceback.format_exc(), None
            pipe.send_bytes(pickle.dumps(answer))


def check(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Exactness: of float64 element by element, of float32 by norm and by largest element."""
    assert actual.keys() == expected.keys()
    for name, wanted in expected.items():
        got = actual[name]
        assert got.dtype == wanted.dtype, name
        if wanted.dtype == torch.float64:
            torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12, msg=lambda text: f"{name}: {text}")  # noqa: B023
        else:
            assert (got - wanted).norm() <= 1e-5 * wanted.norm(), name
            assert (got - wanted).abs().max() <= 1e-6 * wanted.abs().max(), name


@contextlib.contextmanager
def broken_backward(function: type[torch.autograd.Function]) -> Iterator[None]:
    """The usual mistake: each rank keeps its own gradient and this backward sums nothing, so a factor W is missing."""
    correct, reduce, scatter = function.backward, dist.all_reduce, collectives._reduce_scatter

    def keep_own(out, x, *, group):
        out.copy_(x.chunk(dist.get_world_size(group))[dist.get_rank(group)])

    def backward(ctx, *grads):
        dist.all_reduce, collectives._reduce_scatter = lambda x, **options: None, keep_own
        try:
            return correct(ctx, *grads)
        finally:
            dist.all_reduce, collectives._reduce_scatter = reduce, scatter

    function.backward = staticmethod(backward)
    try:
        yield
    finally:
        function.backward = staticmethod(correct)

"""InfoNCE over real gloo processes under DDP, against one process that loops over the rows of the global batch."""

import contextlib

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from gloo import DTYPES, WORLD_SIZES, DistributedDataParallel, broken_backward, check
from torch import Tensor, nn

from dualenc.losses import collectives, contrastive, info_nce

INPUT_DIM, HIDDEN, DIM = 5, 8, 6
ROWS = 16
"""Rows per rank: enough for a [rows, rows] tensor to outweigh all that a rank may send."""
EXTRA = (3, 0, 5, 1)
"""Extra columns of each rank; rank 1 has none."""
CASES = (
    "diagonal",
    "duplicates",
    "rows_without_positives",
    "all_true",
    "extra_negatives",
    "extra_true",
    "extra_none_somewhere",
    "everything",
    "large_scale",
    "undecided",
    "undecided_everywhere",
    "nothing_true",
    "everything_true",
)
WITHOUT_TERMS = ("nothing_true", "everything_true", "undecided_everywhere")
WITH_EXTRA = ("everything", "large_scale", "undecided")


class Pair(nn.Module):
    """Two small towers and a log scale. One forward makes all embeddings of a rank, as a training step does."""

    def __init__(self, logit_scale: float) -> None:
        super().__init__()
        self.scene = nn.Sequential(nn.Linear(INPUT_DIM, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, DIM))
        self.query = nn.Sequential(nn.Linear(INPUT_DIM, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, DIM))
        self.log_scale = nn.Parameter(torch.tensor(logit_scale).log())

    def forward(self, scenes: Tensor, queries: Tensor, extra: Tensor) -> tuple[Tensor, ...]:
        texts = F.normalize(self.query(torch.cat([queries, extra])), dim=-1)
        scene = F.normalize(self.scene(scenes), dim=-1)
        return scene, texts[: len(queries)], texts[len(queries) :], self.log_scale.exp()


def make_pair(case: str, dtype: torch.dtype) -> Pair:
    torch.manual_seed(1)
    return Pair(95.0 if case == "large_scale" else 8.0).to(dtype)


def make_batch(case: str, world: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """The global batch: inputs of all ranks, and truth over the queries and then the real extra columns."""
    generator = torch.Generator().manual_seed(CASES.index(case))
    rows = ROWS * world
    num_extra = sum(EXTRA[:world]) if case.startswith("extra") or case in WITH_EXTRA else 0
    scenes, queries, extra = (
        torch.randn(count, INPUT_DIM, generator=generator, dtype=torch.float64) for count in (rows, rows, num_extra)
    )
    true = torch.eye(rows, dtype=torch.bool)
    if case in ("duplicates", "everything", "large_scale", "undecided"):
        kinds = torch.randint(rows // 2, (rows,), generator=generator)
        true = kinds[:, None] == kinds[None]
    if case in ("rows_without_positives", "everything"):
        true[torch.rand(rows, generator=generator) < 0.3] = False
    extra_true = torch.zeros(rows, num_extra, dtype=torch.bool)
    if case in ("extra_true", "extra_none_somewhere", "everything", "large_scale", "undecided"):
        extra_true = torch.rand(rows, num_extra, generator=generator) < 0.1
    if case == "all_true":
        true[3] = True
        true[:ROWS, 5] = True  # a column whose false entries are all on other ranks
    if case in ("nothing_true", "everything_true"):
        true = torch.full_like(true, case == "everything_true")
    undecided = torch.zeros(rows, rows + num_extra, dtype=torch.bool)
    if case == "undecided":
        undecided = torch.rand(undecided.shape, generator=generator) < 0.4
        undecided[:ROWS, 2] = True  # a column without any pair on rank 0
        undecided[:, 4] = undecided[5] = True  # a column and a row without any pair at all
        undecided[:, 6] = ~true[:, 6]  # a column without a false entry left
    if case == "undecided_everywhere":
        undecided = ~true
    inputs = {"scenes": scenes.to(dtype), "queries": queries.to(dtype), "extra": extra.to(dtype)}
    return inputs | {"true": torch.cat([true, extra_true], dim=1), "undecided": undecided}


def reference(case: str, world: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Loss and gradients of one process on the global batch, a row and a column at a time."""
    pair, batch = make_pair(case, dtype), make_batch(case, world, dtype)
    scene, query, extra, scale = pair(batch["scenes"], batch["queries"], batch["extra"])
    logits = scale * (scene @ torch.cat([query, extra]).T)
    true, kept = batch["true"], ~batch["undecided"]
    loss = (naive_direction(logits, true, kept) + naive_direction(logits.T, true.T, kept.T)) / 2
    loss.backward()
    return {"loss": loss.detach()} | {name: parameter.grad for name, parameter in pair.named_parameters()}


def naive_direction(logits: Tensor, true: Tensor, kept: Tensor) -> Tensor:
    rows = [(row[k], t[k]) for row, t, k in zip(logits, true, kept)]
    terms = [-row.log_softmax(0)[t].mean() for row, t in rows if t.any() and not t.all()]
    return torch.stack(terms).mean() if terms else 0 * logits.sum()


def distributed(group: dist.ProcessGroup | None, case: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Loss and DDP's gradients on this rank."""
    world, rank = dist.get_world_size(group), dist.get_rank(group)
    batch = make_batch(case, world, dtype)
    mine = slice(rank * ROWS, (rank + 1) * ROWS)
    sizes = EXTRA[:world] if len(batch["extra"]) else (0,) * world
    model = DistributedDataParallel(make_pair(case, dtype), process_group=group)
    extra_inputs = batch["extra"].split(sizes)[rank]
    scene, query, extra, scale = model(batch["scenes"][mine], batch["queries"][mine], extra_inputs)
    targets, extra_true = _as_given(batch["true"][mine], sizes)
    undecided, extra_undecided = _as_given(batch["undecided"][mine], sizes)
    has_undecided = case.startswith("undecided")
    no_extra_here = case == "extra_none_somewhere" and not sizes[rank]
    loss = info_nce(
        scene,
        query,
        logit_scale=scale,
        targets=None if case in ("diagonal", "extra_negatives") else targets,
        extra=None if no_extra_here or not sum(sizes) else extra,
        extra_targets=None if case == "extra_negatives" else extra_true,
        undecided=undecided if has_undecided else None,
        extra_undecided=extra_undecided if case == "undecided" else None,
        group=group,
    )
    loss.backward()
    return {"loss": loss.detach()} | {name: p.grad for name, p in model.module.named_parameters()}


def _as_given(pairs: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A rank's rows of the global pairs as `info_nce` takes them: queries, and extra columns padded to the most."""
    world = len(sizes)
    queries, extra = pairs.split([ROWS * world, sum(sizes)], dim=1)
    padded = torch.ones(ROWS, world, max(sizes), dtype=torch.bool)  # True beyond a rank's k: must be ignored
    for sender, block in enumerate(extra.split(sizes, dim=1)):
        padded[:, sender, : sizes[sender]] = block
    return queries, padded.flatten(1)


@contextlib.contextmanager
def largest_message(sizes: list[int]):
    """Records how many elements each collective of the loss leaves on a rank."""
    reduce, collect = dist.all_reduce, collectives._all_gather

    def all_reduce(x, *, op, group):
        sizes.append(x.numel())
        return reduce(x, op=op, group=group)

    def all_gather(out, x, *, group):
        sizes.append(out.numel())
        return collect(out, x, group=group)

    dist.all_reduce, collectives._all_gather = all_reduce, all_gather
    try:
        yield
    finally:
        dist.all_reduce, collectives._all_gather = reduce, collect


def distributed_broken(group: dist.ProcessGroup | None, function: type[torch.autograd.Function]) -> dict[str, Tensor]:
    with broken_backward(function):
        return distributed(group, "everything", torch.float64)


def sizes_of_messages(group: dist.ProcessGroup | None) -> list[int]:
    sizes: list[int] = [0]
    with largest_message(sizes):
        distributed(group, "everything", torch.float32)
    return sizes


def refuses_unequal_rows(group: dist.ProcessGroup | None) -> bool:
    rows = torch.eye(4)[: 2 + dist.get_rank(group) % 2]
    try:
        info_nce(rows, rows, logit_scale=10.0, group=group)
    except ValueError as error:
        return "same number of rows on every rank, got [2, 3" in str(error)
    return False


@pytest.mark.parametrize("world", WORLD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_equals_one_process_on_the_global_batch(workers, case, dtype, world):
    expected = reference(case, world, dtype)
    for rank in workers.run(distributed, case, dtype, world=world):
        check(rank, expected)


@pytest.mark.parametrize("world", WORLD_SIZES)
@pytest.mark.parametrize("case", WITHOUT_TERMS)
def test_nothing_to_learn_is_zero_not_nan(workers, case, world):
    for rank in workers.run(distributed, case, torch.float32, world=world):
        assert all((value == 0).all() for value in rank.values())


@pytest.mark.parametrize("world", WORLD_SIZES)
@pytest.mark.parametrize("function", [contrastive._CrossEntropies, collectives._Gather])
def test_a_missing_factor_of_world_size_is_noticed(workers, function, world):
    expected = reference("everything", world, torch.float64)
    ranks = workers.run(distributed_broken, function, world=world)
    if world == 1:
        check(ranks[0], expected)
    else:
        with pytest.raises(AssertionError):
            check(ranks[0], expected)


@pytest.mark.parametrize("world", WORLD_SIZES)
def test_nothing_of_the_size_of_all_pairs_is_exchanged(workers, world):
    num_rows, num_extra = ROWS * world, max(EXTRA[:world])
    num_columns = num_rows + sum(EXTRA[:world])
    largest = max(max(sizes) for sizes in workers.run(sizes_of_messages, world=world))
    expected = max((num_rows + num_extra * world) * DIM, 4 * num_columns + 2)
    assert largest == (0 if world == 1 else expected)
    assert expected < num_rows**2 or world == 1


@pytest.mark.parametrize("world", WORLD_SIZES)
def test_unequal_rows_are_refused_on_every_rank(workers, world):
    assert workers.run(refuses_unequal_rows, world=world) == [world > 1] * world

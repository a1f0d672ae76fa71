"""A small world for losses that ask single scenes: towers, a global batch with texts of its scenes, and pools."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from gloo import DistributedDataParallel, broken_backward
from torch import Tensor, nn

from dualenc.losses import LossInputs, collectives, total_loss

INPUT_DIM, HIDDEN, DIM = 5, 8, 6
ROWS = 12
"""Scenes of each rank."""
EXTRA = (4, 0, 7, 1)
"""Extra texts of each rank; rank 1 has none."""


class Towers(nn.Module):
    """Two small towers and a log scale. One forward makes all embeddings of a rank, as a training step does."""

    def __init__(self) -> None:
        super().__init__()
        self.scene = nn.Sequential(nn.Linear(INPUT_DIM, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, DIM))
        self.query = nn.Sequential(nn.Linear(INPUT_DIM, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, DIM))
        self.log_scale = nn.Parameter(torch.tensor(3.0).log())

    def forward(self, scenes: Tensor, texts: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        embedded = F.normalize(self.query(torch.cat(texts)), dim=-1)
        scene = F.normalize(self.scene(scenes), dim=-1)
        return scene, embedded.split([len(part) for part in texts]), self.log_scale.exp()


def make_towers(dtype: torch.dtype) -> Towers:
    torch.manual_seed(1)
    return Towers().to(dtype)


@dataclass
class Batch:
    """A global batch. owner: of each extra text, among all scenes; true, undecided [scenes, extra texts]."""

    scenes: Tensor
    queries: Tensor
    extra: Tensor
    concepts: Tensor
    objects: Tensor
    owner: Tensor
    true: Tensor
    undecided: Tensor
    concept_true: Tensor
    object_true: Tensor


def make_batch(world: int, dtype: torch.dtype, change: Callable[[Batch], None] | None = None) -> Batch:
    """Owners in no order, several extra texts of one scene, none of others; scenes without a true query of a pool, or
    without a false one; more ranks than objects. `change` alters it in place."""
    # A seed for which no gradient is a sum that nearly cancels: float32 could not resolve it, whoever adds it up.
    generator = torch.Generator().manual_seed(900 + world)
    rows, num_extra, num_concepts, num_objects = ROWS * world, sum(EXTRA[:world]), 9, 3

    def inputs(count: int) -> Tensor:
        return torch.randn(count, INPUT_DIM, generator=generator, dtype=torch.float64).to(dtype)

    def some(count: int, share: float) -> Tensor:
        return torch.rand(rows, count, generator=generator) < share

    owners = [
        rank * ROWS + torch.randint(ROWS - 2, (number,), generator=generator)
        for rank, number in enumerate(EXTRA[:world])
    ]
    batch = Batch(
        scenes=inputs(rows),
        queries=inputs(rows),
        extra=inputs(num_extra),
        concepts=inputs(num_concepts),
        objects=inputs(num_objects),
        owner=torch.cat(owners),
        true=some(num_extra, 0.3),
        undecided=some(num_extra, 0.2),
        concept_true=some(num_concepts, 0.4),
        object_true=some(num_objects, 0.4),
    )
    batch.object_true[1], batch.object_true[2] = False, True
    if change is not None:
        change(batch)
    return batch


@dataclass(frozen=True)
class Case:
    """A loss with its options, and how it is given its batch."""

    loss: str
    options: tuple[tuple[str, Any], ...] = ()
    change: Callable[[Batch], None] | None = None
    judges: bool = False
    block: int = 1024

    @property
    def terms(self) -> dict[str, tuple[float, dict[str, Any]]]:
        return {self.loss: (1.0, dict(self.options))}


def reference(
    case: Case, world: int, dtype: torch.dtype, naive: Callable[..., tuple[Tensor, dict[str, Tensor]]]
) -> dict[str, Tensor]:
    """Loss, report and gradients of one process on the global batch, by `naive(batch, scene, query, extra, concepts,
    objects, scale)`; from the towers' outputs on in float64, so that the difference is the loss's own."""
    towers, batch = make_towers(dtype), make_batch(world, dtype, case.change)
    scene, texts, scale = towers(batch.scenes, [batch.queries, batch.extra, batch.concepts, batch.objects])
    outputs = [x.double() for x in (scene, *texts, scale)]
    loss, report = naive(batch, *outputs)
    (loss + 0 * sum(x.sum() for x in outputs)).backward()
    return {name: value.to(dtype) for name, value in _result(loss, report, towers).items()}


def distributed(group: dist.ProcessGroup | None, case: Case, dtype: torch.dtype) -> dict[str, Tensor]:
    """The same on one of the ranks, through the registry and DDP."""
    world, rank = dist.get_world_size(group), dist.get_rank(group)
    batch = make_batch(world, dtype, case.change)
    mine, sizes = slice(rank * ROWS, (rank + 1) * ROWS), EXTRA[:world]
    share = [batch.queries[mine], batch.extra.split(sizes)[rank]]
    share += [part.tensor_split(world)[rank] for part in (batch.concepts, batch.objects)]
    model = DistributedDataParallel(make_towers(dtype), process_group=group)
    scene, (query, extra, concepts, objects), scale = model(batch.scenes[mine], share)
    said = {
        "extra_targets": _padded(batch.true[mine].split(sizes, dim=1)),
        "extra_undecided": _padded(batch.undecided[mine].split(sizes, dim=1)),
        "concept_targets": _padded(batch.concept_true[mine].tensor_split(world, dim=1)),
        "object_targets": _padded(batch.object_true[mine].tensor_split(world, dim=1)),
    }
    inputs = LossInputs(
        scene=scene,
        query=query,
        logit_scale=scale,
        extra=extra,
        extra_owner=batch.owner.split(sizes)[rank] - rank * ROWS,
        concepts=concepts,
        objects=objects,
        group=group,
        block=case.block,
        **{name: functools.partial(_block, pairs) if case.judges else pairs for name, pairs in said.items()},
    )
    loss, report = total_loss(inputs, case.terms)
    loss.backward()
    del report[case.loss]
    return _result(loss, {name.partition("/")[2]: value for name, value in report.items()}, model.module)


def distributed_broken(group: dist.ProcessGroup | None, case: Case, dtype: torch.dtype, name: str) -> dict[str, Tensor]:
    with broken_backward(getattr(collectives, name)):
        return distributed(group, case, dtype)


def _result(loss: Tensor, report: dict[str, Tensor], towers: nn.Module) -> dict[str, Tensor]:
    gradients = {name: parameter.grad for name, parameter in towers.named_parameters()}
    return {"loss": loss.detach(), **gradients} | {f"report/{name}": value.detach() for name, value in report.items()}


def _padded(parts: tuple[Tensor, ...]) -> Tensor:
    """Columns of every rank, padded to the most; True beyond a rank's own, which must be ignored."""
    most = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, most - part.shape[1]), value=True) for part in parts], dim=1)


def _block(pairs: Tensor, rows: slice, columns: slice) -> Tensor:
    return pairs[rows, columns]

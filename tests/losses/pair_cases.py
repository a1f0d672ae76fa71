"""Global batches for losses of all pairs, and what one rank under DDP, or one process alone, makes of them."""

import functools
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.nn.functional as F
from gloo import DistributedDataParallel, broken_backward
from torch import Tensor, nn

from dualenc.losses import LossInputs, total_loss

INPUT_DIM, HIDDEN = 5, 8
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
    "fewer_rows_than_dimensions",
    "undecided",
    "undecided_everywhere",
    "nothing_true",
    "everything_true",
)
WITH_EXTRA = ("everything", "large_scale", "undecided")
FORMS = {
    "whole": (torch.float64, 1024, False),
    "blocks, of judges": (torch.float64, 7, True),
    "whole, in float32": (torch.float32, 1024, False),
    "blocks, in float32": (torch.float32, 11, False),
}
"""dtype, the side of a block (7 and 11 divide nothing here), and whether pairs are told by judges."""


class Pair(nn.Module):
    """Two small towers, a log scale and a bias. One forward makes all embeddings of a rank, as a training step does."""

    def __init__(self, logit_scale: float, dim: int) -> None:
        super().__init__()
        self.scene = nn.Sequential(nn.Linear(INPUT_DIM, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, dim))
        self.query = nn.Sequential(nn.Linear(INPUT_DIM, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, dim))
        self.log_scale = nn.Parameter(torch.tensor(logit_scale).log())
        # A bias for which the gradients of true and of false pairs do not cancel: in float32 their sum is inexact.
        self.bias = nn.Parameter(torch.tensor(-0.5))

    def forward(self, scenes: Tensor, queries: Tensor, extra: Tensor) -> tuple[Tensor, ...]:
        texts = F.normalize(self.query(torch.cat([queries, extra])), dim=-1)
        scene = F.normalize(self.scene(scenes), dim=-1)
        return scene, texts[: len(queries)], texts[len(queries) :], self.log_scale.exp(), self.bias


def make_pair(case: str, dtype: torch.dtype) -> Pair:
    torch.manual_seed(1)
    dim = 2 * ROWS if case == "fewer_rows_than_dimensions" else 6
    return Pair(95.0 if case == "large_scale" else 8.0, dim).to(dtype)


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


@functools.cache
def reference(textbook: Callable[..., Tensor], case: str, world: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Loss and gradients of one process on the global batch: ``textbook(cosines, scale, bias, true, kept)``."""
    pair, batch = make_pair(case, dtype), make_batch(case, world, dtype)
    scene, query, extra, scale, bias = pair(batch["scenes"], batch["queries"], batch["extra"])
    loss = textbook(scene @ torch.cat([query, extra]).T, scale, bias, batch["true"], ~batch["undecided"])
    loss.backward()
    return {"loss": loss.detach()} | gradients(pair)


def all_forms(group: dist.ProcessGroup | None, loss: str, case: str) -> dict[str, dict[str, Tensor]]:
    """:func:`distributed` in each of its forms."""
    return {form: distributed(group, loss, case, form) for form in FORMS}


def distributed(
    group: dist.ProcessGroup | None,
    loss: str,
    case: str,
    form: str,
    broken: type[torch.autograd.Function] | None = None,
) -> dict[str, Tensor]:
    """Loss and DDP's gradients on this rank; with the backward of a function ``broken``."""
    dtype, block, judges = FORMS[form]
    world, rank = dist.get_world_size(group), dist.get_rank(group)
    batch = make_batch(case, world, dtype)
    mine = slice(rank * ROWS, (rank + 1) * ROWS)
    sizes = EXTRA[:world] if len(batch["extra"]) else (0,) * world
    model = DistributedDataParallel(make_pair(case, dtype), process_group=group)
    extra_inputs = batch["extra"].split(sizes)[rank]
    scene, query, extra, scale, bias = model(batch["scenes"][mine], batch["queries"][mine], extra_inputs)
    targets, extra_true = _as_given(batch["true"][mine], sizes)
    undecided, extra_undecided = _as_given(batch["undecided"][mine], sizes)
    told = _judge if judges else lambda pairs: pairs
    inputs = LossInputs(
        scene=scene,
        query=query,
        logit_scale=scale,
        logit_bias=bias,
        targets=None if case in ("diagonal", "extra_negatives", "fewer_rows_than_dimensions") else told(targets),
        extra=None if not sum(sizes) or (case == "extra_none_somewhere" and not sizes[rank]) else extra,
        extra_targets=None if case == "extra_negatives" else told(extra_true),
        undecided=told(undecided) if case.startswith("undecided") else None,
        extra_undecided=told(extra_undecided) if case == "undecided" else None,
        group=group,
        block=block,
    )
    value, _ = total_loss(inputs, {loss: (1.0, {})})
    if broken is None:
        value.backward()
    else:
        with broken_backward(broken):
            value.backward()
    return {"loss": value.detach()} | gradients(model.module)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def _as_given(pairs: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A rank's rows of the global pairs as losses take them: queries, and extra columns padded to the most."""
    world = len(sizes)
    queries, extra = pairs.split([ROWS * world, sum(sizes)], dim=1)
    padded = torch.ones(ROWS, world, max(sizes), dtype=torch.bool)  # True beyond a rank's k: must be ignored
    for sender, block in enumerate(extra.split(sizes, dim=1)):
        padded[:, sender, : sizes[sender]] = block
    return queries, padded.flatten(1)


def _judge(pairs: Tensor) -> Callable[[slice, slice], Tensor]:
    return lambda rows, columns: pairs[rows, columns]

"""The pair matrix of a global batch, a block at a time, so that memory grows with the batch and not with its square.

A contrastive loss is made of sums over rows and columns of the logits. They are taken block by block, and the backward
pass computes each block again: the idea of Inf-CL (Cheng et al. 2024, arXiv 2410.17243), in plain torch. A matrix of
one block is kept instead, so a small batch pays nothing. What is held for long is [b, d], [columns, d] and [columns].

The columns are gathered rather than passed around a ring of ranks: they are linear in the global batch too (64 MB of
32,768 texts of width 512), cost one collective each way instead of one per rank, and all losses can share them.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dualenc.losses.collectives import gather, rank, world_size
from dualenc.losses.inputs import Judge, LossInputs


@dataclass(frozen=True, eq=False, slots=True)
class Block:
    """A block of the pair matrix: where it lies, its logits, and which of its pairs are true, and undecided."""

    rows: slice
    columns: slice
    logits: Float[Tensor, "height width"]
    true: Bool[Tensor, "height width"]
    undecided: Bool[Tensor, "height width"] | None


@dataclass(frozen=True, eq=False)
class Pairs:
    """What is known of all pairs of this rank's scenes and the columns of all ranks.

    ``size`` is the side of the square that bounds a block's number of pairs.
    """

    true: Judge
    undecided: Judge | None
    size: int
    compile: bool

    def blocks(self, scene: Float[Tensor, "b d"], columns: Float[Tensor, "n d"], kept: list[Block]) -> Iterator[Block]:
        """The blocks one by one. ``kept``, given empty, takes one that is the whole matrix; given again, it gives it.

        Logits of undecided pairs are as good as minus infinity.
        """
        if kept:
            yield from kept
            return
        places = self._places(len(scene), len(columns))
        for rows, cols in places:
            block = self._block(rows, cols, scene[rows] @ columns[cols].T)
            if len(places) == 1:
                kept.append(block)
            yield block

    def fused(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What is to be done with a block, compiled where that was asked for."""
        return _compiled(function) if self.compile else function

    def _places(self, num_rows: int, num_columns: int) -> list[tuple[slice, slice]]:
        rows = _cut(num_rows, self.size)
        # Few rows make for wide blocks: what costs memory, and is worth a call, is the number of pairs.
        columns = _cut(num_columns, self.size**2 // (rows[0].stop - rows[0].start))
        return [(row, column) for row in rows for column in columns]

    def _block(self, rows: slice, columns: slice, logits: Tensor) -> Block:
        true = self.true(rows, columns)
        if self.undecided is None:
            return Block(rows, columns, logits, true, None)
        undecided = self.undecided(rows, columns)
        # Finite, so that a line without any pair in this block adds exp(-large) = 0 to the others' and not NaN.
        logits.masked_fill_(undecided, torch.finfo(logits.dtype).min / 2)
        return Block(rows, columns, logits, true & ~undecided, undecided)


def gradients(
    pairs: Pairs,
    scene: Float[Tensor, "b d"],
    columns: Float[Tensor, "n d"],
    kept: list[Block],
    of_logits: Callable[[Block], Tensor],
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "n d"]]:
    """The gradients of both sides of the pair matrix, from that of each block's logits."""
    grad_scene, grad_columns = torch.zeros_like(scene), torch.zeros_like(columns)
    # Lightning calls backward under autocast, which would round these products to bfloat16.
    with torch.autocast(scene.device.type, enabled=False):
        for block in pairs.blocks(scene, columns, kept):
            grad = of_logits(block)
            grad_scene[block.rows].addmm_(grad, columns[block.columns])
            grad_columns[block.columns].addmm_(grad.T, scene[block.rows])
    return grad_scene, grad_columns


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)  # once for all shapes: blocks of one loss differ by a row


def pair_matrix(inputs: LossInputs, *, edits: bool) -> tuple[Float[Tensor, "b d"], Float[Tensor, "n d"], Pairs]:
    """This rank's scenes, the text columns of all ranks (queries, then extra texts if ``edits``), and what is true.

    Embeddings come in float32, or in float64 if they are; to be called outside autocast. Raises ValueError for targets
    of the wrong shape, or a b that differs between ranks.
    """
    if not edits:
        inputs = replace(inputs, extra=None, extra_targets=None, extra_undecided=None)
    dtype = torch.promote_types(inputs.scene.dtype, torch.float32)
    scene, query = inputs.scene.to(dtype), inputs.query.to(dtype)
    extra = query[:0] if inputs.extra is None else inputs.extra.to(dtype)
    num_extra = _num_extra(len(query), len(extra), query.device, inputs.group)
    present, max_extra = _present(num_extra), int(num_extra.max())
    true, undecided = _judges(inputs, present, max_extra)
    columns = _columns(query, extra, max_extra, present.to(query.device), inputs.group)
    return scene, columns, Pairs(true, undecided, inputs.block, inputs.compile)


def _cut(length: int, most: int) -> list[slice]:
    """Parts of at most ``most``, and as equal as can be: a sliver would cost as much as a whole part."""
    size = math.ceil(length / math.ceil(length / most))
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _num_extra(
    num_rows: int, num_extra: int, device: torch.device, group: dist.ProcessGroup | None
) -> Int[Tensor, " world"]:
    """Every rank's number of extra columns, on the host.

    Costs a tiny collective also when this rank has none: ranks must agree on the shapes they are about to exchange.
    """
    if world_size(group) == 1:
        return torch.tensor([num_extra])
    rows, extras = gather(torch.tensor([[num_rows, num_extra]], device=device), group).cpu().unbind(1)
    if (rows != num_rows).any():
        raise ValueError(f"contrastive losses need the same number of rows on every rank, got {rows.tolist()}")
    return extras


def _present(num_extra: Int[Tensor, " world"]) -> Int[Tensor, " present"]:
    """Which of the world * max k padded slots hold an extra column."""
    slots = torch.arange(int(num_extra.max()))
    return (slots < num_extra[:, None]).flatten().nonzero().squeeze(1)


def _columns(
    query: Float[Tensor, "b d"],
    extra: Float[Tensor, "k d"],
    max_extra: int,
    present: Int[Tensor, " present"],
    group: dist.ProcessGroup | None,
) -> Float[Tensor, "columns d"]:
    """The queries of all ranks, then the extra columns of all ranks.

    Both travel in one collective. That is one latency instead of two, and it keeps the backward of all ranks alike:
    the gathered tensor needs a gradient everywhere, also where a rank's own (empty) extra does not.
    """
    if not max_extra:
        return gather(query, group)
    padding = query.new_zeros(max_extra - len(extra), query.shape[1])
    gathered = gather(torch.cat([query, extra, padding]), group).unflatten(0, (-1, len(query) + max_extra))
    queries, extras = gathered.split([len(query), max_extra], dim=1)
    return torch.cat([queries.flatten(0, 1), extras.flatten(0, 1).index_select(0, present)])


def _judges(inputs: LossInputs, present: Int[Tensor, " present"], max_extra: int) -> tuple[Judge, Judge | None]:
    """What is true, and what is undecided, over :func:`_columns`."""
    num_rows, world, device = len(inputs.scene), world_size(inputs.group), inputs.scene.device
    shapes = [num_rows, num_rows * world], [num_rows, max_extra * world]
    given = (inputs.targets, inputs.undecided), (inputs.extra_targets, inputs.extra_undecided)
    for expected, both in zip(shapes, given):
        for pairs in both:
            if isinstance(pairs, Tensor) and list(pairs.shape) != expected:
                raise ValueError(
                    f"contrastive losses need targets {shapes[0]} and extra_targets {shapes[1]} (rows, columns of all "
                    f"ranks), and undecided ones alike, got {list(pairs.shape)} for {expected}"
                )
    diagonal = _diagonal(num_rows * rank(inputs.group), device)
    (targets, undecided), (extra_targets, extra_undecided) = (
        [None if pairs is None else _judge(pairs, device) for pairs in both] for both in given
    )
    nothing = _nothing(device)
    true = _joined(targets or diagonal, extra_targets or nothing, num_rows * world, present)
    if undecided is None and extra_undecided is None:
        return true, None
    return true, _joined(undecided or nothing, extra_undecided or nothing, num_rows * world, present)


def _judge(pairs: Tensor | Judge, device: torch.device) -> Judge:
    """Pairs as a judge whose answers are on a device and of the right shape."""

    def judge(rows: slice, columns: slice) -> Tensor:
        block = pairs[rows, columns] if isinstance(pairs, Tensor) else pairs(rows, columns)
        shape = [rows.stop - rows.start, columns.stop - columns.start]
        if list(block.shape) != shape or block.dtype != torch.bool:
            raise ValueError(f"a judge of pairs must return bool {shape}, got {block.dtype} {list(block.shape)}")
        return block.to(device)

    return judge


def _diagonal(first: int, device: torch.device) -> Judge:
    """Row i is true of column first + i only."""

    def judge(rows: slice, columns: slice) -> Tensor:
        block = _nothing(device)(rows, columns)
        offset = first + rows.start - columns.start
        if -block.shape[0] < offset < block.shape[1]:
            block.diagonal(offset).fill_(True)
        return block

    return judge


def _nothing(device: torch.device) -> Judge:
    def judge(rows: slice, columns: slice) -> Tensor:
        return torch.zeros(rows.stop - rows.start, columns.stop - columns.start, dtype=torch.bool, device=device)

    return judge


def _joined(queries: Judge, extra: Judge, num_queries: int, present: Int[Tensor, " present"]) -> Judge:
    """One judge of the queries' columns and, after them, of the padded extra columns that are present."""

    def parts(rows: slice, columns: slice) -> Iterator[Tensor]:
        if columns.start < num_queries:
            yield queries(rows, slice(columns.start, min(columns.stop, num_queries)))
        slots = present[max(columns.start - num_queries, 0) : max(columns.stop - num_queries, 0)]
        if len(slots):
            span = slice(int(slots[0]), int(slots[-1]) + 1)
            block = extra(rows, span)
            if block.shape[1] > len(slots):
                block = block.index_select(1, (slots - span.start).to(block.device))
            yield block

    return lambda rows, columns: torch.cat(list(parts(rows, columns)), dim=1)

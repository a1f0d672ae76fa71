"""Gradient caching: the towers see a batch in chunks, the loss sees the whole of it, and the step is the plain one.

Gao et al. (2021), arXiv 2101.06983: embed all chunks without a graph; from one loss of all embeddings e take their
gradients g; embed each chunk again, with a graph, and let sum(e * g) send g on into the weights. Activations are those
of one chunk; the price is a second forward pass.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from dualenc.losses import Report


class Encoder(Protocol):
    """What embeds: a `DualEncoder`, or its compiled form."""

    def encode_scenes(self, scenes: Num[Tensor, "n *scene"]) -> Float[Tensor, "n d"]:
        """Embeddings of scenes."""
        ...

    def encode_queries(self, tokens: Int[Tensor, "n t"]) -> Float[Tensor, "n d"]:
        """Embeddings of queries."""
        ...


Objective = Callable[..., tuple[Float[Tensor, ""], Report]]
"""(scene embeddings, query embeddings, *loss parameters) -> loss and report; all collectives of a step are in it."""

Backward = Callable[[Float[Tensor, ""], bool], None]
"""(scalar, last) -> None: adds the scalar's gradient to the weights' `grad`. All that a process has added is averaged
over processes in the call that is `last`, and only there."""


def backward_in_chunks(
    encoder: Encoder,
    scenes: Num[Tensor, "n *scene"],
    queries: Int[Tensor, "m t"],
    *,
    loss_parameters: Sequence[Float[Tensor, ""]],
    chunks: int,
    objective: Objective,
    backward: Backward,
) -> tuple[Float[Tensor, ""], Report]:
    """The loss of all rows and its report; calls ``backward`` once for each chunk, each time with its share.

    ``loss_parameters`` are the learned numbers that the objective takes besides embeddings (temperature, bias), with
    their graph. Chunks may be uneven, and m smaller than their number. A chunk draws the same random numbers both
    times (dropout), but not those of another number of chunks.
    """
    towers = _Chunks(encoder.encode_scenes, scenes, chunks), _Chunks(encoder.encode_queries, queries, chunks)
    leaves = [tower.embed() for tower in towers] + [theta.detach().requires_grad_() for theta in loss_parameters]
    loss, report = objective(*leaves)
    with torch.autocast(scenes.device.type, enabled=False):  # a region around the step would reach into the backward
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    for i in range(chunks):
        shares = [share for tower, g in zip(towers, gradients) if (share := tower.replay(i, g)) is not None]
        last = i == chunks - 1
        if last:  # with both towers' last chunks, which are never empty: a gradient of every weight is there to average
            shares += [theta * g for theta, g in zip(loss_parameters, gradients[len(towers) :])]
        if shares:
            backward(torch.stack(shares).sum(), last)
    return loss.detach(), report


class _Chunks:
    """The rows of one tower in chunks, to embed all at once without a graph and one by one with it."""

    def __init__(self, encode: Callable[[Tensor], Tensor], rows: Tensor, number: int) -> None:
        size, larger = divmod(len(rows), number)
        self.sizes = [size] * (number - larger) + [size + 1] * larger
        self.encode, self.rows = encode, rows.split(self.sizes)
        self.states: list[tuple[Tensor, Tensor | None]] = []

    def embed(self) -> Float[Tensor, "n d"]:
        """All embeddings, as a leaf of a new graph."""
        embeddings = []
        for rows in self.rows:
            self.states.append(_random_state(rows.device))
            if len(rows):
                with torch.no_grad():
                    embeddings.append(self.encode(rows))
        return torch.cat(embeddings).requires_grad_()

    def replay(self, i: int, gradients: Float[Tensor, "n d"]) -> Float[Tensor, ""] | None:
        """sum(e * g) over chunk i, embedded as the first time; None for an empty chunk."""
        rows = self.rows[i]
        if not len(rows):
            return None
        _set_random_state(self.states[i], rows.device)
        return (self.encode(rows) * gradients.split(self.sizes)[i]).sum()


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_state(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)

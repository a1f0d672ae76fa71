"""Embedded scenes whose structure is known because it was put there."""

from itertools import product
from typing import Literal

import numpy as np
import torch

from dualenc.analysis.embedded import EmbeddedScenes
from dualenc.scenes import ConceptSpace

Structure = Literal["additive", "per_object", "global", "random"]


def scenes_of(
    structure: Structure,
    *,
    sizes: tuple[int, ...] = (6, 5),
    objects: int = 2,
    dim: int = 40,
    noise: float = 0.01,
    coverage: float = 0.7,
    slots: str = "mention",
    ordered: bool = True,
    copies: int = 1,
    seed: int = 0,
) -> EmbeddedScenes:
    """All ordered tuples of distinct objects, `copies` times, from tables of unit variance.

    additive: a vector per slot, concept and value, summed. per_object: that + per slot the product over concepts of
    another. global: that + the product over slots and concepts of a third. random: a vector per object SET that no
    table predicts. Not `ordered`: tables are the same for every slot, and the global products (which would then be
    those of a bag of values) are averaged over all orders of the slots.
    """
    rng = np.random.default_rng(seed)
    space = ConceptSpace.named({f"c{k}": [f"c{k}v{v}" for v in range(size)] for k, size in enumerate(sizes)})
    number = space.num_objects
    every = np.array([t for t in product(range(number), repeat=objects) if len(set(t)) == objects])
    every = np.tile(every, (copies, 1))
    values = space.decode(every)

    def table() -> list[list[np.ndarray]]:
        shared = [rng.normal(size=(size, dim)) for size in sizes]
        return [[rng.normal(size=(s, dim)) for s in sizes] if ordered else shared for _ in range(objects)]

    def picked(tables: list[list[np.ndarray]], order: tuple[int, ...]) -> np.ndarray:
        return np.array([[tables[i][k][values[:, order[i], k]] for k in range(len(sizes))] for i in range(objects)])

    same = tuple(range(objects))
    out = picked(table(), same).sum((0, 1))
    if structure in ("per_object", "global"):
        out = out + picked(table(), same).prod(1).sum(0)
    if structure == "global" and ordered:
        out = out + picked(table(), same).prod((0, 1))
    elif structure == "global":
        tables = [[rng.normal(size=(size, dim)) for size in sizes] for _ in range(objects)]
        orders = [o for o in product(same, repeat=objects) if len(set(o)) == objects]
        out = out + sum(picked(tables, order).prod((0, 1)) for order in orders) / len(orders)
    if structure == "random":
        sets, number_of = np.unique(np.sort(every, axis=1), axis=0, return_inverse=True)
        out = rng.normal(size=(len(sets), dim))[number_of.reshape(-1)]
    out = out + noise * rng.normal(size=out.shape)
    train = np.sort(rng.permutation(number)[: round(coverage * number)])
    return EmbeddedScenes(torch.from_numpy(out).float(), every, space, slots, train)  # type: ignore[arg-type]

"""Multiplicative probes: is an embedding a sum of concept vectors, or also of their products?

    additive      b + sum_i sum_k u_{i,k}[c_ik]
    per-object    additive + W sum_i prod_k v_{i,k}[c_ik]
    global        per-object + W' prod_i prod_k w_{i,k}[c_ik]

for objects i, concepts k and element-wise products of vectors of r entries. Fitted to scenes of known objects, judged
on scenes of objects held out. Source: "How can embedding models bind concepts?" (arXiv 2605.31503), section 6 and
Figure 9, for two objects and two concepts; here for any number of both.

Tables are per slot where slots mean something. An unordered scene shares tables between slots in the first two terms.
The global term cannot: with shared tables its product is over the multiset of values alone, the same for two scenes
that differ by a SWAP. It keeps tables per slot and is averaged over all orders of the objects in the slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dualenc.analysis.embedded import EmbeddedScenes
from dualenc.analysis.generalization import (
    FitRows,
    known_objects,
    one_hot,
    r2_score,
    scenes_of_count,
    slot_orders,
)
from dualenc.analysis.measures import r2
from dualenc.analysis.studies import MultiplicativeOptions

Term = Literal["per-object", "global"]
PROBES: dict[str, tuple[Term, ...]] = {
    "additive": (),
    "per-object": ("per-object",),
    "global": ("per-object", "global"),
}

VALIDATION_SHARE = 0.1
RIDGE = 1e-6
_ITERATIONS = 500
_TOLERANCE = 1e-7


def multiplicative(scenes: Sequence[EmbeddedScenes], options: MultiplicativeOptions) -> dict[str, Any]:
    """Table `probes`: R^2 on training, validation and held-out scenes of each probe at each rank r.

    Raises InputError for a run without held-out objects (unless `coverage` draws them anew) and for an object count
    that the scenes do not have.
    """
    part = scenes_of_count(scenes, options.count)
    part = part.normalized() if options.normalized else part
    known = known_objects(part, options.coverage, seed=options.seed)
    rows = FitRows.of(part, known, validation=VALIDATION_SHARE, seed=options.seed)
    table = []
    for name, terms in PROBES.items():
        for rank in options.ranks if terms else [0]:
            fit = fit_probe(part, rows, terms=terms, rank=rank, restarts=options.restarts, seed=options.seed)
            table.append({"probe": name, "rank": rank or None, **_row(fit, part, rows, options)})
    return {"notes": _notes(part, rows, options), "tables": {"Probes": table}}


def _row(
    fit: "MultiplicativeFit", scenes: EmbeddedScenes, rows: FitRows, options: MultiplicativeOptions
) -> dict[str, Any]:
    parts = {"train": rows.train, "validation": rows.validation}
    found = {f"r2_{name}": r2_score(scenes.embeddings[which], fit(scenes.take(which))) for name, which in parts.items()}
    test = scenes.take(rows.heldout)
    centre = test.embeddings.double().mean(0)
    heldout = r2(test.embeddings.double() - centre, fit(test) - centre, test.objects, seed=options.seed)
    return {
        **found,
        "r2_heldout": heldout["r2"],
        "r2_heldout_interval": heldout["r2_interval"],
        "restart": fit.restart,
        "iterations": fit.iterations,
        "gradient": fit.gradient,
    }


def _notes(scenes: EmbeddedScenes, rows: FitRows, options: MultiplicativeOptions) -> list[str]:
    slots = {"mention": "order of mention", "place": "fixed place", "none": "none, so that the global term is averaged"}
    largest = max(scenes.space.sizes)
    return [
        f"{scenes.num_objects} objects, slots by {slots[scenes.slots]}; fitted on {len(rows.train):,} scenes of "
        f"{len(rows.known):,} objects, restarts chosen on {len(rows.validation):,}, held-out R^2 on "
        f"{len(rows.heldout):,} scenes of the others.",
        f"Products of rank {largest} or more (the largest concept) fit any function of two concepts: a high training "
        f"R^2 says nothing there, the held-out R^2 does. {options.restarts} restarts each.",
    ]


@dataclass(frozen=True, eq=False)
class MultiplicativeFit:
    """A fitted probe: call it with scenes to get their reconstructed embeddings, [n, d] in float64."""

    terms: "_Terms"
    tables: Float[Tensor, "rows rank"]
    readout: "_Readout"
    restart: int
    iterations: int
    gradient: float

    def __call__(self, scenes: EmbeddedScenes) -> Float[Tensor, "n d"]:
        """Reconstructed embeddings."""
        return self.readout(self.terms.inputs(scenes), self.tables)


def fit_probe(
    scenes: EmbeddedScenes, rows: FitRows, *, terms: tuple[Term, ...], rank: int, restarts: int = 3, seed: int = 0
) -> MultiplicativeFit:
    """The probe with the least squared error on `rows.train`; of `restarts`, the one best on `rows.validation`.

    Given the products, everything else is linear and has a closed form (with a ridge of 1e-6 of the products' mean
    square, against ties), so that L-BFGS works on the tables of the products alone: variable projection (Golub and
    Pereyra 1973, SIAM Journal on Numerical Analysis 10). Without products nothing is left to iterate. In float64, a
    function of the seed. Raises ValueError where held-out objects leak into the fit.
    """
    rows.check(scenes)
    shape = _Terms(scenes, terms)
    train, validation = scenes.take(rows.train), scenes.take(rows.validation)
    inputs, target = shape.inputs(train), train.embeddings.double()
    best, least = None, np.inf
    for restart in range(restarts if terms else 1):
        draw = torch.Generator().manual_seed(1000 * seed + restart)
        start = torch.randn(shape.num_rows, rank, generator=draw, dtype=torch.float64).to(target.device)
        tables, iterations, gradient = _descend(inputs, target, start) if terms else (start, 0, 0.0)
        fit = MultiplicativeFit(shape, tables, _read_out(inputs, target, tables), restart, iterations, gradient)
        error = float(((fit(validation) - validation.embeddings.double()) ** 2).mean()) if len(rows.validation) else 0.0
        if error < least:
            best, least = fit, error
    assert best is not None
    return best


@dataclass(frozen=True, eq=False)
class _Inputs:
    """plain [n, p]: the additive columns; products: per term, which rows of the tables are multiplied, in each of the
    summands that are averaged or added: index [n, summands, factors]."""

    plain: Float[Tensor, "n p"]
    products: tuple[Int[Tensor, "n summands factors"], ...]


class _Terms:
    """Which tables a probe has, and how scenes index them. Rows of all tables lie one below the other."""

    def __init__(self, scenes: EmbeddedScenes, terms: tuple[Term, ...]) -> None:
        self.space, self.terms, self.orders = scenes.space, terms, slot_orders(scenes)
        self.shared = scenes.slots == "none"
        self.slots = scenes.num_objects
        per_slot = {"per-object": 1 if self.shared else self.slots, "global": self.slots}
        sizes = [per_slot[term] * self.space.num_values for term in terms]
        self.starts = np.cumsum([0, *sizes[:-1]])
        self.num_rows = sum(sizes)

    def inputs(self, scenes: EmbeddedScenes) -> _Inputs:
        """The scenes as indices."""
        device = scenes.embeddings.device
        plain = one_hot(scenes.values, self.space)
        if self.shared:
            plain = plain.reshape(len(plain), self.slots, -1).sum(axis=1)
        ids = scenes.values + self.space.offsets  # [n, m, C], numbers among all values
        slot = self.space.num_values * np.arange(self.slots)[:, None]
        indices = {
            "per-object": ids if self.shared else ids + slot,
            "global": np.stack([(ids[:, order] + slot).reshape(len(ids), -1) for order in self.orders], axis=1),
        }
        found = (torch.from_numpy(indices[term] + start) for term, start in zip(self.terms, self.starts))
        return _Inputs(torch.from_numpy(plain).to(device), tuple(index.to(device) for index in found))


@dataclass(frozen=True, eq=False)
class _Readout:
    """The linear part: columns centred by `mean` and divided by `scale`, times `weight`, plus `bias`."""

    mean: Float[Tensor, "p"]
    scale: Float[Tensor, "p"]
    weight: Float[Tensor, "p d"]
    bias: Float[Tensor, "d"]

    def __call__(self, inputs: _Inputs, tables: Float[Tensor, "rows rank"]) -> Float[Tensor, "n d"]:
        return (_columns(inputs, tables) - self.mean) / self.scale @ self.weight + self.bias


def _columns(inputs: _Inputs, tables: Float[Tensor, "rows rank"]) -> Float[Tensor, "n p"]:
    """The additive columns, and for each term its r products, averaged over summands."""
    products = [
        torch.stack([_product(tables, factors) for factors in index.unbind(1)]).mean(0) for index in inputs.products
    ]
    return torch.cat([inputs.plain, *products], dim=1)


def _product(tables: Float[Tensor, "rows rank"], index: Int[Tensor, "n factors"]) -> Float[Tensor, "n rank"]:
    """Multiplied one after another: the gradient of `prod` would divide by factors near zero."""
    first, *others = (torch.nn.functional.embedding(factor, tables) for factor in index.unbind(1))
    for other in others:
        first = first * other
    return first


def _read_out(inputs: _Inputs, target: Float[Tensor, "n d"], tables: Float[Tensor, "rows rank"]) -> _Readout:
    """Least squares of the targets on the columns; every column of length one, so that the tables' scale is free."""
    columns = _columns(inputs, tables)
    mean = columns.mean(0)
    columns = columns - mean
    scale = (columns**2).mean(0).sqrt()
    scale = torch.where(scale > 1e-12, scale, 1.0)
    columns = columns / scale
    bias = target.mean(0)
    gram = columns.T @ columns / len(columns)
    gram.diagonal().add_(RIDGE)
    weight = torch.cholesky_solve(columns.T @ (target - bias) / len(columns), torch.linalg.cholesky(gram))
    return _Readout(mean, scale, weight, bias)


def _descend(
    inputs: _Inputs, target: Float[Tensor, "n d"], start: Float[Tensor, "rows rank"]
) -> tuple[Float[Tensor, "rows rank"], int, float]:
    """L-BFGS on the tables; the readout is solved anew at every point. At its optimum the readout's own change does
    not move the objective, so that the gradient at a fixed readout is the gradient."""
    tables = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [tables],
        max_iter=_ITERATIONS,
        tolerance_grad=_TOLERANCE,
        tolerance_change=0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    variance = ((target - target.mean(0)) ** 2).sum(1).mean()

    def objective() -> Tensor:
        optimiser.zero_grad()
        with torch.no_grad():
            readout = _read_out(inputs, target, tables)
        columns = _columns(inputs, tables)
        centred = columns - columns.mean(0)
        columns = centred / (centred**2).mean(0).sqrt().clamp(min=1e-12)
        error = ((target - readout.bias - columns @ readout.weight) ** 2).sum(1).mean()
        loss = (error + RIDGE * (readout.weight**2).sum()) / variance
        loss.backward()
        return loss.detach()

    optimiser.step(objective)
    objective()
    assert tables.grad is not None
    return tables.detach(), optimiser.state[tables]["n_iter"], float(tables.grad.abs().max())

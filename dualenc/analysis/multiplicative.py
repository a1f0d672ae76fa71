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
from dataclasses import dataclass, replace
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
from dualenc.analysis.progress import track
from dualenc.analysis.solver import minimise
from dualenc.analysis.studies import MultiplicativeOptions

Term = Literal["per-object", "global"]
PROBES: dict[str, tuple[Term, ...]] = {
    "additive": (),
    "per-object": ("per-object",),
    "global": ("per-object", "global"),
}

VALIDATION_SHARE = 0.1
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
_TIES = 1e-9
_ITERATIONS = 300
_TOLERANCE = 1e-5


def multiplicative(scenes: Sequence[EmbeddedScenes], options: MultiplicativeOptions) -> dict[str, Any]:
    """Table `probes`: R^2 on training, validation and held-out scenes of each probe at each rank r.

    Raises InputError for a run without held-out objects (unless `coverage` draws them anew) and for an object count
    that the scenes do not have.
    """
    part = scenes_of_count(scenes, options.count)
    part = part.normalized() if options.normalized else part
    known = known_objects(part, options.coverage, seed=options.seed)
    rows = FitRows.of(part, known, validation=VALIDATION_SHARE, seed=options.seed)
    asked = [(name, rank) for name, terms in PROBES.items() for rank in (options.ranks if terms else [0])]
    table = []
    for name, rank in track("probes", asked):
        terms = PROBES[name]
        fit = fit_probe(part, rows, terms=terms, rank=rank, restarts=options.restarts, seed=options.seed)
        table.append({"probe": name, "rank": rank or None, **_row(fit, part, rows, options)})
    return {"notes": _notes(part, rows, options), "tables": {"Probes": table}}


def _row(
    fit: "MultiplicativeFit", scenes: EmbeddedScenes, rows: FitRows, options: MultiplicativeOptions
) -> dict[str, Any]:
    train, test = scenes.take(rows.train), scenes.take(rows.heldout)
    centre = test.embeddings.double().mean(0)
    asked = np.arange(test.num_scenes if test.varies else 0)  # none, where there is nothing to explain
    found = fit(test)[asked] - centre
    heldout = r2(test.embeddings[asked].double() - centre, found, test.objects[asked], seed=options.seed)
    return {
        "r2_train": r2_score(train.embeddings, fit(train)),
        "r2_validation": fit.r2_validation,
        "r2_heldout": heldout["r2"],
        "r2_heldout_interval": heldout["r2_interval"],
        "penalty": fit.penalty if fit.terms.terms else None,
        "iterations": fit.iterations,
        "gradient": fit.gradient,
    }


def _notes(scenes: EmbeddedScenes, rows: FitRows, options: MultiplicativeOptions) -> list[str]:
    slots = {
        "mention": "in order of mention",
        "place": "at fixed places",
        "none": "in no order, so that the global term is averaged over all",
    }
    largest = max(scenes.space.sizes)
    return [
        f"{scenes.num_objects} objects, {slots[scenes.slots]}; fitted on {len(rows.train):,} scenes of "
        f"{len(rows.known):,} objects, penalty and restart chosen on {len(rows.validation):,} scenes that show known "
        f"objects which the fit had not seen, then fitted to both; held-out R^2 on {len(rows.heldout):,} scenes of the "
        "other objects.",
        f"Products of rank {largest} or more (the largest concept) fit any function of two concepts: a high training "
        f"R^2 says nothing there, the held-out R^2 does. Best of {options.restarts} from different starts.",
    ]


@dataclass(frozen=True, eq=False)
class MultiplicativeFit:
    """A fitted probe: call it with scenes to get their reconstructed embeddings, [n, d] in float64.

    r2_validation: before it was fitted to the validation scenes too.
    """

    terms: "_Terms"
    tables: Float[Tensor, "rows rank"]
    readout: "_Readout"
    penalty: float
    iterations: int
    gradient: float
    r2_validation: float | None = None

    def __call__(self, scenes: EmbeddedScenes) -> Float[Tensor, "n d"]:
        """Reconstructed embeddings."""
        inputs = self.terms.inputs(scenes)
        return self.readout(torch.cat([inputs.plain, _products(inputs, self.tables)], dim=1))


def fit_probe(
    scenes: EmbeddedScenes, rows: FitRows, *, terms: tuple[Term, ...], rank: int, restarts: int = 3, seed: int = 0
) -> MultiplicativeFit:
    """The probe with the least squared error, relative to the variance, + penalty * (the products' mean squared table
    entries and squared weights), which drops the products that explain little.

    The penalty, of `PENALTIES`, and the restart are those with the least error on `rows.validation`, which hold
    objects that the fit has not seen; from there it is fitted again to training and validation scenes together. Given
    the products all else is linear and has a closed form, so that L-BFGS works on their tables alone: variable
    projection (Golub and Pereyra 1973, SIAM Journal on Numerical Analysis 10). The additive probe has nothing left to
    iterate. In float64, a function of the seed. Raises ValueError where held-out objects leak into the fit.
    """
    rows.check(scenes)
    shape = _Terms(scenes, terms)
    problem, validation = _Problem(shape, scenes.take(rows.train)), scenes.take(rows.validation)
    best: MultiplicativeFit | None = None
    best_r2 = -np.inf
    for restart in range(restarts if terms else 1):
        tables = np.random.default_rng([seed, restart]).normal(size=(shape.num_rows, rank))
        for penalty in PENALTIES if terms else PENALTIES[:1]:
            fit = problem.fit(tables, penalty)
            tables = fit.tables.cpu().numpy()
            found = r2_score(validation.embeddings, fit(validation))
            if found > best_r2:
                best, best_r2 = fit, found
    assert best is not None
    known = scenes.take(np.concatenate([rows.train, rows.validation]))
    return replace(_Problem(shape, known).fit(best.tables.cpu().numpy(), best.penalty), r2_validation=best_r2)


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
    """The linear part: columns centred by `mean`, times `weight`, plus `bias`."""

    mean: Float[Tensor, "p"]
    weight: Float[Tensor, "p d"]
    bias: Float[Tensor, "d"]

    def __call__(self, columns: Float[Tensor, "n p"]) -> Float[Tensor, "n d"]:
        return (columns - self.mean) @ self.weight + self.bias


def _products(inputs: _Inputs, tables: Float[Tensor, "rows rank"]) -> Float[Tensor, "n _"]:
    """For each term its r products, averaged over summands; [n, 0] without terms."""
    products = [
        torch.stack([_product(tables, factors) for factors in index.unbind(1)]).mean(0) for index in inputs.products
    ]
    return torch.cat([inputs.plain[:, :0], *products], dim=1)


def _product(tables: Float[Tensor, "rows rank"], index: Int[Tensor, "n factors"]) -> Float[Tensor, "n rank"]:
    """Multiplied one after another: the gradient of `prod` would divide by factors near zero."""
    first, *others = (torch.nn.functional.embedding(factor, tables) for factor in index.unbind(1))
    for other in others:
        first = first * other
    return first


class _Problem:
    """The penalised least-squares problem of some scenes, with the additive part eliminated: what is left of targets
    and products is what the additive columns cannot say. Its value for given tables has a closed form."""

    def __init__(self, terms: _Terms, scenes: EmbeddedScenes) -> None:
        self.terms, self.inputs = terms, terms.inputs(scenes)
        target = scenes.embeddings.double()
        self.bias = target.mean(0)
        self.scale = ((target - self.bias) ** 2).sum(1).mean().sqrt().clamp(min=torch.finfo(target.dtype).tiny)
        self.target = (target - self.bias) / self.scale
        self.mean = self.inputs.plain.mean(0)
        plain = self.inputs.plain - self.mean
        size, axes = torch.linalg.eigh(plain.T @ plain / len(plain))
        kept = size > _TIES * size.max()
        self.solve = axes[:, kept] / size[kept].sqrt()
        self.basis = plain @ self.solve  # its columns are orthogonal, of mean square one
        self.left = self._without_additive(self.target)

    def _without_additive(self, columns: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        columns = columns - columns.mean(0)
        return columns - self.basis @ (self.basis.T @ columns) / len(columns)

    def fit(self, start: Float[np.ndarray, "rows rank"], penalty: float) -> MultiplicativeFit:
        """From these tables to the nearest optimum."""
        tables = torch.from_numpy(start).to(self.target).clone().requires_grad_()
        iterations, gradient = self._descend(tables, penalty) if len(start) else (0, 0.0)
        found = tables.detach()
        root, moment = self._normal_equations(found, penalty)
        weight = torch.cholesky_solve(moment, root)
        products = _products(self.inputs, found)
        unsaid = self.target - (products - products.mean(0)) @ weight
        additive = self.solve @ (self.basis.T @ unsaid) / len(unsaid)
        readout = _Readout(
            torch.cat([self.mean, products.mean(0)]), torch.cat([additive, weight]) * self.scale, self.bias
        )
        return MultiplicativeFit(self.terms, found, readout, penalty, iterations, gradient)

    def _descend(self, tables: Float[Tensor, "rows rank"], penalty: float) -> tuple[int, float]:
        def objective() -> Tensor:
            tables.grad = None
            root, moment = self._normal_equations(tables, penalty)
            explained = torch.linalg.solve_triangular(root, moment, upper=False)
            loss = (self.left**2).sum(1).mean() - (explained**2).sum()
            loss = loss + penalty * (tables**2).sum() / self.terms.space.num_values
            loss.backward()
            return loss.detach()

        return minimise(tables, objective, tolerance=_TOLERANCE, max_iterations=_ITERATIONS)

    def _normal_equations(
        self, tables: Float[Tensor, "rows rank"], penalty: float
    ) -> tuple[Float[Tensor, "c c"], Float[Tensor, "c d"]]:
        """For the products' weights: the root of their penalised Gram matrix, and their products with the targets."""
        products = self._without_additive(_products(self.inputs, tables))
        gram = products.T @ products / len(products) + penalty * torch.eye(products.shape[1]).to(products)
        return torch.linalg.cholesky(gram), products.T @ self.left / len(products)

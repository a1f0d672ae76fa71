"""Linear probes: what one linear layer can read from frozen embeddings, solved to convergence.

A probe is one softmax layer over all values of a concept, or over all objects, for scenes with several objects: its
target is spread evenly over what the scene holds, and it is right where every thing present scores above every absent
one, strictly (`dualenc.metrics.recognition`). Source: "How can embedding models bind concepts?" (arXiv 2605.31503),
Table 1, where probes train on 40% of the scenes for a fixed number of Adam steps; here the convex problem is solved.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dualenc.analysis.embedded import SAME, EmbeddedScenes
from dualenc.analysis.solver import HISTORY, minimise
from dualenc.errors import InputError
from dualenc.metrics import recognition

TRAIN_SHARE, VALIDATION_SHARE = 0.4, 0.1
L2_GRID = (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
_PATIENCE = 2  # smaller l2s in a row that are no better, after which none is tried
TOLERANCE = 1e-5
_SEARCH_TOLERANCE = 1e-3  # while the L2 is chosen: the order of the candidates is settled long before
_MAX_ITERATIONS = 5000
_BLOCK = 2**23  # scores held at once


@dataclass(frozen=True)
class SceneSplit:
    """Rows to train probes on, to choose their L2 on, and to report on; ascending, none in two of them.

    Raises ValueError for rows in two parts.
    """

    train: Int[np.ndarray, "t"]
    validation: Int[np.ndarray, "v"]
    test: Int[np.ndarray, "e"]

    def __post_init__(self) -> None:
        for (name, rows), (other, others) in combinations(vars(self).items(), 2):
            if common := len(np.intersect1d(rows, others)):
                raise ValueError(f"{common} scenes are both {name} and {other} scenes of the probes; keep them apart")

    def check(self, scenes: EmbeddedScenes) -> None:
        """Raises ValueError where scenes of one object set stand in two parts, which the rows alone do not show."""
        sets = object_sets(scenes.objects)
        for (name, rows), (other, others) in combinations(vars(self).items(), 2):
            if common := len(np.intersect1d(sets[rows], sets[others])):
                raise ValueError(f"{common} object sets are both in {name} and {other} scenes; use scene_split")


def object_sets(objects: Int[np.ndarray, "n m"]) -> Int[np.ndarray, "n"]:
    """A number for every scene, the same for scenes that hold the same objects in whatever order."""
    return np.unique(np.sort(objects, axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def scene_split(scenes: EmbeddedScenes, seed: int) -> SceneSplit:
    """40% of the object sets to train on, as published, 10% to validate, the rest to test; drawn by `seed`.

    All scenes of one object set go the same way: a second picture of the same objects, or the same objects in another
    order, would tell a probe its answer. Raises InputError for fewer than ten different object sets.
    """
    sets = object_sets(scenes.objects)
    number = int(sets.max()) + 1
    if number < 10:
        raise InputError(
            f"num_scenes: scenes of {scenes.num_objects} objects show {number} different sets of objects, too few for "
            "probes; use more scenes, until there are at least 10"
        )
    place = np.random.default_rng(seed).permutation(number)[sets] / number
    train, rest = place < TRAIN_SHARE, place >= TRAIN_SHARE + VALIDATION_SHARE
    return SceneSplit(*(np.flatnonzero(rows) for rows in (train, ~train & ~rest, rest)))


def present(numbers: Int[np.ndarray, "n m"], count: int) -> Bool[np.ndarray, "n count"]:
    """Which of `count` things each scene holds, given the numbers of those it does."""
    labels = np.zeros((len(numbers), count), dtype=bool)
    np.put_along_axis(labels, numbers, True, axis=1)
    return labels


@dataclass(frozen=True, eq=False)
class Probe:
    """scores = embeddings @ weight + bias. How it was found: `l2`, for embeddings of mean variance one; `gradient`, the
    largest entry of the objective's gradient at the end, in the coordinates of `fit_probe`."""

    weight: Float[Tensor, "d count"]
    bias: Float[Tensor, "count"]
    l2: float
    gradient: float
    iterations: int

    def scores(self, embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n count"]:
        """One score per thing."""
        return embeddings.to(self.weight) @ self.weight + self.bias

    def hits(self, embeddings: Float[Tensor, "n d"], labels: Bool[np.ndarray, "n count"]) -> Bool[np.ndarray, "n"]:
        """Whether each scene's present things all score above the absent ones."""
        step = max(1, _BLOCK // labels.shape[1])
        parts = [slice(start, start + step) for start in range(0, len(labels), step)]
        found = [recognition(self.scores(embeddings[part]).cpu(), torch.from_numpy(labels[part])) for part in parts]
        return torch.cat(found).numpy() if found else np.zeros(0, dtype=bool)


def probe_accuracy(probe: Probe, embeddings: Float[Tensor, "n d"], labels: Bool[np.ndarray, "n count"]) -> float:
    """Share of scenes whose present things all score above the absent ones."""
    return float(probe.hits(embeddings, labels).mean())


def concept_labels(scenes: EmbeddedScenes) -> list[Bool[np.ndarray, "n _"]]:
    """For each concept [n, V_k]: the values that a scene's objects have."""
    return [present(scenes.values[:, :, k], size) for k, size in enumerate(scenes.space.sizes)]


def object_labels(scenes: EmbeddedScenes) -> Bool[np.ndarray, "n _"]:
    """[n, |O|]: the objects of a scene."""
    return present(scenes.objects, scenes.space.num_objects)


def fit_probe(
    embeddings: Float[Tensor, "n d"],
    labels: Bool[np.ndarray, "n count"],
    *,
    split: SceneSplit,
    grid: Sequence[float] = L2_GRID,
    history: int = HISTORY,
) -> Probe:
    """A softmax layer that minimises cross-entropy + l2 / 2 ||weight||^2 on the training rows.

    A scene's target is spread over what it holds; the cross-entropy is a mean over the mentions of each class, summed
    over classes, so that a rare class counts as much as a frequent one. The l2 of `grid` with the most hits on the
    validation rows is taken, the larger one of equals; they are tried in descending order until two are no better than
    the best. Solved by L-BFGS in float64 until no entry of the gradient
    exceeds `TOLERANCE`, in coordinates where the Hessian is near the identity (principal axes, each divided by the
    root of its variance + l2), which changes the path and not the optimum: tens of iterations instead of thousands.
    `history`: steps that L-BFGS remembers; fewer take less memory, more iterations, and lead to the same optimum.
    The same on every call; computed on the device of `embeddings`.
    """
    problem = _Problem(embeddings[torch.from_numpy(split.train)], labels[split.train], history)
    validation, wanted = embeddings[torch.from_numpy(split.validation)], labels[split.validation]
    best, hits, worse = None, -1, 0
    start = None
    for l2 in sorted(grid, reverse=True):
        start = problem.solve(l2, _SEARCH_TOLERANCE, start=start)
        found = int(problem.probe(start).hits(validation, wanted).sum())
        worse = 0 if found > hits else worse + 1
        if found > hits:
            best, hits = start, found
        if found == len(wanted) or worse == _PATIENCE:
            break
    assert best is not None
    return problem.probe(problem.solve(best.l2, TOLERANCE, start=best))


@dataclass(frozen=True, eq=False)
class _Solution:
    weight: Float[Tensor, "p count"]  # in the problem's own coordinates
    l2: float
    gradient: float
    iterations: int


class _Problem:
    """Cross-entropy over the training rows, in the principal axes of the centred embeddings and one constant."""

    def __init__(
        self, embeddings: Float[Tensor, "n d"], labels: Bool[np.ndarray, "n count"], history: int = HISTORY
    ) -> None:
        x, self.history = embeddings.double(), history
        self.labels = torch.from_numpy(labels).to(x.device)  # a byte each; targets are made a block at a time
        self.mentions = self.labels.sum(0).clamp(min=1).to(x)
        mass = torch.cat([self._target(rows).sum(1, keepdim=True) for rows in self._blocks()])
        mass = mass / mass.sum()
        self.mean = (mass * x).sum(0)
        length = (mass * x**2).sum()
        x = x - self.mean
        variance, self.axes = torch.linalg.eigh(x.T @ (mass * x))
        variance = variance.clamp(min=0)
        if variance.sum() <= SAME * length:  # the same everywhere: what is left is the bias
            x, variance = torch.zeros_like(x), torch.zeros_like(variance)
        self.scale = variance.mean().sqrt() if variance.any() else x.new_ones(())
        self.x = torch.cat([x @ self.axes / self.scale, x.new_ones(len(x), 1)], dim=1)
        self.curvature = torch.cat([variance / self.scale**2, x.new_ones(1)])

    def _blocks(self) -> Iterator[slice]:
        """Rows whose scores are held at once."""
        num, step = len(self.labels), max(1, _BLOCK // self.labels.shape[1])
        return (slice(start, start + step) for start in range(0, num, step))

    def _target(self, rows: slice) -> Float[Tensor, "r count"]:
        """A share of each class's mentions."""
        return self.labels[rows].to(self.mentions) / self.mentions

    def solve(self, l2: float, tolerance: float, *, start: _Solution | None) -> _Solution:
        """The optimum for this `l2`, from the optimum for another."""
        decay = torch.full_like(self.curvature, l2)
        decay[-1] = 0  # the bias is free
        step = (self.curvature + decay).rsqrt()[:, None]
        weight = self.x.new_zeros(self.x.shape[1], self.labels.shape[1]) if start is None else start.weight / step
        weight.requires_grad_()

        def objective() -> Tensor:
            true = weight.detach() * step
            loss, gradient = self._cross_entropy(true)
            weight.grad = (gradient + decay[:, None] * true) * step
            return loss + (decay[:, None] * true**2).sum() / 2

        iterations, gradient = minimise(
            weight, objective, tolerance=tolerance, max_iterations=_MAX_ITERATIONS, history=self.history
        )
        return _Solution(weight.detach() * step, l2, gradient, iterations)

    def _cross_entropy(self, weight: Float[Tensor, "p count"]) -> tuple[Tensor, Float[Tensor, "p count"]]:
        """The loss and its gradient, over blocks of rows: a large number of objects costs time, not memory."""
        loss, gradient = self.x.new_zeros(()), torch.zeros_like(weight)
        for rows in self._blocks():
            x, target = self.x[rows], self._target(rows)
            scores = x @ weight
            norm, mass = scores.logsumexp(1, keepdim=True), target.sum(1, keepdim=True)
            loss += (mass * norm).sum() - (target * scores).sum()
            gradient += x.T @ (mass * (scores - norm).exp() - target)
        return loss, gradient

    def probe(self, solution: _Solution) -> Probe:
        """The solution for embeddings as they come."""
        weight = self.axes @ solution.weight[:-1] / self.scale
        bias = solution.weight[-1] - self.mean @ weight
        return Probe(weight, bias, solution.l2, solution.gradient, solution.iterations)

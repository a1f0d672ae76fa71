"""How complicated a function of its objects is an embedding? What small approximators make of scenes of new objects.

An approximator learns g(o_1, ..., o_m) -> embedding from the concept ids of scenes of some objects only. Linear probes,
fitted to the true embeddings of scenes of ALL objects, then read what it predicts for scenes of the others. Source:
"How can embedding models bind concepts?" (arXiv 2605.31503), section on capacity.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from dualenc.analysis.approximators import Examples, Training, fit_mlps, fit_trees, predict_trees
from dualenc.analysis.embedded import EmbeddedScenes
from dualenc.analysis.generalization import (
    FitRows,
    known_objects,
    one_hot,
    r2_score,
    scenes_of_count,
    slot_orders,
)
from dualenc.analysis.probes import concept_labels, object_labels, scene_split
from dualenc.analysis.progress import track
from dualenc.analysis.reading import Readers, fit_readers
from dualenc.analysis.studies import CapacityOptions
from dualenc.errors import InputError
from dualenc.metrics import bag_level, object_bootstrap
from dualenc.processes import become_worker, num_cores, worker_pool

_GROUP = 2**28
"""Hidden units times scenes that MLPs fitted together on a GPU may hold."""
_PADDING = 1.5
"""How much longer than the shortest the longest set of examples in such a group may be."""


@dataclass(frozen=True, order=True)
class Fit:
    """One fit to make. approximator: `mlp-WIDTH`, `forest` or `boosting`; draw: which of the draws of objects."""

    approximator: str
    coverage: float
    draw: int

    @property
    def width(self) -> int | None:
        """Of an MLP."""
        return int(self.approximator.removeprefix("mlp-")) if self.approximator.startswith("mlp-") else None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a fit does on its own scenes and on scenes of objects it has not seen. Per held-out scene, in the order of
    `objects`: squared error and variance, share of concepts and whether all objects are read from its prediction, and
    from the true embedding."""

    num_train: int
    r2_train: float
    objects: Int[np.ndarray, "h m"]
    found: dict[str, Shaped[np.ndarray, "h"]]


def capacity(scenes: Sequence[EmbeddedScenes], options: CapacityOptions) -> dict[str, Any]:
    """Table `Approximators`: one row for each approximator and coverage, over all draws of objects: R^2, and the share
    of concepts and scenes read from predictions, on scenes of held-out objects only.

    Raises InputError for an object count the scenes do not have, and where no coverage leaves objects on both sides.
    """
    part = scenes_of_count(scenes, options.count)
    part = part.normalized() if options.normalized else part
    split = scene_split(part, options.seed)
    probes, notes = fit_readers(part, split, objects=options.object_probe)
    study = CapacityStudy(part, probes, split.test, options)
    fits, left_out = study.fits()
    groups = study.groups(fits)
    outcomes = dict(track("fits", study.run(groups), total=len(fits)))
    rows = defaultdict(list)
    for fit in fits:
        rows[fit.approximator, fit.coverage].append(outcomes[fit])
    table = [
        {"approximator": name, "coverage": coverage, **summary(found, seed=options.seed)}
        for (name, coverage), found in rows.items()
    ]
    return {"notes": [*notes, *left_out, study.note()], "tables": {"Approximators": table}}


def summary(outcomes: Sequence[Outcome], *, seed: int) -> dict[str, Any]:
    """The columns of one row: means over the scenes of all draws, intervals over objects and draws. `r2_heldout` is
    None where nothing varies on the held-out scenes."""
    draws = np.repeat(np.arange(len(outcomes)), [len(o.objects) for o in outcomes])
    objects = np.concatenate([o.objects for o in outcomes])
    found = {name: np.concatenate([o.found[name] for o in outcomes]) for name in outcomes[0].found}

    def interval(values: np.ndarray, total: np.ndarray | None = None) -> list[float] | None:
        bounds = object_bootstrap(values, objects, denominators=total, split_seeds=draws, seed=seed)
        return None if bounds is None else list(bounds)

    error, variance = found.pop("error"), found.pop("variance")
    bounds = interval(error, variance)
    row: dict[str, Any] = {
        "draws": len(outcomes),
        "fitted_scenes": int(np.mean([o.num_train for o in outcomes])),
        "heldout_scenes": len(objects),
        "r2_train": float(np.mean([o.r2_train for o in outcomes])),
        "r2_heldout": float(1 - error.sum() / variance.sum()) if variance.any() else None,
        "r2_heldout_interval": bounds and [1 - bounds[1], 1 - bounds[0]],
    }
    for name, values in found.items():
        row |= {name: float(values.mean())}
        row |= {f"{name}_interval": interval(values)} if name.startswith("probe_") else {}
    return row


class CapacityStudy:
    """Makes the fits: `test` are the rows on which the probes may be asked."""

    def __init__(
        self, scenes: EmbeddedScenes, probes: Readers, test: Int[np.ndarray, "e"], options: CapacityOptions
    ) -> None:
        self.scenes, self.probes, self.test, self.options = scenes, probes, test, options
        self.orders = slot_orders(scenes)

    def fits(self) -> tuple[list[Fit], list[str]]:
        """All fits that the options ask for, and a note on each draw of objects that leaves too few scenes."""
        options = self.options
        names = [f"mlp-{width}" for width in options.widths]
        names += ["forest"] if options.forest else []
        names += ["boosting"] if options.boosting else []
        possible, notes, reason = [], [], ""
        for coverage, draw in product(options.coverages, range(options.draws)):
            try:
                self.rows(Fit("", coverage, draw))
                possible.append((coverage, draw))
            except InputError as error:
                reason = str(error)
                notes.append(f"Draw {draw} at coverage {coverage} is left out: {reason}.")
        if not possible:
            raise InputError(f"coverages: none can be fitted; {reason}")
        return [Fit(name, *place) for name in names for place in possible], notes

    def rows(self, fit: Fit) -> FitRows:
        """At most `fit_scenes` scenes of the objects that are fitted, and the probes' test scenes of all others."""
        seed = 1000 * self.options.seed + fit.draw
        rows = FitRows.of(self.scenes, known_objects(self.scenes, fit.coverage, seed=seed))
        heldout = np.intersect1d(rows.heldout, self.test)
        if len(heldout) < 2:
            raise InputError("scenes: none of held-out objects are left for the probes; use more scenes (num_scenes)")
        train = np.random.default_rng(seed).permutation(rows.train)[: self.options.fit_scenes]
        return replace(rows, train=np.sort(train), heldout=heldout)

    def groups(self, fits: Sequence[Fit]) -> list[list[Fit]]:
        """Fits to make together. On a GPU launches dominate: MLPs of one width on about as many scenes. On a CPU one by
        one: there stacking only spreads the work of one core over more memory."""
        if self.scenes.embeddings.device.type == "cpu":
            return [[fit] for fit in sorted(fits, key=lambda fit: -(fit.width or 0) * fit.coverage)]
        groups: list[list[Fit]] = []
        sizes = {fit: len(self.rows(fit).train) for fit in fits}
        for fit in sorted(fits, key=lambda fit: (fit.approximator, sizes[fit])):
            last = groups[-1] if groups else [fit]
            together = fit.width is not None and fit.approximator == last[0].approximator and bool(groups)
            units = (len(last) + 1) * sizes[fit] * (fit.width or 0)
            if together and sizes[fit] <= _PADDING * sizes[last[0]] and units <= _GROUP:
                last.append(fit)
            else:
                groups.append([fit])
        return groups

    def run(self, groups: Sequence[list[Fit]]) -> Iterator[tuple[Fit, Outcome]]:
        """The outcomes; on a CPU by one process for each core. The number of processes changes nothing."""
        workers = min(num_cores(), len(groups)) if self.options.workers is None else self.options.workers
        if workers == 1 or self.scenes.embeddings.device.type != "cpu":
            for group in groups:
                yield from self.outcomes(group)
            return
        with worker_pool(workers, _start, os.getpid(), self) as pool:
            for found in pool.map(_outcomes, groups):
                yield from found

    def outcomes(self, group: Sequence[Fit]) -> list[tuple[Fit, Outcome]]:
        """Fits of one group, made together."""
        rows = [self.rows(fit) for fit in group]
        for each in rows:
            each.check(self.scenes)
        scale = [_Scale.of(self.scenes.embeddings[each.train]) for each in rows]
        examples = [self._examples(fit, each, to) for fit, each, to in zip(group, rows, scale)]
        predictors = self._fit(group[0], examples)
        return [
            (fit, self._outcome(each, lambda inputs, p=predict, to=to: to.back(p(inputs))))  # type: ignore[misc]
            for fit, each, to, predict in zip(group, rows, scale, predictors)
        ]

    def _examples(self, fit: Fit, rows: FitRows, scale: "_Scale") -> Examples:
        """An unordered scene is an example in every order of its objects."""
        inputs = torch.cat([self._inputs(rows.train, order) for order in self.orders])
        targets = scale.to(self.scenes.embeddings[rows.train]).repeat(len(self.orders), 1)
        return Examples(inputs, targets, 1000 * self.options.seed + fit.draw)

    def _inputs(self, rows: Int[np.ndarray, "r"], order: Int[np.ndarray, "m"]) -> Float[Tensor, "r p"]:
        columns = one_hot(self.scenes.values[rows][:, order], self.scenes.space)
        return torch.from_numpy(columns).float().to(self.scenes.embeddings.device)

    def _fit(self, fit: Fit, examples: Sequence[Examples]) -> list[Any]:
        """A function of one-hot inputs for each set of examples."""
        outputs = self.scenes.embeddings.shape[1]
        if fit.width is None:
            models = [fit_trees(fit.approximator, e, trees=self.options.trees) for e in examples]  # type: ignore[arg-type]
            return [lambda x, model=model: predict_trees(model, x, outputs=outputs) for model in models]
        blocks = list(self.scenes.space.sizes) * self.scenes.num_objects
        training = Training(embedding=outputs, steps=self.options.steps, lr=self.options.lr)
        mlps = fit_mlps(examples, blocks, width=fit.width, training=training)
        return [lambda x, which=which: mlps.predict(which, x) for which in range(len(examples))]

    def _outcome(self, rows: FitRows, predict: Any) -> Outcome:
        """An unordered scene's prediction is the mean over all orders of its objects."""

        def predicted(which: Int[np.ndarray, "r"]) -> Float[Tensor, "r d"]:
            return torch.stack([predict(self._inputs(which, order)) for order in self.orders]).mean(0)

        true = self.scenes.take(rows.heldout)
        guess = replace(true, embeddings=predicted(rows.heldout))
        centre = true.embeddings.mean(0)
        spread = ((true.embeddings - centre) ** 2).sum(1).double().cpu().numpy()
        found = {
            "error": ((true.embeddings - guess.embeddings) ** 2).sum(1).double().cpu().numpy(),
            "variance": spread if true.varies else np.zeros_like(spread),
            **self._read(guess, "probe"),
            **self._read(true, "true"),
        }
        bag = bag_level(true.values)
        r2_train = r2_score(self.scenes.embeddings[rows.train], predicted(rows.train))
        return Outcome(len(rows.train), r2_train, true.objects, {**found, "bag_level": bag})

    def _read(self, scenes: EmbeddedScenes, name: str) -> dict[str, Shaped[np.ndarray, "h"]]:
        concepts, objects = self.probes
        hits = [probe.hits(scenes.embeddings, labels) for probe, labels in zip(concepts, concept_labels(scenes))]
        found = {f"{name}_concepts": np.mean(hits, axis=0)}
        if objects is not None:
            found[f"{name}_objects"] = objects.hits(scenes.embeddings, object_labels(scenes))
        return found

    def note(self) -> str:
        """What the table's figures are."""
        slots = "in all orders of their objects, predictions averaged" if len(self.orders) > 1 else "with ordered slots"
        return (
            f"Scenes {slots}. Probes were fitted to true embeddings of scenes of all objects; they are asked on other "
            f"scenes, all of whose objects are new to the approximator; `true_` is what they read there from the true "
            f"embeddings. Objects are among {self.scenes.space.num_objects:,}; `bag_level` is what a bag of concepts "
            "would reach."
        )


@dataclass(frozen=True, eq=False)
class _Scale:
    """Targets are centred and brought to a mean variance of one, so that one learning rate suits all towers."""

    mean: Float[Tensor, "d"]
    size: Float[Tensor, ""]

    @classmethod
    def of(cls, embeddings: Float[Tensor, "n d"]) -> "_Scale":
        size = (embeddings - embeddings.mean(0)).square().mean().sqrt()
        return cls(embeddings.mean(0), size.clamp(min=torch.finfo(size.dtype).tiny))

    def to(self, embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return ((embeddings - self.mean) / self.size).float()

    def back(self, predicted: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return predicted.to(self.mean) * self.size + self.mean


_study: CapacityStudy | None = None


def _start(parent: int, study: CapacityStudy) -> None:
    global _study
    become_worker(parent)
    torch.set_num_threads(1)
    _study = study


def _outcomes(group: Sequence[Fit]) -> list[tuple[Fit, Outcome]]:
    assert _study is not None
    return _study.outcomes(group)

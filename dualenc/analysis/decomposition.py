"""Are scenes sums of object vectors (Level I), and those sums of concept vectors (Level II)?

Source: "How can embedding models bind concepts?" (arXiv 2605.31503), section 3. The published protocol reconstructs
the scenes that the averages were taken from (`same` below); `held out` takes the averages from half of the object
sets and reconstructs the other half.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int

from dualenc.analysis.embedded import EmbeddedScenes
from dualenc.analysis.measures import r2, share
from dualenc.analysis.nearest import Gallery, set_numbers
from dualenc.analysis.probes import SceneSplit, scene_split
from dualenc.analysis.reading import fit_readers, readings
from dualenc.analysis.studies import DecompositionOptions
from dualenc.analysis.tables import Estimator, ObjectTable, average_table, scene_weights
from dualenc.errors import InputError


def decomposition(scenes: Sequence[EmbeddedScenes], options: DecompositionOptions) -> dict[str, Any]:
    """Tables `level_1`, `level_2` (per object count, embeddings raw or of length one, estimator, scenes) and
    `concept_vectors` (how far the object vectors themselves are sums), with notes on what was left out.

    R^2, retrieval (the nearest real scene, by cosine of centred vectors, shows the same objects) and probing (linear
    probes fitted to true embeddings read the reconstruction). Intervals resample objects, the tables are not
    estimated again. Raises InputError where no scene has two objects.
    """
    notes: list[str] = []
    tables: dict[str, list[dict[str, Any]]] = {"Level I": [], "Level II": [], "Object vectors as concept sums": []}
    for part in several(scenes):
        notes += _notes(part, scenes)
        for kind, given in (("length one", part.normalized()), ("raw", part)):
            single = next((s for s in scenes if s.num_objects == 1), None)
            work = _Work(given, single and (single.normalized() if kind == "length one" else single), options)
            about = {"objects": part.num_objects, "embeddings": kind}
            notes += [note for note in work.notes if note not in notes]
            for level, rows in work.rows():
                tables[level] += [{**about, **row} for row in rows]
    return {"notes": notes, "tables": tables}


def several(scenes: Sequence[EmbeddedScenes]) -> list[EmbeddedScenes]:
    """Those of two objects or more. InputError where there are none."""
    found = [part for part in scenes if part.num_objects > 1]
    if not found:
        counts = ", ".join(str(part.num_objects) for part in scenes)
        raise InputError(f"scenes: have {counts} objects; this study needs scenes of two objects or more")
    return found


def estimators_of(part: EmbeddedScenes, single: EmbeddedScenes | None) -> list[Estimator]:
    """The estimators that these scenes allow."""
    found: list[Estimator] = ["avg"]
    if part.slots != "none":
        found.append("avg+pos")
    return found if single is None else [*found, "single-obj"]


def table_of(estimator: Estimator, part: EmbeddedScenes, single: EmbeddedScenes | None) -> ObjectTable:
    """The object vectors by one estimator from scenes of several objects, or from `single`, scenes of one; around the
    mean of `part`."""
    if estimator != "single-obj":
        return average_table(part, positions=estimator == "avg+pos")
    assert single is not None
    centre = average_table(part, positions=False).centre
    return replace(average_table(single, positions=False), centre=centre)


def _notes(part: EmbeddedScenes, scenes: Sequence[EmbeddedScenes]) -> list[str]:
    """What was done with scenes of one object count."""
    m, counts = part.num_objects, np.unique(part.objects, return_counts=True)[1]
    notes = [
        f"{m} objects: {part.num_scenes:,} scenes of {len(counts):,} of {part.space.num_objects:,} objects, each in "
        f"{counts.mean():.1f} on average, in at least {counts.min()}; {scene_weights(part)[1]}."
    ]
    if part.slots == "none":
        notes.append(f"{m} objects: avg+pos is left out, since the order of the objects means nothing here.")
    if not any(other.num_objects == 1 for other in scenes):
        notes.append(f"{m} objects: single-obj is left out, since there are no scenes of one object.")
    return notes


@dataclass(frozen=True, eq=False)
class _Task:
    """Averages from some rows, for the reconstruction of others."""

    name: str
    fit: EmbeddedScenes
    rows: Int[np.ndarray, "r"]


class _Work:
    """The measurements of scenes of one object count in one kind of embeddings."""

    def __init__(self, part: EmbeddedScenes, single: EmbeddedScenes | None, options: DecompositionOptions) -> None:
        self.part, self.single, self.options = part, single, options
        self.split: SceneSplit = scene_split(part, options.seed)
        self.split.check(part)
        self.probes, self.notes = fit_readers(part, self.split, objects=options.object_probe)
        (self.sets,) = set_numbers(part.objects)

    def rows(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """(title of a table, its rows)."""
        others = np.sort(np.concatenate([self.split.train, self.split.validation]))
        every = np.arange(self.part.num_scenes)
        tasks = (_Task("same", self.part, every), _Task("held out", self.part.take(others), self.split.test))
        test = self.part.take(self.split.test)
        truth = {"estimator": "true embeddings", "scenes": "held out", "status": "all", "num_scenes": test.num_scenes}
        yield "Level I", [{**truth, **readings(self.probes, test, seed=self.options.seed)}]
        for task in tasks:
            for estimator in estimators_of(self.part, self.single):
                table = table_of(estimator, task.fit, self.single)
                composed = table.composed(self.part.space)
                about = {"estimator": estimator, "scenes": task.name}
                yield "Level I", [{**about, **row} for row in self._reconstructed(table, task)]
                yield "Level II", [{**about, **row} for row in self._reconstructed(composed, task)]
                if task.name == "same":
                    yield "Object vectors as concept sums", [{"estimator": estimator, **self._composition(table)}]

    def _reconstructed(self, table: ObjectTable, task: _Task) -> Iterator[dict[str, Any]]:
        """A row for all scenes that can be reconstructed, and one for each status where a split is known."""
        known = task.rows[table.has(self.part.objects[task.rows]).all(axis=1)]
        groups = {"all": known}
        if self.part.train is not None:
            status = self.part.status[known]
            groups |= {name: known[status == name] for name in ("train", "heldout", "mixed") if (status == name).any()}
        for name, rows in groups.items():
            yield {"status": name, "num_scenes": len(rows), **self._measured(table, rows)}

    def _measured(self, table: ObjectTable, rows: Int[np.ndarray, "r"]) -> dict[str, Any]:
        seed, part = self.options.seed, self.part.take(rows)
        found = table.sums(part.objects)
        row = r2(part.embeddings.double() - table.centre, found, part.objects, seed=seed)
        asked = np.random.default_rng(seed).permutation(len(rows))[: self.options.num_queries]
        gallery = Gallery(self.part.embeddings.double() - table.centre, self.sets)
        hits = gallery.hits(found[torch.from_numpy(asked)], self.sets[rows[asked]])
        row |= share("retrieval", hits, part.objects[asked], seed=seed)
        row |= {"queries": len(asked), "candidates": len(self.sets), "chance": gallery.chance(self.sets[rows[asked]])}
        # probes have seen the true embeddings of their own training scenes
        apart = np.flatnonzero(np.isin(rows, self.split.test))
        read = replace(part.take(apart), embeddings=(found + table.centre)[torch.from_numpy(apart)])
        return row | readings(self.probes, read, seed=seed)

    def _composition(self, table: ObjectTable) -> dict[str, Any]:
        """R^2 of the object vectors themselves at Level II: on the objects that the concept tables were fitted to, and
        on others, the held-out ones where a split is known, else half of them."""
        number = len(table.ids)
        if self.part.train is not None:
            fitted, which = np.isin(table.ids, self.part.train), "held-out objects"
        else:
            order = np.random.default_rng(self.options.seed).permutation(number)
            fitted, which = order < number / 2, "the other half of the objects"
        whole, partial = table.composed(self.part.space), table.composed(self.part.space, fitted)
        return {
            "num_objects": number,
            "r2": _table_r2(table, whole, np.ones(number, dtype=bool)),
            "r2_other_objects": _table_r2(table, partial, ~fitted),
            "other_objects": which,
        }


def _table_r2(true: ObjectTable, found: ObjectTable, rows: Bool[np.ndarray, "k"]) -> float | None:
    """Around the mean of all vectors of a slot."""
    left = total = 0.0
    for vectors, other, known in zip(true.vectors, found.vectors, true.known):
        mean = vectors[torch.from_numpy(known)].mean(0)
        taken = torch.from_numpy(known & rows)
        left += float(((vectors - other)[taken] ** 2).sum())
        total += float(((vectors - mean)[taken] ** 2).sum())
    return 1 - left / total if total else None

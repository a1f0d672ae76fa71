"""Are scenes sums of object vectors (Level I), and those sums of concept vectors (Level II)?

Source: "How can embedding models bind concepts?" (arXiv 2605.31503), section 3. The published protocol reconstructs
the scenes that the averages were taken from, and reads them by probes that were trained on some of these (`same`
below). Either flatters: the averages hold a little of every scene, and of what a probe has learnt by heart, so that
object probes read the reconstruction of embeddings without any structure. For `held out`, averages, the scenes they
reconstruct and the scenes of the probes have no set of objects in common.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dualenc.analysis.embedded import EmbeddedScenes
from dualenc.analysis.measures import r2, share
from dualenc.analysis.nearest import Gallery, set_numbers
from dualenc.analysis.probes import SceneSplit, scene_split
from dualenc.analysis.reading import fit_readers, readings
from dualenc.analysis.studies import DecompositionOptions
from dualenc.analysis.tables import Estimator, ObjectTable, average_table, scene_weights
from dualenc.errors import InputError

FOLDS = 5


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
    """Those of two objects or more. InputError where there are none, and for embeddings that do not vary."""
    found = [part for part in scenes if part.num_objects > 1]
    if not found:
        counts = ", ".join(str(part.num_objects) for part in scenes)
        raise InputError(f"scenes: have {counts} objects; this study needs scenes of two objects or more")
    for part in found:
        part.check_varies()
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


def apart(scenes: EmbeddedScenes, split: SceneSplit, *, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds of the test scenes of the probes: (rows to take averages from, the rows of one fold), each fold once.

    Scenes of one object set are in one fold, so that no averages hold a scene that they are to reconstruct.
    """
    sets, place = np.unique(set_numbers(scenes.objects[split.test])[0], return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(sets))[place] % FOLDS
    return [(split.test[fold != i], split.test[fold == i]) for i in range(FOLDS) if (fold == i).any()]


class _Work:
    """The measurements of scenes of one object count in one kind of embeddings."""

    def __init__(self, part: EmbeddedScenes, single: EmbeddedScenes | None, options: DecompositionOptions) -> None:
        self.part, self.single, self.options = part, single, options
        self.split: SceneSplit = scene_split(part, options.seed)
        self.probes, self.notes = fit_readers(part, self.split, objects=options.object_probe)
        self.centre = average_table(part, positions=False).centre
        (self.sets,) = set_numbers(part.objects)
        self.gallery = Gallery(part.embeddings.double() - self.centre, self.sets)

    def rows(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """(title of a table, its rows)."""
        every = np.arange(self.part.num_scenes)
        pieces = {"same": [(every, every)], "held out": apart(self.part, self.split, seed=self.options.seed)}
        test = self.part.take(self.split.test)
        truth = {"estimator": "true embeddings", "scenes": "held out", "status": "all", "num_scenes": test.num_scenes}
        blank = dict.fromkeys(("r2", "retrieval", "queries", "candidates", "chance"))  # keeps the columns in order
        yield "Level I", [{**truth, **blank, **readings(self.probes, test, seed=self.options.seed)}]
        for scenes, folds in pieces.items():
            for estimator in estimators_of(self.part, self.single):
                tables = [table_of(estimator, self.part.take(fit), self.single) for fit, _ in folds]
                composed = [table.composed(self.part.space) for table in tables]
                about = {"estimator": estimator, "scenes": scenes}
                for title, found in (("Level I", tables), ("Level II", composed)):
                    yield title, [{**about, **row} for row in self._reconstructed(found, [rows for _, rows in folds])]
                if scenes == "same":
                    yield "Object vectors as concept sums", [{"estimator": estimator, **self._composition(tables[0])}]

    def _reconstructed(self, tables: list[ObjectTable], folds: list[np.ndarray]) -> Iterator[dict[str, Any]]:
        """A row for all scenes that can be reconstructed, and one for each status where a split is known."""
        known = [rows[table.has(self.part.objects[rows]).all(axis=1)] for table, rows in zip(tables, folds)]
        found = torch.cat([t.sums(self.part.objects[rows]) + t.centre for t, rows in zip(tables, known)])
        rows = np.concatenate(known)
        groups = {"all": np.ones(len(rows), dtype=bool)}
        if self.part.train is not None:
            status = self.part.status[rows]
            groups |= {name: status == name for name in ("train", "heldout", "mixed") if (status == name).any()}
        for name, taken in groups.items():
            measured = self._measured(found[torch.from_numpy(taken)], rows[taken]) if taken.any() else {}
            yield {"status": name, "num_scenes": int(taken.sum()), **measured}

    def _measured(self, found: Float[Tensor, "r d"], rows: Int[np.ndarray, "r"]) -> dict[str, Any]:
        """found: the reconstruction of scenes `rows`."""
        seed, part = self.options.seed, self.part.take(rows)
        row = r2(part.embeddings.double() - self.centre, found - self.centre, part.objects, seed=seed)
        asked = np.random.default_rng(seed).permutation(len(rows))[: self.options.num_queries]
        wanted = self.sets[rows[asked]]
        hits = self.gallery.hits((found - self.centre)[torch.from_numpy(asked)], wanted)
        row |= share("retrieval", hits, part.objects[asked], seed=seed)
        row |= {"queries": len(asked), "candidates": len(self.sets), "chance": self.gallery.chance(wanted)}
        unread = np.flatnonzero(np.isin(rows, self.split.test))
        if not len(unread):
            return row
        read = replace(part.take(unread), embeddings=found[torch.from_numpy(unread)])
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
        space, seed = self.part.space, self.options.seed
        whole = _table_r2(table, table.composed(space), np.ones(number, dtype=bool), seed=seed)
        others = _table_r2(table, table.composed(space, fitted), ~fitted, seed=seed)
        return {
            "num_objects": number,
            **whole,
            **{key.replace("r2", "r2_other_objects"): value for key, value in others.items()},
            "other_objects": which,
        }


def _table_r2(true: ObjectTable, found: ObjectTable, rows: Bool[np.ndarray, "k"], *, seed: int) -> dict[str, Any]:
    """Around the mean of all vectors of a slot, over all slots."""
    target, guess, ids = [], [], []
    for vectors, other, known in zip(true.vectors, found.vectors, true.known):
        mean, taken = vectors[torch.from_numpy(known)].mean(0), torch.from_numpy(known & rows)
        target.append((vectors - mean)[taken])
        guess.append((other - mean)[taken])
        ids.append(true.ids[known & rows])
    return r2(torch.cat(target), torch.cat(guess), np.concatenate(ids)[:, None], seed=seed)

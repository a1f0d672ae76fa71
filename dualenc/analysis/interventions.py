"""What changes when an object is exchanged in an embedding, or when parts of it are taken out.

Source: "How can embedding models bind concepts?" (arXiv 2605.31503), section on interventions. Editing adds and
subtracts object vectors; removal subtracts tables that were fitted by least squares, and reads what is left by probes
that are fitted anew. In the control of a removal the same tables are subtracted from the wrong places: as much is taken
out, read at permuted values or object ids.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dualenc.analysis.decomposition import apart, estimators_of, several, table_of
from dualenc.analysis.embedded import EmbeddedScenes
from dualenc.analysis.measures import share
from dualenc.analysis.nearest import Gallery, set_numbers
from dualenc.analysis.probes import SceneSplit, scene_split
from dualenc.analysis.reading import Readers, fit_readers, merged, readings
from dualenc.analysis.studies import InterventionsOptions
from dualenc.analysis.tables import ObjectTable, least_squares, sum_entries
from dualenc.errors import InputError

CONTROL = (
    "The permutation of a control is the same in all scenes, so that what it subtracts marks values and objects too: "
    "it controls for how much is taken out, and probes may even read more after it."
)


def interventions(scenes: Sequence[EmbeddedScenes], options: InterventionsOptions) -> dict[str, Any]:
    """Tables `Object editing` (per object count, estimator and status of what was made) and `Targeted removal`.

    Raises InputError where no scene has two objects.
    """
    notes: list[str] = []
    edited, removed = [], []
    single = next((s for s in scenes if s.num_objects == 1), None)
    for part in several(scenes):
        about = {"objects": part.num_objects}
        given = part.normalized() if options.normalized else part
        lone = single.normalized() if single is not None and options.normalized else single
        split = scene_split(given, options.seed)
        readers, more = fit_readers(given, split, objects=options.object_probe)
        notes = merged(notes, more)
        editing = _Editing(given, lone, split, readers, options)
        notes.append(editing.note)
        edited += [{**about, **row} for row in editing.rows()]
        for row, more in _removals(given, split, readers, options):
            removed.append({**about, **row})
            notes = merged(notes, more)
    kind = "length one" if options.normalized else "as the tower gave them"
    notes.insert(0, f"Embeddings: {kind}.")
    notes.append(CONTROL)
    return {"notes": notes, "tables": {"Object editing": edited, "Targeted removal": removed}}


class Counterfactuals(NamedTuple):
    """Edits of scenes `rows` [e]: the object in `slot` [e] becomes `new` [e]; some real scene shows the objects that
    this makes."""

    rows: Int[np.ndarray, "e"]
    slot: Int[np.ndarray, "e"]
    new: Int[np.ndarray, "e"]

    def made(self, objects: Int[np.ndarray, "n m"]) -> Int[np.ndarray, "e m"]:
        """The objects of the edited scenes, those of all scenes given."""
        made = objects[self.rows]
        made[np.arange(len(made)), self.slot] = self.new
        return made


def counterfactuals(
    objects: Int[np.ndarray, "n m"], rows: Int[np.ndarray, "r"], number: int, *, seed: int
) -> Counterfactuals:
    """Edits of at most `number` of the scenes `rows`, one each: a slot drawn at random, and another object drawn from
    the scenes among `rows` that hold the same other objects. A scene without such is left out."""
    rng = np.random.default_rng(seed)
    asked, m = objects[rows], objects.shape[1]
    rest = np.stack([np.delete(asked, i, axis=1) for i in range(m)], axis=1).reshape(len(rows) * m, m - 1)
    (group,) = set_numbers(rest)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 2))
    chosen = rng.permutation(len(rows))[:number]
    slots, draws = rng.integers(m, size=len(chosen)), rng.random(len(chosen))
    flat, found = asked.reshape(-1), []
    for row, slot, draw in zip(chosen.tolist(), slots.tolist(), draws.tolist()):
        g = group[row * m + slot]
        others = flat[order[starts[g] : starts[g + 1]]]
        others = others[others != asked[row, slot]]
        if len(others):
            found.append((rows[row], slot, others[int(draw * len(others))]))
    return Counterfactuals(*np.array(found, dtype=np.int64).reshape(-1, 3).T)


class _Editing:
    """z~ = f(s) - u_o + u_o': is the nearest real scene the one that was meant, and do probes read it?"""

    def __init__(
        self,
        part: EmbeddedScenes,
        single: EmbeddedScenes | None,
        split: SceneSplit,
        readers: Readers,
        options: InterventionsOptions,
    ) -> None:
        self.part, self.single, self.readers, self.seed = part, single, readers, options.seed
        self.folds = apart(part, split, seed=options.seed)
        each = -(-options.num_edits // len(self.folds))
        self.edits = [
            counterfactuals(part.objects, rows, each, seed=options.seed + i) for i, (_, rows) in enumerate(self.folds)
        ]
        asked, made = (
            sum(parts)
            for parts in ([min(each, len(rows)) for _, rows in self.folds], [len(e.rows) for e in self.edits])
        )
        self.note = f"{part.num_objects} objects: {made:,} of {asked:,} scenes have an edit that makes a real scene."
        if not made:
            raise InputError(
                f"num_scenes: no two of the {part.num_scenes} scenes of {part.num_objects} objects differ in one "
                "object; embed more scenes, or scenes of fewer different objects"
            )
        self.centre = part.embeddings.double().mean(0)

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row for no edit at all, and one for each estimator, averages from all scenes (as published) and from scenes
        apart from those edited and made, and status of the edited scene."""
        nothing = [
            (self.part.embeddings[torch.from_numpy(e.rows)].double(), e.made(self.part.objects)) for e in self.edits
        ]
        yield from self._measured(nothing, {"estimator": "no edit", "scenes": "held out"})
        every = np.arange(self.part.num_scenes)
        for name, fits in (("same", [every] * len(self.folds)), ("held out", [fit for fit, _ in self.folds])):
            for estimator in estimators_of(self.part, self.single):
                tables = [table_of(estimator, self.part.take(fit), self.single) for fit in fits]
                edited = [self._edited(table, edits) for table, edits in zip(tables, self.edits)]
                yield from self._measured(edited, {"estimator": estimator, "scenes": name})

    def _edited(
        self, table: ObjectTable, edits: Counterfactuals
    ) -> tuple[Float[Tensor, "e d"], Int[np.ndarray, "e m"]]:
        """The edited vectors and the objects that they should show, where the table has both objects."""
        before, after = self.part.objects[edits.rows], edits.made(self.part.objects)
        kept = (table.has(before) & table.has(after)).all(axis=1)
        change = table.sums(after[kept]) - table.sums(before[kept])
        return self.part.embeddings[torch.from_numpy(edits.rows[kept])].double() + change, after[kept]

    def _measured(
        self, edited: Sequence[tuple[Float[Tensor, "_ d"], Int[np.ndarray, "_ m"]]], about: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        vectors = torch.cat([found for found, _ in edited])
        objects = np.concatenate([wanted for _, wanted in edited])
        if not len(objects):
            return
        made = replace(self.part, embeddings=vectors, objects=objects)
        sets, wanted = set_numbers(self.part.objects, objects)
        hits = Gallery(self.part.embeddings.double() - self.centre, sets).hits(vectors - self.centre, wanted)
        groups = {"all": np.ones(len(objects), dtype=bool)}
        if self.part.train is not None:
            status = made.status
            groups |= {name: status == name for name in ("train", "heldout", "mixed") if (status == name).any()}
        for name, rows in groups.items():
            row = {**about, "status": name, "num_scenes": int(rows.sum())}
            row |= share("retrieval", hits[rows], objects[rows], seed=self.seed) | {"candidates": len(sets)}
            yield row | readings(self.readers, made.take(rows), seed=self.seed)


def _removals(
    scenes: EmbeddedScenes, split: SceneSplit, readers: Readers, options: InterventionsOptions
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Rows of probes fitted anew after each removal, on scenes apart from those they were fitted to, with the notes of
    these fits; tables that all slots share, and, where slots mean something, tables per slot."""
    test = scenes.take(split.test)
    yield {"removed": "nothing", "tables": "", "share_removed": 0.0, **readings(readers, test, seed=options.seed)}, []
    z = scenes.embeddings.double()
    z = z - z.mean(0)
    for kind in ("shared", "per slot")[: 1 if scenes.slots == "none" else 2]:
        for name, parts in components(scenes, z, per_slot=kind == "per slot", seed=options.seed):
            left = replace(scenes, embeddings=z - parts)
            refitted, notes = fit_readers(left, split, objects=readers[1] is not None)
            about = {"removed": name, "tables": kind, "share_removed": float(parts.square().sum() / z.square().sum())}
            yield about | readings(refitted, left.take(split.test), seed=options.seed), notes


def components(
    scenes: EmbeddedScenes, z: Float[Tensor, "n d"], *, per_slot: bool, seed: int
) -> Iterator[tuple[str, Float[Tensor, "n d"]]]:
    """What is subtracted from centred embeddings z: the fitted sum of the vectors of a scene's values or objects, and
    for the controls the same tables, read at permuted values (within each concept) or permuted object ids."""
    rng = np.random.default_rng(seed)
    m, space = scenes.num_objects, scenes.space
    slots = np.arange(m)[None, :] if per_slot else np.zeros((1, m), dtype=np.int64)
    ids, places = np.unique(scenes.objects, return_inverse=True)
    places = places.reshape(scenes.objects.shape)
    values = scenes.values + space.offsets + space.num_values * slots[..., None]
    concepts = least_squares(values.reshape(len(values), -1), z, space.num_values * (m if per_slot else 1))
    objects = least_squares(places + len(ids) * slots, z, len(ids) * (m if per_slot else 1))
    moved = np.concatenate([offset + moved_round(size, rng) for offset, size in zip(space.offsets, space.sizes)])
    other_values = moved[scenes.values + space.offsets] + space.num_values * slots[..., None]
    yield "concepts", sum_entries(concepts, values.reshape(len(values), -1))
    yield "objects", sum_entries(objects, places + len(ids) * slots)
    yield "permuted concepts", sum_entries(concepts, other_values.reshape(len(values), -1))
    yield "permuted objects", sum_entries(objects, moved_round(len(ids), rng)[places] + len(ids) * slots)


def moved_round(number: int, rng: np.random.Generator) -> Int[np.ndarray, "number"]:
    """A random permutation of range(number) that leaves nothing in its place (if there are two things or more)."""
    order = rng.permutation(number)
    moved = np.empty(number, dtype=np.int64)
    moved[order] = np.roll(order, 1)
    return moved

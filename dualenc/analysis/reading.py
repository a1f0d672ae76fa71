"""Reading vectors by linear probes: with or without the probe of objects, as the rows of a study's tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dualenc.analysis.embedded import EmbeddedScenes
from dualenc.analysis.measures import share
from dualenc.analysis.memory import available_memory, in_words
from dualenc.analysis.probes import TRAIN_SHARE, Probe, SceneSplit, concept_labels, fit_probe, object_labels
from dualenc.analysis.solver import HISTORY
from dualenc.metrics import bag_level, recognition_chance

Readers = tuple[tuple[Probe, ...], Probe | None]
"""A probe per concept, and one of objects or None."""

_COPIES = 10  # of the object probe's table that its solution works on, beside two for each step that L-BFGS remembers
_SHORT_HISTORY = 3  # where memory is short


def fit_readers(scenes: EmbeddedScenes, split: SceneSplit, *, objects: bool) -> tuple[Readers, list[str]]:
    """Probes of the true embeddings, and notes: what chance would read, and what was left out.

    Scores of all |O| objects are made in blocks of scenes. Where the tables of the object probe do not fit into the
    memory that is free, it is solved with fewer of them, and left out only where that is still too much, or where it is
    not asked for.
    """
    split.check(scenes)
    concepts = tuple(fit_probe(scenes.embeddings, labels, split=split) for labels in concept_labels(scenes))
    notes = [chance_note(scenes, split)]
    if not objects:
        return (concepts, None), notes
    number, dim = scenes.space.num_objects, scenes.embeddings.shape[1]
    labels = scenes.num_scenes * number * (1 + TRAIN_SHARE)  # a byte each, and once more for the training scenes
    needed = {history: 8 * (_COPIES + 2 * history) * number * dim + labels for history in (HISTORY, _SHORT_HISTORY)}
    free = available_memory()
    history = next((history for history, size in needed.items() if size <= free), None)
    if history != HISTORY:
        size = in_words(needed[history or _SHORT_HISTORY])
        done = "Objects are probed with less memory, by more steps" if history else "Objects are not probed"
        notes.append(f"{done}: a probe of {number:,} objects needs {size} even so, {in_words(free)} are free.")
    if history is None:
        return (concepts, None), notes
    return (concepts, fit_probe(scenes.embeddings, object_labels(scenes), split=split, history=history)), notes


def merged(notes: Sequence[str], more: Sequence[str]) -> list[str]:
    """The notes, and those of a further fit that begin otherwise: other memory that was free then is no news."""
    known = {note.partition(":")[0] for note in notes}
    return [*notes, *(note for note in more if note.partition(":")[0] not in known)]


def chance_note(scenes: EmbeddedScenes, split: SceneSplit) -> str:
    """On how many scenes probes are fitted and asked, and what can be read there without knowing anything."""
    test = scenes.take(split.test)
    concepts = [recognition_chance(labels.shape[1], labels.sum(1)).mean() for labels in concept_labels(test)]
    number = scenes.space.num_objects
    different = 1 + (np.diff(np.sort(test.objects, axis=1), axis=1) > 0).sum(axis=1)
    return (
        f"{scenes.num_objects} objects, linear probes: {len(split.train):,} scenes to fit, {len(split.test):,} others "
        f"to test, of other objects or other combinations of them. By chance {np.mean(concepts):.3f} of the concepts "
        f"are read, and the objects of {recognition_chance(number, different).mean():.1g} of the scenes, among "
        f"{number:,}; a bag of concepts reads those of {bag_level(test.values).mean():.3f}."
    )


def readings(probes: Readers, scenes: EmbeddedScenes, *, seed: int) -> dict[str, Any]:
    """`probe_concepts`: share of a scene's concepts whose values all score above the absent ones, `probe_objects`: of
    scenes whose objects do; with intervals. `scenes` hold the vectors to read and the objects to find in them."""
    concepts, objects = probes
    labels = concept_labels(scenes)
    hits = np.stack([probe.hits(scenes.embeddings, wanted) for probe, wanted in zip(concepts, labels)], axis=1)
    row = share("probe_concepts", hits.mean(axis=1), scenes.objects, seed=seed)
    if objects is not None:
        found = objects.hits(scenes.embeddings, object_labels(scenes))
        row |= share("probe_objects", found, scenes.objects, seed=seed)
    return row

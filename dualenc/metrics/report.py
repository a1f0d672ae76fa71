"""All binding figures of one split under the names users rely on."""

import re

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from dualenc.metrics.bag import BagLevels, binding_gain
from dualenc.metrics.criterion import concept_labels, concept_recognition, recognition_chance
from dualenc.metrics.vocabulary import VocabularyRecognition


def binding_report(
    concept_scores: Float[Tensor, "n num_values"],
    vocabulary: VocabularyRecognition,
    *,
    values: Int[np.ndarray, "n m C"],
    sizes: tuple[int, ...],
    concept_names: tuple[str, ...],
    bags: BagLevels,
    split: str,
) -> dict[str, float | None]:
    """Recognition, chance, candidates, bag levels and binding gain of one split; keys carry no prefix.

    `concept_scores` as in `concept_recognition`, `vocabulary` from `recognition_blocks`, `bags` from `bag_levels`;
    `values` are the scenes' concept values padded with -1. For every key that says `recognition` there is the same
    key with `chance` and with `candidates`. Suffixes: `_same_status`, `_{concept}`, and `_m{count}` for scenes of
    `count` objects (identical ones counted). The gain is against the split ceiling on `val`, else the bag
    ceiling. Raises ValueError without scenes, and for a concept named like a suffix ("m2").
    """
    if not len(values):
        raise ValueError(f"split {split} has no scenes: nothing to report")
    clashing = [name for name in concept_names if re.fullmatch(r"m\d+", name)]
    if clashing:
        raise ValueError(f"concept {clashing[0]!r} clashes with the names of figures per object count: rename it")
    pooled, per_concept = (x.cpu().numpy() for x in concept_recognition(concept_scores, values, sizes=sizes))
    labels = concept_labels(values, sizes)
    figures = {
        "concept_recognition": pooled,
        "concept_chance": recognition_chance(sum(sizes), labels.sum(axis=1)),
        "concept_candidates": np.full(len(values), float(sum(sizes))),
        "object_recognition": vocabulary.recognised.numpy(),
        "object_chance": vocabulary.chance,
        "object_candidates": np.full(len(values), float(sum(vocabulary.num_candidates))),
        "bag_level": bags.level,
        "bag_ceiling": bags.ceiling,
    }
    report = _means(figures, _by_count(values))
    report["object_recognition_same_status"] = float(vocabulary.recognised_same_status.numpy().mean())
    report["object_chance_same_status"] = float(vocabulary.chance_same_status.mean())
    report["object_candidates_same_status"] = float(vocabulary.candidates_same_status.mean())
    report |= _per_concept(per_concept, labels, sizes, concept_names)
    report["bag_ceiling_split"] = None if bags.ceiling_split is None else float(bags.ceiling_split.mean())
    ceiling = bags.ceiling_split if split == "val" else bags.ceiling
    if ceiling is None:
        return report | {"binding_gain": None, "binding_gain_count": 0.0}
    return report | binding_gain(figures["object_recognition"], ceiling)


def _by_count(values: Int[np.ndarray, "n m C"]) -> dict[str, Bool[np.ndarray, "n"]]:
    """Groups of scenes by suffix: all of them, then those of each number of objects."""
    counts = (values[:, :, 0] >= 0).sum(axis=1)
    return {"": np.ones(len(values), dtype=bool)} | {f"_m{m}": counts == m for m in np.unique(counts)}


def _means(
    figures: dict[str, Bool[np.ndarray, "n"] | Float64[np.ndarray, "n"]], groups: dict[str, Bool[np.ndarray, "n"]]
) -> dict[str, float | None]:
    """Mean of every figure over every group, and the groups' sizes."""
    report: dict[str, float | None] = {}
    for suffix, rows in groups.items():
        report[f"num_scenes{suffix}"] = float(rows.sum())
        for name, per_scene in figures.items():
            report[name + suffix] = float(per_scene[rows].mean())
    return report


def _per_concept(
    recognised: Bool[np.ndarray, "n C"],
    labels: Bool[np.ndarray, "n num_values"],
    sizes: tuple[int, ...],
    concept_names: tuple[str, ...],
) -> dict[str, float | None]:
    """Concept recognition among the values of one concept, with its chance and candidates."""
    report: dict[str, float | None] = {}
    parts = np.split(labels, np.cumsum(sizes)[:-1], axis=1)
    for concept, (name, size, present) in enumerate(zip(concept_names, sizes, parts, strict=True)):
        report[f"concept_recognition_{name}"] = float(recognised[:, concept].mean())
        report[f"concept_chance_{name}"] = float(recognition_chance(size, present.sum(axis=1)).mean())
        report[f"concept_candidates_{name}"] = float(size)
    return report

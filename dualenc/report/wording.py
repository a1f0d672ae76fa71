"""Says in plain words what the headline numbers mean, without claiming more than they show."""

from collections.abc import Mapping
from math import sqrt
from typing import Any

from dualenc.report.results import format_count
from dualenc.report.results import format_number as number

SPLIT_MEANING = {
    "val": "seen objects, fresh scenes",
    "val_ood": "held-out objects, used to choose weights",
    "ood": "held-out objects, for reporting",
    "mixed": "seen and held-out objects in one scene",
}
CONCEPTS_KNOWN = 0.9
BINDS = 0.9
BINDS_MOSTLY = 0.5


def gain_ceiling_key(split: str) -> str:
    """The ceiling that binding gain is measured against: on `val` a bag may also remember the training objects."""
    return "val/bag_ceiling_split" if split == "val" else f"{split}/bag_ceiling"


def verdict(metrics: Mapping[str, Any]) -> list[str]:
    """Sentences on binding for seen and for held-out objects, on captions against edits, and on what one run shows."""
    held_out = next((s for s in ("ood", "val_ood") if f"{s}/object_recognition" in metrics), None)
    sentences = _collapse(metrics)
    if metrics.get("val/object_recognition") is not None:
        sentences.append(_binding("On seen objects (val)", "val", metrics))
    if held_out and metrics.get(f"{held_out}/object_recognition") is not None:
        sentences.append(_binding(f"On held-out objects ({held_out})", held_out, metrics))
        sentences += _captions(held_out, metrics)
    return sentences


def _collapse(metrics: Mapping[str, Any]) -> list[str]:
    towers = [name for name in ("scene", "query") if metrics.get(f"spectrum/{name}_collapsed")]
    if not towers:
        return []
    which = " and ".join(towers)
    return [f"Collapsed: the {which} tower{'s map' if len(towers) > 1 else ' maps'} everything to (almost) one point."]


def _binding(where: str, split: str, metrics: Mapping[str, Any]) -> str:
    concept, obj, gain, level, chance, candidates, num_scenes = (
        metrics.get(f"{split}/{key}")
        for key in (
            "concept_recognition",
            "object_recognition",
            "binding_gain",
            "bag_level",
            "object_chance",
            "object_candidates",
            "num_scenes",
        )
    )
    ceiling = metrics.get(gain_ceiling_key(split))
    score = f"object recognition {number(obj)} (chance {number(chance)}, {format_count(candidates)} candidates)"
    if concept is not None and concept < CONCEPTS_KNOWN:
        return (
            f"{where} the model does not yet recognise single concepts reliably (concept recognition "
            f"{number(concept)}), so {score} says little about binding."
        )
    if obj is None or gain is None or ceiling is None:
        return (
            f"{where} {score}; binding gain is undefined here, since no scene separates binding from a bag of concepts."
        )
    memory = " if it also remembers the training objects" if split == "val" else ""
    bag = f"a bag of concepts reaches {number(level)} in practice and at best {number(ceiling)}{memory}"
    error = sqrt(obj * (1 - obj) / num_scenes) if num_scenes else 0.0
    if gain >= BINDS:
        return f"{where} the model binds: {score}, where {bag}."
    if gain >= BINDS_MOSTLY:
        return f"{where} the model binds in most scenes: {score}, where {bag}; binding gain {number(gain)}."
    if obj > ceiling + 2 * error and gain > 0:
        return f"{where} the model binds in part: {score}, where {bag}; binding gain {number(gain)}."
    if level is not None and obj < level - 2 * error:
        return f"{where} the model shows no binding and stays below the bag level: {score}, where {bag}."
    return f"{where} there is no evidence of binding: {score}, where {bag}; knowing the concepts alone can explain it."


def _captions(split: str, metrics: Mapping[str, Any]) -> list[str]:
    swap, gain = metrics.get(f"{split}/caption_vs_swap"), metrics.get(f"{split}/binding_gain")
    if swap is None:
        return []
    text = f"There it scores the true caption above its swapped edit in {100 * swap:.1f} % of scenes (chance 50 %)"
    weak = gain is None or gain < BINDS_MOSTLY
    easier = ", an easier test with two candidates that does not imply binding against the whole vocabulary"
    return [f"{text}{easier if weak else ''}."]

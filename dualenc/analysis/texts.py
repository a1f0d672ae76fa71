"""Texts of two objects, "a {attribute} {object} and a {attribute} {object}", as embedding models are asked."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from dualenc.scenes import ConceptSpace

ATTRIBUTES = (
    *("red", "blue", "green", "yellow", "black", "white", "pink", "brown", "gray", "gold"),
    *("silver", "big", "small", "round", "old", "new", "wet", "dry", "hot", "cold"),
)
OBJECTS = (
    *("cube", "ball", "car", "dog", "cat", "bird", "house", "tree", "chair", "table"),
    *("cup", "book", "shoe", "hat", "boat", "bus", "horse", "fish", "flower", "clock"),
)


def text_space(num_attributes: int, num_objects: int) -> ConceptSpace:
    """The first words of both lists, common ones that a tokeniser keeps whole."""
    return ConceptSpace.named({"attribute": ATTRIBUTES[:num_attributes], "object": OBJECTS[:num_objects]})


def draw_pairs(space: ConceptSpace, number: int, *, seed: int) -> Int[np.ndarray, "n 2"]:
    """All ordered pairs of objects, identical ones included, as published; or, where that is more than `number`, so
    many of them, drawn without repetition, in ascending order."""
    total = space.num_objects**2
    if number >= total:
        rows = np.arange(total)
    else:
        rows = np.sort(np.random.default_rng(seed).choice(total, number, replace=False))
    return np.stack(np.divmod(rows, space.num_objects), axis=1)


def texts_of(space: ConceptSpace, objects: Int[np.ndarray, "n m"]) -> list[str]:
    """A text for each scene; "a" throughout, as published, so that the article says nothing about what follows."""
    names = [_object_text(space, values) for values in space.decode(np.arange(space.num_objects)).tolist()]
    return [" and ".join(names[i] for i in scene) for scene in objects.tolist()]


def _object_text(space: ConceptSpace, values: Sequence[int]) -> str:
    return " ".join(["a", *(names[value] for names, value in zip(space.values, values))])

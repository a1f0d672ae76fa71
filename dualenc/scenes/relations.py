"""Spatial relations between two objects: a pure function of their places and a margin.

An object is, say, left of another if its x is smaller by more than the scenes' `relation_margin`. In between, where
the two places differ by no more than the margin, neither "left of" nor "right of" holds, and neither is denied: see
`dualenc.scenes.truth`.
"""

from typing import TYPE_CHECKING

import numpy as np

from dualenc.errors import InputError

if TYPE_CHECKING:
    from dualenc.scenes.arrays import Scenes

RELATIONS = ("left of", "right of", "above", "below", "in front of", "behind")  # converses stand side by side
AXIS = np.array([0, 0, 1, 1, 1, 1])  # of the places
SIGN = np.array([1, -1, 1, -1, -1, 1])  # a stands in the relation to b if SIGN * (b - a) on the axis is positive
DIRECTION = np.array([0, 1, 2, 3, 3, 2])  # the first relation with the same axis and sign
STYLES: dict[str, tuple[str, ...]] = {
    "flat": ("left of", "right of", "above", "below"),  # the second axis runs down the picture
    "clevr": ("left of", "right of", "in front of", "behind"),  # the second axis runs on the ground to the viewer
}

POSITION_ERROR = 1e-4  # places are written with five digits: what is stated of them holds by this much more


def relations_of(style: str) -> tuple[str, ...]:
    """The relations that pictures of a style can show."""
    if style not in STYLES:
        raise InputError(f"style: {style!r} has no relations; use one of {', '.join(STYLES)}")
    return STYLES[style]


def relation_numbers(style: str, names: tuple[str, ...] | None = None) -> np.ndarray:
    """int64 [k]: the indices into RELATIONS of these relations, by default all of the style.

    InputError for a relation that the style does not have, and for none at all."""
    known = relations_of(style)
    names = known if names is None else names
    for name in names:
        if name not in known:
            raise InputError(f"relations: {name!r} is no relation of the {style} style; use {', '.join(known)}")
    if not names:
        raise InputError(f"relations: is empty; give at least one of {', '.join(known)}")
    return np.array([RELATIONS.index(name) for name in names], dtype=np.int64)


def converse(relation: int) -> int:
    """The relation that b has to a where a has `relation` to b."""
    return relation ^ 1


def holding(scenes: "Scenes", relation: np.ndarray | int) -> np.ndarray:
    """bool [..., n, m, m] for relation numbers [...]: whether object i of a scene definitely stands in a relation to
    object j. False where one of them is none; InputError where a present object has no place."""
    present = scenes.objects >= 0
    if np.isnan(scenes.positions[present]).any():
        raise InputError("scenes: relations need the places of all objects; give positions, or ask for no relations")
    places = scenes.positions.astype(np.float64)
    difference = np.moveaxis(places[:, None, :, :] - places[:, :, None, :], -1, 0)  # [2, n, i, j], of j from i
    sign = SIGN[relation]
    return difference[AXIS[relation]] * sign[..., None, None, None] > scenes.relation_margin


def relation_table(scenes: "Scenes", style: str) -> list[list[tuple[int, str, int]]]:
    """For each scene its definite relations as (slot a, name, slot b): a stands in it to b. Of each two converse
    relations the style's first one, so that every fact is listed once."""
    numbers = relation_numbers(style)[::2]
    held = holding(scenes, numbers)
    table: list[list[tuple[int, str, int]]] = [[] for _ in range(len(scenes))]
    for row, i, a, b in np.argwhere(held).tolist():
        table[i].append((a, RELATIONS[numbers[row]], b))
    return table

"""Logical forms: what a caption says, as numbers.

A form is an int32 array [K, 1 + C], one row for each conjunct. Column 0 is its kind:

    NONE            padding
    EXISTS          there is such an object
    ABSENT          no object of the scene is such an object
    EXACTLY + n     n such objects, no more and no fewer; n from 1 to MAX_NUMBER
    RELATION + r    as EXISTS, and the object of the previous row stands in relation r to this one (an index into
                    `dualenc.scenes.relations.RELATIONS`); the previous row is EXISTS or RELATION

The other columns are a value index of each concept, ANY where the words leave it open, `negated(v)` for any value but
v. Every object that EXISTS, EXACTLY and RELATION speak of is an object of its own: no object serves two rows.
"""

from collections.abc import Sequence

import numpy as np

from dualenc.scenes.limits import MAX_OBJECTS_OF_SCENE

NONE, EXISTS, ABSENT = 0, 1, 2
EXACTLY, RELATION = 16, 32
ANY = -1

MAX_NUMBER = MAX_OBJECTS_OF_SCENE + 1  # one more than a scene can hold, so that every scene has a wrong number

Row = tuple[int, ...]  # one row of a form: kind, then values


def negated(value: int) -> int:
    """The number that says "any value but `value`"; its own inverse."""
    return -2 - value


def is_exactly(kind: int) -> bool:
    """Whether a kind is EXACTLY some number."""
    return EXACTLY < kind < RELATION


def stack_forms(forms: Sequence[Sequence[Sequence[int]] | None], num_concepts: int) -> np.ndarray:
    """int32 [n, K, 1 + C]: forms of any lengths, padded with NONE; None is a form without rows."""
    length = max((len(form) for form in forms if form), default=0)
    padding = [NONE] + [ANY] * num_concepts
    rows = [[*map(list, form or ()), *[padding] * (length - len(form or ()))] for form in forms]
    return np.array(rows, dtype=np.int32).reshape(len(forms), length, 1 + num_concepts)

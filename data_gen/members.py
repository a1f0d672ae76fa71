"""The members of a sample and how the index beside a shard lists them.

A row of an index is (offset, size) of every member in the order of MEMBERS, -1 where a sample lacks one. The first
four are always listed, the others up to the last one that some sample of the shard has.
"""

import numpy as np

IMAGE_FORMATS = ("jpg", "png")
MEMBERS = ("image", "txt", "json", "neg.txt", "opposite.image", "opposite.txt", "mask.png")
REQUIRED = ("image", "txt", "json")

_ALWAYS_LISTED = 4


def member_of(ending: str) -> str | None:
    """The member of MEMBERS whose file is KEY.`ending`; None where there is no such member."""
    front, _, last = ending.rpartition(".")
    name = ".".join(filter(None, [front, "image"])) if last in IMAGE_FORMATS and front in ("", "opposite") else ending
    return name if name in MEMBERS else None


def listed_columns(offsets: np.ndarray) -> np.ndarray:
    """The columns of int64 [num_samples, 2 * len(MEMBERS)] offsets and sizes that an index keeps."""
    present = np.flatnonzero(np.any(offsets[:, ::2] >= 0, axis=0))
    return offsets[:, : 2 * max(_ALWAYS_LISTED, present[-1] + 1 if len(present) else 0)]

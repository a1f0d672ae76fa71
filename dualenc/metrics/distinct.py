"""Counting distinct entries of padded integer arrays: scenes are multisets, the metrics speak of sets."""

import numpy as np
from jaxtyping import Bool, Int, Int64


def first_of_each(ordered: Int[np.ndarray, "n m"]) -> Bool[np.ndarray, "n m"]:
    """True at the first entry of each distinct value of every ascending row; -1 (padding) is never one."""
    return np.diff(ordered, axis=1, prepend=-1) != 0


def num_distinct(entries: Int[np.ndarray, "n m"]) -> Int64[np.ndarray, "n"]:
    """Number of distinct entries in each row, padding (-1) left out."""
    return first_of_each(np.sort(entries, axis=1)).sum(axis=1, dtype=np.int64)


def row_major_ids(values: Int[np.ndarray, "n m C"], sizes: tuple[int, ...]) -> Int64[np.ndarray, "n m"]:
    """Object id of every object, -1 where the scene has none: the row-major index of its concept values."""
    ids = np.zeros(values.shape[:2], dtype=np.int64)
    for concept, size in enumerate(sizes):
        ids = ids * size + values[:, :, concept]
    return np.where(values[:, :, 0] >= 0, ids, -1)

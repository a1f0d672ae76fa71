"""Confusion of bound attributes: which values does the preferred object carry instead of the true ones?"""

import numpy as np
from jaxtyping import Int, Int64

from dualenc.metrics.distinct import row_major_ids


def attribute_confusion(
    values: Int[np.ndarray, "n m C"], preferred: Int[np.ndarray, "n k"], *, sizes: tuple[int, ...]
) -> tuple[Int64[np.ndarray, "_ _"], ...]:
    """For each concept k a [V_k, V_k] count: row = value of an object of the scene, column = value preferred.

    A scene with m distinct objects is compared with its m highest scoring objects (`preferred`, ids best first,
    k >= m, as `VocabularyRecognition.preferred`). The two sets are paired greedily by the number of concept
    values in common, so objects found pair with themselves; then earlier slots and higher scores first. Every
    pair counts once per concept: rows sum to how often the value occurs among the scenes' distinct objects, and
    all mass is on the diagonals exactly when every preferred object is in its scene.
    """
    ids = row_major_ids(values, sizes)
    m = ids.shape[1]
    repeated = np.tril(ids[:, :, None] == ids[:, None, :], k=-1).any(axis=2)
    true_open = (ids >= 0) & ~repeated
    guess_open = np.arange(m) < true_open.sum(axis=1, keepdims=True)
    if preferred.shape[1] < m or (preferred[:, :m][guess_open] < 0).any():
        raise ValueError("preferred must hold one object id for every distinct object of a scene")
    guesses = np.stack(np.unravel_index(preferred[:, :m].clip(min=0), sizes), axis=2)

    overlap = (values[:, :, None] == guesses[:, None]).sum(axis=3)
    overlap = np.where(true_open[:, :, None] & guess_open[:, None], overlap, -1)
    matrices = tuple(np.zeros((size, size), dtype=np.int64) for size in sizes)
    rows = np.arange(len(values))
    for _ in range(m):
        slot, guess = np.divmod(overlap.reshape(len(values), -1).argmax(axis=1), m)
        pair = overlap[rows, slot, guess] >= 0
        for concept, matrix in enumerate(matrices):
            true_value, guess_value = values[rows, slot, concept], guesses[rows, guess, concept]
            np.add.at(matrix, (true_value[pair], guess_value[pair]), 1)
        overlap[rows, slot, :] = -1
        overlap[rows, :, guess] = -1
    return matrices

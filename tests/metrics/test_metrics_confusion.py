"""Confusion of bound attributes."""

import numpy as np
import pytest

from dualenc.metrics import attribute_confusion

SIZES = (3, 2)  # id = 2 * a + b


def test_perfect_preference_is_diagonal_and_rows_count_the_values():
    values = np.array([[[0, 0], [2, 1]], [[1, 1], [-1, -1]], [[2, 0], [2, 0]]])
    first, second = attribute_confusion(values, np.array([[5, 0], [3, 0], [4, 1]]), sizes=SIZES)
    assert first.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 2]]
    assert second.tolist() == [[2, 0], [0, 2]]


def test_found_objects_pair_with_themselves_before_the_rest():
    values = np.array([[[0, 0], [2, 1]]])  # ids 0 and 5
    first, second = attribute_confusion(values, np.array([[4, 0]]), sizes=SIZES)  # 4 = (2, 0) instead of (2, 1)
    assert first.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert second.tolist() == [[1, 0], [1, 0]]
    first, second = attribute_confusion(values, np.array([[1, 4]]), sizes=SIZES)  # swapped: (0, 1) and (2, 0)
    assert first.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert second.tolist() == [[0, 1], [1, 0]]


def test_every_distinct_object_is_counted_once():
    rng = np.random.default_rng(0)
    values = np.stack([rng.integers(0, size, (50, 3)) for size in (4, 5)], axis=2).astype(np.int16)
    values[:20, 2] = -1
    preferred = np.stack([rng.permutation(20)[:4] for _ in range(50)])
    first, second = attribute_confusion(values, preferred, sizes=(4, 5))
    distinct = [{tuple(o) for o in scene.tolist() if o[0] >= 0} for scene in values]
    assert any(len(d) < 3 for d in distinct[20:])
    for concept, matrix in enumerate((first, second)):
        expected = np.bincount([o[concept] for d in distinct for o in d], minlength=len(matrix))
        assert matrix.sum(axis=1).tolist() == expected.tolist()
    columns = np.bincount([p for d, row in zip(distinct, preferred, strict=True) for p in row[: len(d)] // 5])
    assert first.sum(axis=0).tolist() == columns.tolist()


def test_too_few_preferred_objects_are_refused():
    values = np.array([[[0, 0], [2, 1]]])
    for preferred in ([[1]], [[1, -1]]):
        with pytest.raises(ValueError, match="one object id for every"):
            attribute_confusion(values, np.array(preferred), sizes=SIZES)

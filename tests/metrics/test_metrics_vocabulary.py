"""Blocked object recognition must equal the dense definition, whatever the blocks."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import dualenc.metrics.vocabulary as vocabulary
from dualenc.metrics import VocabularyRecognition, recognition, recognition_blocks


def blocks(queries: torch.Tensor, size: int) -> Iterator[tuple[int, torch.Tensor]]:
    return ((start, queries[start : start + size]) for start in range(0, len(queries), size))


def problem(seed: int, *, n: int = 60, num_objects: int = 37, m: int = 3, d: int = 4):
    """Small integer embeddings: scores are exact, so ties are real and results do not depend on blocks."""
    rng = np.random.default_rng(seed)
    queries = torch.as_tensor(rng.integers(-2, 3, (num_objects, d)), dtype=torch.float32)
    objects = rng.integers(0, num_objects, (n, m))  # identical objects included
    objects[:, 1:][rng.random((n, m - 1)) < 0.3] = -1
    own = queries[torch.as_tensor(objects.clip(min=0))] * torch.as_tensor(objects >= 0)[:, :, None]
    scenes = 3 * own.sum(1) + torch.as_tensor(rng.integers(-1, 2, (n, d)))
    status = rng.integers(0, 3, num_objects).astype(np.int8)
    return scenes, queries, objects, status


def dense_labels(objects: np.ndarray, num_objects: int) -> np.ndarray:
    return (objects[:, :, None] == np.arange(num_objects)).any(axis=1)


@pytest.mark.parametrize("block", [1, 5, 16, 37, 100])
@pytest.mark.parametrize("seed", [0, 1])
def test_blocks_equal_the_dense_matrix(seed: int, block: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vocabulary, "_ROWS", 7)
    monkeypatch.setattr(vocabulary, "_COLUMNS", 4)
    scenes, queries, objects, status = problem(seed)
    result = recognition_blocks(scenes, blocks(queries, block), objects=objects, status=status)
    scores, labels = scenes @ queries.T, torch.as_tensor(dense_labels(objects, 37))

    dense = recognition(scores, labels)
    assert 0 < dense.sum() < len(dense)
    assert torch.equal(result.recognised, dense)
    same = torch.ones(len(scenes), dtype=torch.bool)
    for columns in (torch.as_tensor(status == 0), torch.as_tensor(status != 0)):
        rows = labels[:, columns].any(1)
        same[rows] &= recognition(scores[rows][:, columns], labels[rows][:, columns])
    assert torch.equal(result.recognised_same_status, same)
    assert (same & ~dense).any()  # the two differ somewhere

    worst_own = scores.masked_fill(~labels, math.inf).amin(1)
    best_wrong = scores.masked_fill(labels, -math.inf).amax(1)
    assert torch.equal(result.margin, worst_own - best_wrong)
    assert torch.equal(scores.gather(1, result.best_negative[:, None])[:, 0], best_wrong)
    assert not labels.gather(1, result.best_negative[:, None]).any()
    assert torch.equal(scores.gather(1, result.preferred), scores.topk(3).values)
    assert all(len(set(row)) == 3 for row in result.preferred.tolist())


def test_a_tie_is_a_miss_and_the_wrong_object_is_preferred():
    queries, scenes = torch.tensor([[1.0], [1.0], [0.0]]), torch.tensor([[1.0]])
    result = recognition_blocks(scenes, blocks(queries, 2), objects=np.array([[0]]), status=np.zeros(3, dtype=np.int8))
    assert not result.recognised
    assert result.margin.item() == 0.0
    assert result.preferred.tolist() == [[1]]
    assert result.best_negative.tolist() == [1]


def test_same_status_by_hand():
    """Scene {0 train, 2 held-out}: a train negative between the two spoils only the overall figure."""
    queries = torch.tensor([[0.9], [0.5], [0.4], [0.1]])
    status = np.array([0, 0, 1, 2], dtype=np.int8)
    result = recognition_blocks(torch.ones(1, 1), blocks(queries, 4), objects=np.array([[0, 2]]), status=status)
    assert not result.recognised
    assert result.recognised_same_status
    assert result.num_positives.tolist() == [[1, 1]]
    assert result.chance.tolist() == [1 / 6]
    assert result.chance_same_status.tolist() == [1 / 4]
    assert result.candidates_same_status.tolist() == [4]
    only_heldout = recognition_blocks(torch.ones(1, 1), blocks(queries, 4), objects=np.array([[2, 2]]), status=status)
    assert not only_heldout.recognised
    assert only_heldout.recognised_same_status
    assert only_heldout.num_positives.tolist() == [[0, 1]]
    assert only_heldout.chance_same_status.tolist() == [1 / 2]
    assert only_heldout.candidates_same_status.tolist() == [2]


@pytest.mark.parametrize("num_objects", [2, 40])
def test_a_scene_of_all_objects_has_no_negatives(num_objects: int):
    every = np.arange(num_objects)[None, ::-1].copy()
    result = recognition_blocks(
        torch.ones(1, 1),
        blocks(torch.ones(num_objects, 1), 7),
        objects=every,
        status=np.zeros(num_objects, np.int8),
    )
    assert result.recognised
    assert result.margin.item() == math.inf
    assert result.best_negative.tolist() == [-1]
    assert sorted(result.preferred[0].tolist()) == list(range(num_objects))


def test_autocast_cannot_coarsen_the_scores():
    queries = torch.tensor([[1.0], [1.001]])  # one bfloat16 number
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = recognition_blocks(
            torch.ones(1, 1), blocks(queries, 2), objects=np.array([[1]]), status=np.zeros(2, np.int8)
        )
    assert result.recognised


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("row", [0, 2])
def test_broken_scores_are_refused(bad: float, row: int):
    queries = torch.ones(3, 1)
    queries[row] = bad
    with pytest.raises(ValueError, match="NaN or Inf"):
        recognition_blocks(torch.ones(1, 1), blocks(queries, 2), objects=np.array([[0]]), status=np.zeros(3, np.int8))


def run(starts: list[int], objects: list[list[int]]) -> VocabularyRecognition:
    parts = [(start, torch.ones(2, 1)) for start in starts]
    return recognition_blocks(torch.ones(1, 1), parts, objects=np.array(objects), status=np.zeros(4, dtype=np.int8))


def test_blocks_must_cover_the_vocabulary_once_and_in_order():
    run([0, 2], [[3]])
    for starts, message in (([0], "cover 2 of 4"), ([0, 0], "in order"), ([2, 0], "in order"), ([0, 2, 4], "in order")):
        with pytest.raises(ValueError, match=message):
            run(starts, [[3]])
    with pytest.raises(ValueError, match="no positives"):
        run([0, 2], [[-1]])
    with pytest.raises(ValueError, match="outside the vocabulary"):
        run([0, 2], [[4]])

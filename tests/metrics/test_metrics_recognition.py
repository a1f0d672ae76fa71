"""Recognition, its chance level, and concept recognition: hand-made cases, ties, broken scores."""

import math

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from dualenc.metrics import concept_labels, concept_recognition, recognition, recognition_chance


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([0.9, 0.8, 0.1], [1, 1, 0], True),
        ([0.9, 0.1, 0.8], [1, 1, 0], False),  # one positive above, one below
        ([0.9, 0.5, 0.5], [1, 1, 0], False),  # a tie is a miss
        ([0.5, 0.5, 0.1], [1, 1, 0], True),  # positives may tie with each other
        ([-0.9, -0.8, -0.95], [1, 1, 0], True),  # all negative scores
        ([0.1, 0.2, 0.3], [1, 1, 1], True),  # nothing to confuse with
        ([0.0, -0.0, -1.0], [1, 0, 0], False),  # signed zeros tie
    ],
)
def test_recognition_by_hand(scores: list, labels: list, expected: bool):
    for scored in (torch.tensor([scores]), np.array([scores])):
        result = recognition(scored, torch.tensor([labels], dtype=torch.bool))
        assert result.dtype == torch.bool
        assert result.tolist() == [expected]


def test_recognition_matches_a_loop():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (400, 5))  # integer scores: many ties
    labels = rng.random((400, 5)) < 0.4
    labels[:, 0] |= ~labels.any(axis=1)
    expected = [all(p > q for p in row[true] for q in row[~true]) for row, true in zip(scores, labels, strict=True)]
    assert 0 < sum(expected) < 400
    assert recognition(scores, labels).tolist() == expected


def test_recognition_in_half_precision_does_not_upset_ties():
    scores = torch.tensor([[1.0, 1.001]], dtype=torch.bfloat16)  # equal once rounded
    assert not recognition(scores, torch.tensor([[False, True]]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", [0, 1])
def test_recognition_refuses_broken_scores(bad: float, column: int):
    scores = torch.zeros(2, 2)
    scores[1, column] = bad
    with pytest.raises(ValueError, match="NaN or Inf"):
        recognition(scores, torch.tensor([[True, False], [True, False]]))


def test_recognition_refuses_rows_without_positives():
    with pytest.raises(ValueError, match="row 1 has no positives"):
        recognition(torch.zeros(2, 2), torch.tensor([[True, False], [False, False]]))
    assert recognition(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.bool)).shape == (0,)


@pytest.mark.parametrize("labels", [torch.ones(1, 2, dtype=torch.bool), torch.ones(2, 2, dtype=torch.int64)])
def test_recognition_refuses_labels_that_would_broadcast_or_invert_bitwise(labels: torch.Tensor):
    with pytest.raises((ValueError, TypeCheckError)):  # the latter where annotations are checked at run time
        recognition(torch.zeros(2, 2), labels)


def test_chance_is_what_random_scores_reach():
    assert recognition_chance(6, np.array([2, 1, 6, 0])).tolist() == [1 / 15, 1 / 6, 1.0, 1.0]
    assert recognition_chance(125_000, np.array([200])).tolist() == [0.0]  # underflows, does not overflow
    labels = torch.arange(6).expand(40_000, 6) < 2
    scores = torch.rand(40_000, 6, generator=torch.Generator().manual_seed(0))
    assert abs(recognition(scores, labels).double().mean().item() - 1 / 15) < 0.005


def test_concept_recognition_pools_all_values_but_reports_each_concept():
    values = np.array([[[0, 1], [2, 1]], [[1, 0], [-1, -1]]], dtype=np.int16)
    labels = concept_labels(values, (3, 2))
    assert labels.tolist() == [[True, False, True, False, True], [False, True, False, True, False]]
    scores = torch.tensor([[0.3, 0.2, 0.4, 0.7, 0.8], [0.0, 0.9, 0.1, 0.5, 0.6]])
    pooled, per_concept = concept_recognition(scores, values, sizes=(3, 2))
    assert pooled.tolist() == [False, False]  # scene 0: .3 of an own value < .7 of a foreign one of concept 1
    assert per_concept.tolist() == [[True, True], [True, False]]
    scores[0, 3] = 0.25
    assert concept_recognition(scores, values, sizes=(3, 2))[0].tolist() == [True, False]

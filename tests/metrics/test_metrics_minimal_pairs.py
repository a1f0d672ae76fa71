"""Minimal pairs."""

import math

import pytest
import torch

from dualenc.metrics import minimal_pairs


def test_by_hand():
    scores = torch.tensor(
        [
            [[0.9, 0.1], [0.2, 0.8]],  # all right
            [[0.9, 0.1], [0.95, 0.96]],  # captions are told apart for each picture; picture 1 wins caption 0
            [[0.5, 0.6], [0.1, 0.7]],  # the other way round
            [[0.5, 0.5], [0.5, 0.5]],  # ties are misses
            [[math.nan, 0.0], [0.0, 1.0]],  # does not exist
        ]
    )
    exists = torch.tensor([True, True, True, True, False])
    report = minimal_pairs(scores, kind="binding", exists=exists)
    assert report["opposite_binding_count"] == 4
    assert report["opposite_binding_text"] == 0.5
    assert report["opposite_binding_picture"] == 0.5
    assert report["opposite_binding_group"] == 0.25
    with pytest.raises(ValueError, match="NaN or Inf"):
        minimal_pairs(scores, kind="binding", exists=torch.ones(5, dtype=torch.bool))


def test_random_scores_reach_chance():
    scores = torch.rand(40_000, 2, 2, generator=torch.Generator().manual_seed(0))
    report = minimal_pairs(scores, kind="spatial", exists=torch.ones(40_000, dtype=torch.bool))
    for what in ("text", "picture", "group"):
        assert report[f"opposite_spatial_{what}"] == pytest.approx(report[f"opposite_spatial_{what}_chance"], abs=0.01)


def test_without_pairs_is_none():
    report = minimal_pairs(torch.zeros(3, 2, 2), kind="negation", exists=torch.zeros(3, dtype=torch.bool))
    assert report["opposite_negation_group"] is None
    assert report["opposite_negation_count"] == 0

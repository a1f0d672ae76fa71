"""Retrieval recall and caption versus edit."""

import math

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

import dualenc.metrics.recall as recall
from dualenc.metrics import caption_versus_edit, retrieval


def test_by_hand():
    scores = torch.tensor([[0.9, 0.5, 0.5], [0.1, 0.8, 0.8], [0.3, 0.2, 0.1]])
    truth = torch.tensor([[True, False, False], [False, True, False], [False, False, False]])
    report = retrieval(scores, truth, ks=(1, 2))
    assert report["num_texts"] == 3
    assert report["recall_at_1_scene_to_query"] == 0.5  # row 1 ties with a false text: rank 2
    assert report["recall_at_2_scene_to_query"] == 1.0
    assert report["recall_at_1_scene_to_query_chance"] == pytest.approx(1 / 3)
    assert report["recall_scene_to_query_dropped"] == 1
    assert report["recall_scene_to_query_candidates"] == 3
    assert report["recall_at_1_query_to_scene"] == 1.0
    assert report["recall_query_to_scene_dropped"] == 1


def test_any_true_text_is_a_hit_and_other_true_texts_do_not_push_it_down():
    scores, truth = torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[False, True, True]])
    report = retrieval(scores, truth, ks=(1, 2, 5))
    assert report["recall_at_1_scene_to_query"] == 0.0
    assert report["recall_at_2_scene_to_query"] == 1.0
    assert report["recall_at_1_scene_to_query_chance"] == pytest.approx(2 / 3)
    assert report["recall_at_5_scene_to_query_chance"] == 1.0  # more than the gallery holds
    assert retrieval(torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool))["recall_at_1_scene_to_query"] == 1.0


def test_matches_sorting_and_random_scores_reach_chance(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recall, "_CELLS", 1000)
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(3000, 40, generator=generator)
    truth = torch.rand(3000, 40, generator=generator) < 0.05
    report = retrieval(scores, truth)
    kept = truth.any(1)
    for k in (1, 5, 10):
        hit = truth.gather(1, scores.topk(k).indices).any(1)[kept].double().mean().item()
        assert report[f"recall_at_{k}_scene_to_query"] == pytest.approx(hit)
        assert report[f"recall_at_{k}_scene_to_query_chance"] == pytest.approx(hit, abs=0.03)
        hit = truth.T.gather(1, scores.T.topk(k).indices).any(1).double().mean().item()
        assert report[f"recall_at_{k}_query_to_scene"] == pytest.approx(hit)


def test_undecided_texts_are_no_candidates():
    """The same as a gallery without them, a row at a time."""
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(60, 20, generator=generator)
    truth = torch.rand(60, 20, generator=generator) < 0.15
    undecided = torch.rand(60, 20, generator=generator) < 0.3
    report = retrieval(scores, truth, undecided=undecided, ks=(1, 5))
    for k in (1, 5):
        rows = [retrieval(s[~u][None], t[~u][None], ks=(k,)) for s, t, u in zip(scores, truth, undecided)]
        for key in (f"recall_at_{k}_scene_to_query", f"recall_at_{k}_scene_to_query_chance"):
            assert report[key] == pytest.approx(np.mean([row[key] for row in rows if row[key] is not None]))
    assert report != retrieval(scores, truth, ks=(1, 5))


def test_without_any_true_text_recall_is_none():
    report = retrieval(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool), ks=(1,))
    assert report["recall_at_1_scene_to_query"] is None
    assert report["recall_at_1_scene_to_query_chance"] is None
    assert report["recall_scene_to_query_dropped"] == 2
    empty = retrieval(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.bool), ks=(1,))
    assert empty["recall_at_1_query_to_scene"] is None
    assert empty["recall_query_to_scene_dropped"] == 3


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_broken_scores_are_refused(bad: float):
    scores = torch.tensor([[0.0, bad]])
    with pytest.raises(ValueError, match="NaN or Inf"):
        retrieval(scores, torch.tensor([[True, False]]))
    with pytest.raises(ValueError, match="NaN or Inf"):
        caption_versus_edit(
            torch.zeros(2), scores[0], operator="swap", exists=torch.tensor([True, True]), heldout=torch.zeros(2) > 0
        )


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises((ValueError, TypeCheckError)):  # the latter where annotations are checked at run time
        retrieval(torch.zeros(2, 2), torch.ones(1, 2, dtype=torch.bool))


def test_caption_versus_edit_by_hand():
    report = caption_versus_edit(
        torch.tensor([0.5, 0.5, 0.5, 0.5, math.nan, 0.9]),
        torch.tensor([0.4, 0.5, 0.6, 0.1, 0.0, 0.1]),  # won, tie, lost, won, and two without an edit
        operator="swap",
        exists=torch.tensor([True, True, True, True, False, False]),
        heldout=torch.tensor([False, False, True, True, True, False]),
    )
    assert report == {
        "caption_vs_swap": 0.5,
        "caption_vs_swap_count": 4.0,
        "caption_vs_swap_seen": 0.5,
        "caption_vs_swap_seen_count": 2.0,
        "caption_vs_swap_heldout": 0.5,
        "caption_vs_swap_heldout_count": 2.0,
        "caption_vs_swap_chance": 0.5,
        "caption_vs_swap_candidates": 2.0,
    }


def test_caption_versus_edit_without_edits_is_none():
    none = torch.zeros(2, dtype=torch.bool)
    report = caption_versus_edit(torch.ones(2), torch.zeros(2), operator="add", exists=none, heldout=none)
    assert report["caption_vs_add"] is None
    assert report["caption_vs_add_count"] == 0
    some = caption_versus_edit(torch.ones(2), torch.zeros(2), operator="add", exists=~none, heldout=none)
    assert (some["caption_vs_add"], some["caption_vs_add_seen"], some["caption_vs_add_heldout"]) == (1.0, 1.0, None)


def test_chance_matches_the_hypergeometric_formula():
    truth = torch.arange(12).expand(2, 12) < torch.tensor([[3], [1]])
    report = retrieval(torch.zeros(2, 12), truth, ks=(5,))
    expected = np.mean([1 - math.comb(9, 5) / math.comb(12, 5), 1 - math.comb(11, 5) / math.comb(12, 5)])
    assert report["recall_at_5_scene_to_query_chance"] == pytest.approx(expected)
    assert report["recall_at_5_scene_to_query"] == 0.0  # all tied

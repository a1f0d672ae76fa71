"""What training and evaluation make of captions of every kind, edits of every name, opposites and undecided pairs."""

import itertools

import numpy as np
import pytest
import torch

from dualenc import metrics
from dualenc.config import LossConfig
from dualenc.data import Dataset, QuerySettings, ShardSource
from dualenc.evaluation import Evaluator
from dualenc.losses import info_nce
from dualenc.models import DualEncoder, TextTower, VisionTower
from dualenc.module import BatchObjective
from dualenc.scenes import EDIT_NAMES, OPPOSITE_KINDS, truth, undecided

BATCH = 24


@pytest.fixture
def source(rich_dataset: Dataset) -> ShardSource:
    settings = QuerySettings(
        seed=3, captions=0.9, objects=0.1, concepts=0.0, edits=("swap", "spatial", "depth2"), edits_per_scene=1
    )
    return ShardSource(rich_dataset, query_tower="text", scene_tower="vision", settings=settings)


@pytest.fixture
def model(source: ShardSource) -> DualEncoder:
    """A model that knows nothing: its scores are arbitrary, but its own."""
    torch.manual_seed(0)
    size = {"width": 16, "depth": 1, "heads": 2, "output_dim": 8}
    text = TextTower(len(source.tokenizer), max_length=source.coder.max_length, **size)
    return DualEncoder(VisionTower(image_size=32, patch_size=8, **size), text).eval()


def scores_of(model: DualEncoder, pictures: list[np.ndarray], texts: np.ndarray) -> np.ndarray:
    """float [pictures, texts], a picture and a text at a time."""
    with torch.no_grad():
        scenes = [model.encode_scenes(torch.as_tensor(picture[None]))[0] for picture in pictures]
        queries = [model.encode_queries(torch.as_tensor(text[None].astype(np.int64)))[0] for text in texts]
    return np.array([[float(scene @ query) for query in queries] for scene in scenes])


@pytest.mark.parametrize("split", ["val", "ood", "mixed"])
def test_the_evaluator_scores_every_pair_with_its_own_opposite(
    model: DualEncoder, source: ShardSource, split: str
) -> None:
    """Batches of 7 of 20 scenes against one pair at a time."""
    found = Evaluator(model, source, batch_size=7).all_splits()[split].metrics
    dataset, table = source.dataset, source.dataset.table(split)
    for number, kind in enumerate(OPPOSITE_KINDS):
        right = []
        for i in np.flatnonzero(table.opposite == number).tolist():
            pictures = [dataset.image(split, i), dataset.opposite_image(split, i)]
            (a, b), (c, d) = scores_of(model, pictures, np.stack([table.tokens[i], table.opposite_tokens[i]]))
            right.append((a > b and d > c, a > c and d > b))
        if not right:
            assert f"opposite_{kind}_count" not in found
            continue
        assert found[f"opposite_{kind}_count"] == len(right)
        assert found[f"opposite_{kind}_text"] == pytest.approx(np.mean([text for text, _ in right]))
        assert found[f"opposite_{kind}_picture"] == pytest.approx(np.mean([picture for _, picture in right]))
        assert found[f"opposite_{kind}_group"] == pytest.approx(np.mean([all(both) for both in right]))
    assert any(f"opposite_{kind}_count" in found for kind in OPPOSITE_KINDS)


def test_the_evaluator_compares_captions_with_edits_of_every_name(model: DualEncoder, source: ShardSource) -> None:
    found = Evaluator(model, source, batch_size=7).all_splits()["val"].metrics
    dataset, table = source.dataset, source.dataset.table("val")
    for number, name in enumerate(EDIT_NAMES):
        wins = []
        for i, operators in enumerate(table.edit_operator.tolist()):
            if number in operators:
                texts = np.stack([table.tokens[i], table.edit_tokens[i, operators.index(number)]])
                [(own, edited)] = scores_of(model, [dataset.image("val", i)], texts)
                wins.append(own > edited)
        assert found[f"caption_vs_{name}_count"] == len(wins) > 0
        assert found[f"caption_vs_{name}"] == pytest.approx(np.mean(wins))


def test_retrieval_leaves_undecided_texts_out(model: DualEncoder, source: ShardSource) -> None:
    """Where a relation lies inside the margin, the text is neither a hit nor in the way."""
    dataset, table = source.dataset, source.dataset.table("ood")
    found = Evaluator(model, source, batch_size=7).all_splits()["ood"].metrics
    _, first = np.unique(table.tokens, axis=0, return_index=True)
    first.sort()
    rows = np.arange(len(table))
    scenes = dataset.scenes("ood", rows)
    pictures = [dataset.image("ood", i) for i in rows.tolist()]
    scores = torch.as_tensor(scores_of(model, pictures, table.tokens[first]), dtype=torch.float32)
    true, neither = (torch.as_tensor(judge(table.forms[first], scenes)) for judge in (truth, undecided))
    assert neither.any()
    expected = metrics.retrieval(scores, true, undecided=neither)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert expected != metrics.retrieval(scores, true)


@pytest.mark.parametrize("targets", ["truth", "diagonal"])
def test_undecided_pairs_take_no_part_in_the_objective(model: DualEncoder, source: ShardSource, targets: str) -> None:
    batches = (
        source.train_batch(position, batch_size=BATCH, rank=0, world=1) for position in itertools.count(0, BATCH)
    )
    drawn = next(batch for batch in batches if batch.undecided.any() and batch.extra_undecided.any())
    batch = type(drawn)(*(torch.as_tensor(x) if isinstance(x, np.ndarray) else x for x in drawn))
    scene, query = model.encode_scenes(batch.scenes), model.encode_queries(batch.queries)
    given = {
        "scene": scene,
        "query": query,
        "logit_scale": model.logit_scale,
        "extra": model.encode_queries(batch.extra),
    }
    with_targets = {"targets": batch.targets, "extra_targets": batch.extra_targets} if targets == "truth" else {}
    left_out = {"undecided": batch.undecided, "extra_undecided": batch.extra_undecided} if targets == "truth" else {}
    expected = info_nce(**given, **with_targets, **left_out).item()
    objective = BatchObjective(batch, LossConfig(targets=targets), share_identical=True, compile=False)
    texts = model.encode_queries(objective.texts)
    found, _ = objective(model.encode_scenes(objective.scenes), texts, model.logit_scale)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    if targets == "truth":
        assert info_nce(**given, **with_targets).item() != pytest.approx(expected, rel=1e-5)

"""The report of one split: every promised key, chance and candidates beside every accuracy, right means."""

import numpy as np
import pytest
import torch

from dualenc.metrics import bag_levels, binding_report, concept_labels, recognition_blocks
from dualenc.metrics.distinct import row_major_ids

SIZES, NAMES = (3, 4), ("color", "shape")
PROMISED = [
    "concept_recognition",
    "object_recognition",
    "object_recognition_same_status",
    "concept_chance",
    "object_chance",
    "concept_candidates",
    "object_candidates",
    "bag_level",
    "bag_ceiling",
    "bag_ceiling_split",
    "binding_gain",
    "num_scenes",
]


def report_of(values: np.ndarray, status: np.ndarray, split: str, *, noise: float = 0.0) -> dict[str, float | None]:
    """A model that scores an object by whether the scene holds it, and concepts likewise, plus noise."""
    generator = torch.Generator().manual_seed(0)
    ids = row_major_ids(values, SIZES)
    labels = torch.as_tensor((ids[:, :, None] == np.arange(12)).any(axis=1)).float()
    concepts = torch.as_tensor(concept_labels(values, SIZES)).float()
    vocabulary = recognition_blocks(
        labels + noise * torch.randn(labels.shape, generator=generator),
        [(0, torch.eye(12))],
        objects=ids,
        status=status,
    )
    return binding_report(
        concepts + noise * torch.randn(concepts.shape, generator=generator),
        vocabulary,
        values=values,
        sizes=SIZES,
        concept_names=NAMES,
        bags=bag_levels(values, status=status, sizes=SIZES),
        split=split,
    )


@pytest.fixture
def values() -> np.ndarray:
    rng = np.random.default_rng(0)
    drawn = np.stack([rng.integers(0, size, (200, 2)) for size in SIZES], axis=2).astype(np.int16)
    drawn[:50, 1] = -1
    return drawn


STATUS = np.array([0, 0, 1, 0, 0, 2, 0, 0, 0, 1, 0, 0], dtype=np.int8)


def test_every_accuracy_has_chance_and_candidates(values: np.ndarray):
    report = report_of(values, STATUS, "mixed", noise=0.5)
    assert set(PROMISED) <= set(report)
    accuracies = [key for key in report if "recognition" in key]
    assert {"object_recognition_m1", "concept_recognition_m2", "concept_recognition_shape"} <= set(accuracies)
    for key in accuracies:
        assert 0 < report[key.replace("recognition", "chance")] < report[key] < 1, key
        assert report[key.replace("recognition", "candidates")] >= 3
    assert all(type(value) is float for value in report.values())


def test_figures_of_a_perfect_model(values: np.ndarray):
    report = report_of(values, STATUS, "mixed")
    assert all(report[key] == 1.0 for key in report if "recognition" in key)
    assert report["binding_gain"] == 1.0
    assert report["num_scenes"] == 200
    assert (report["num_scenes_m1"], report["num_scenes_m2"]) == (50, 150)
    assert report["object_candidates"] == 12
    assert report["concept_candidates"] == 7
    assert report["concept_candidates_shape"] == 4
    assert report["object_chance_m1"] == pytest.approx(1 / 12)
    assert report["concept_chance_m1"] == pytest.approx(1 / 21)
    assert report["concept_chance_color"] == pytest.approx(1 / 3)
    assert report["bag_level_m1"] == report["bag_ceiling_m1"] == 1.0
    assert report["bag_level"] == pytest.approx(0.25 + 0.75 * report["bag_level_m2"])


def test_only_val_is_measured_against_the_split_ceiling():
    """Scene {(0,0), (1,1)} missed: its rival holds a held-out object, so on `val` there is nothing left to bind."""
    values = np.array([[[0, 0], [1, 1]], [[0, 0], [2, 2]]], dtype=np.int16)
    status = np.zeros(12, dtype=np.int8)
    status[1] = 1  # (0, 1)
    on_val, elsewhere = report_of(values, status, "val"), report_of(values, status, "val_ood")
    assert on_val["bag_ceiling"] == 0.5
    assert on_val["bag_ceiling_split"] == 0.75
    assert on_val["binding_gain_count"] == 1
    assert elsewhere["binding_gain_count"] == 2
    assert on_val["object_candidates_same_status"] == 11
    assert on_val["object_chance_same_status"] == pytest.approx(1 / 55)


def test_without_scenes_or_with_a_clashing_name_the_answer_is_no(values: np.ndarray):
    with pytest.raises(ValueError, match="no scenes"):
        report_of(values[:0], STATUS, "ood")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "NAMES", ("color", "m2"))
        with pytest.raises(ValueError, match="rename"):
            report_of(values, STATUS, "ood")

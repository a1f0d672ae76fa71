"""Linear probes: the optimum that scikit-learn finds, planted structure recognised, scenes kept apart."""

import numpy as np
import pytest
import torch
from planted import scenes_of
from sklearn.linear_model import LogisticRegression

from dualenc.analysis.probes import (
    TOLERANCE,
    SceneSplit,
    _Problem,
    concept_labels,
    fit_probe,
    object_labels,
    object_sets,
    probe_accuracy,
    scene_split,
)
from dualenc.analysis.reading import fit_readers, readings
from dualenc.errors import InputError


def test_the_split_is_a_function_of_the_seed_and_keeps_object_sets_together():
    scenes = scenes_of("additive", copies=2)
    split = scene_split(scenes, 1)
    assert np.array_equal(np.sort(np.concatenate(list(vars(split).values()))), np.arange(scenes.num_scenes))
    shares = [len(rows) / scenes.num_scenes for rows in vars(split).values()]
    assert shares == pytest.approx([0.4, 0.1, 0.5], abs=0.005)
    sets = object_sets(scenes.objects)
    assert sets[0] == sets[len(sets) // 2]  # the copy
    assert not set(sets[split.train]) & set(sets[split.test])
    assert np.array_equal(split.test, scene_split(scenes, 1).test)
    assert not np.array_equal(split.test, scene_split(scenes, 2).test)


def test_overlapping_probe_scenes_are_caught():
    rows = np.arange(10)
    with pytest.raises(ValueError, match="2 scenes are both train and test"):
        SceneSplit(rows[:5], rows[5:6], rows[3:5])
    scenes = scenes_of("random", copies=2)
    half = scenes.num_scenes // 2  # the copies are the test scenes: other rows, same objects
    leak = SceneSplit(np.arange(half), np.arange(0), np.arange(half, 2 * half))
    with pytest.raises(ValueError, match="object sets are both in train and test"):
        fit_readers(scenes, leak, objects=False)


def test_too_few_object_sets_are_refused():
    with pytest.raises(InputError, match=r"num_scenes: scenes of [0-9]+ objects show [0-9]+ different sets"):
        scene_split(scenes_of("additive", sizes=(3, 1)), 0)


def test_finds_the_optimum_that_scikit_learn_finds():
    scenes = scenes_of("per_object", sizes=(4, 3), dim=8, noise=1.0)
    labels, split = object_labels(scenes), scene_split(scenes, 0)
    probe = fit_probe(scenes.embeddings, labels, split=split, grid=[1e-2])
    assert probe.gradient <= TOLERANCE

    x = scenes.embeddings[split.train].double().numpy()
    weight = labels[split.train] / labels[split.train].sum(0)
    mass = weight.sum(1, keepdims=True) / weight.sum()
    scale = np.sqrt((mass * (x - (mass * x).sum(0)) ** 2).sum(0).mean())
    row, target = np.nonzero(weight)  # one line per scene and object that it holds
    reference = LogisticRegression(C=1 / 1e-2, tol=1e-8, solver="newton-cg", max_iter=1000)
    reference.fit((x / scale)[row], target, sample_weight=weight[row, target])
    expected = torch.from_numpy(reference.coef_.T / scale)
    assert torch.allclose(probe.weight, expected, atol=1e-4 * float(expected.abs().max()))


def test_reads_concepts_and_objects_where_they_are_and_not_where_they_are_not():
    accuracy = {}
    for structure in ("per_object", "additive", "random"):
        scenes = scenes_of(structure, ordered=False)
        split = scene_split(scenes, 0)
        no_shared_value = (scenes.values[:, 0] != scenes.values[:, 1]).all(1)  # a shared one tells the objects
        probes, _ = fit_readers(scenes, split, objects=True)
        row = readings(probes, scenes.take(split.test[no_shared_value[split.test]]), seed=0)
        accuracy[structure] = (row["probe_concepts"], row["probe_objects"])
    assert min(accuracy["per_object"]) > 0.95
    assert accuracy["additive"][0] > 0.99
    assert accuracy["additive"][1] < 1 / 6  # a bag of values
    assert max(accuracy["random"]) < 0.25


def test_the_l2_is_chosen_on_validation_scenes():
    chosen = {}
    for noise in (0.01, 2.0):
        scenes = scenes_of("per_object", ordered=False, noise=noise)
        labels, split = object_labels(scenes), scene_split(scenes, 0)
        best = fit_probe(scenes.embeddings, labels, split=split)
        free = fit_probe(scenes.embeddings, labels, split=split, grid=[1e-3])
        seen = scenes.embeddings[split.validation], labels[split.validation]
        assert probe_accuracy(best, *seen) >= probe_accuracy(free, *seen)
        chosen[noise] = best.l2
    assert chosen[2.0] > chosen[0.01]


def test_a_small_l2_is_found_where_it_is_better():
    """A value that shows in a direction of a hundredth of the others' spread."""
    rng = np.random.default_rng(0)
    which = rng.integers(2, size=600)
    x = np.concatenate(
        [rng.normal(size=(600, 20)), 0.01 * (2 * which[:, None] - 1 + 0.3 * rng.normal(size=(600, 1)))], 1
    )
    embeddings, labels = torch.from_numpy(x), np.eye(2, dtype=bool)[which]
    split = SceneSplit(np.arange(240), np.arange(240, 300), np.arange(300, 600))
    best = fit_probe(embeddings, labels, split=split)
    assert best.l2 <= 1e-4
    assert probe_accuracy(best, embeddings[300:], labels[300:]) > 0.97


def test_a_rare_class_counts_as_much_as_a_frequent_one():
    rng = np.random.default_rng(0)
    which = (rng.random(8000) < 0.05).astype(int)  # one scene in twenty holds the second thing
    x = torch.from_numpy(rng.normal(size=(8000, 1)) + 1.0 * which[:, None])
    labels = np.eye(2, dtype=bool)[which]
    split = SceneSplit(np.arange(4000), np.arange(4000, 4500), np.arange(4500, 8000))
    hits = fit_probe(x, labels, split=split).hits(x[4500:], labels[4500:])
    assert hits[which[4500:] == 1].mean() == pytest.approx(0.69, abs=0.12)  # Phi(1/2), for both
    assert hits[which[4500:] == 0].mean() == pytest.approx(0.69, abs=0.12)


@pytest.mark.parametrize("value", [0.0, 0.5, 1 / 3])
def test_from_the_same_everywhere_the_bias_reads_what_is_frequent(value: float):
    scenes = scenes_of("additive", sizes=(4, 3))
    labels, split = concept_labels(scenes)[0], scene_split(scenes, 0)
    probe = fit_probe(torch.full_like(scenes.embeddings, value), labels, split=split)
    assert torch.isfinite(probe.bias).all()
    assert not probe.weight.any()


def test_targets_of_many_classes_take_a_byte_each():
    rows, number = 500, 1000
    labels = np.zeros((rows, number), dtype=bool)
    labels[np.arange(rows), np.arange(rows)] = True
    problem = _Problem(torch.randn(rows, 4), labels)
    assert sum(held.nbytes for held in vars(problem).values() if isinstance(held, torch.Tensor)) < 1.2 * labels.nbytes


def test_blocks_of_rows_change_nothing(monkeypatch):
    scenes = scenes_of("per_object", sizes=(4, 3), noise=1.0)
    labels, split = object_labels(scenes), scene_split(scenes, 0)
    whole = fit_probe(scenes.embeddings, labels, split=split)
    monkeypatch.setattr("dualenc.analysis.probes._BLOCK", 7 * labels.shape[1])
    blocks = fit_probe(scenes.embeddings, labels, split=split)
    assert torch.allclose(whole.weight, blocks.weight, rtol=1e-6)
    assert np.array_equal(
        whole.hits(scenes.embeddings, labels), blocks.hits(scenes.embeddings, labels)
    )  # accuracies as well
    assert concept_labels(scenes)[0].sum(1).max() == 2

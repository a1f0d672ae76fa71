"""Tables of object vectors against tables that were planted, and least squares against numpy's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import scenes_of

from dualenc.analysis.embedded import EmbeddedScenes
from dualenc.analysis.tables import average_table, least_squares, scene_weights, sum_entries
from dualenc.scenes import ConceptSpace


def design(entries: np.ndarray, num: int) -> np.ndarray:
    matrix = np.zeros((len(entries), num))
    for column in entries.T:
        matrix[np.arange(len(entries)), column] += 1
    return matrix


@pytest.mark.parametrize("shared", [True, False])
def test_least_squares_is_numpy_s_least_norm_solution(shared: bool) -> None:
    rng = np.random.default_rng(0)
    entries = np.stack([rng.integers(7, size=80), rng.integers(5, size=80) + 7], axis=1)
    if shared:
        entries = rng.integers(12, size=(80, 3))
    targets = rng.normal(size=(80, 4))
    expected = np.linalg.lstsq(design(entries, 14), targets, rcond=None)[0]  # entries 12 and 13 never occur
    found = least_squares(entries, torch.from_numpy(targets), 14)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(sum_entries(found, entries).numpy(), design(entries, 14) @ expected, atol=1e-9)


def exhaustive(tables: np.ndarray, *, train: np.ndarray | None = None) -> EmbeddedScenes:
    """All ordered pairs, identical ones included; tables [2, k, d] give each slot's vectors."""
    number = tables.shape[1]
    objects = np.stack(np.divmod(np.arange(number**2), number), axis=1)
    space = ConceptSpace.symbolic(num_concepts=2, num_values=int(number**0.5))
    embeddings = torch.from_numpy(tables[0][objects[:, 0]] + tables[1][objects[:, 1]])
    return EmbeddedScenes(embeddings, objects, space, "mention", train)


def test_averages_per_slot_are_the_planted_vectors() -> None:
    tables = np.random.default_rng(0).normal(size=(2, 9, 5))
    scenes = exhaustive(tables)
    found = average_table(scenes, positions=True)
    np.testing.assert_allclose(found.vectors.numpy(), tables - tables.mean(axis=1, keepdims=True), atol=1e-12)
    np.testing.assert_allclose(found.centre.numpy(), tables.mean(axis=1).sum(axis=0), atol=1e-12)
    np.testing.assert_allclose(found.sums(scenes.objects).numpy(), (scenes.embeddings - found.centre).numpy())
    assert found.has(scenes.objects).all()


def test_an_average_counts_a_scene_once() -> None:
    """By hand: over every scene that holds the object, also where it does so twice."""
    scenes = exhaustive(np.random.default_rng(0).normal(size=(2, 4, 3)))
    found = average_table(scenes, positions=False)
    z = (scenes.embeddings - scenes.embeddings.mean(0)).numpy()
    for i in range(4):
        holds = (scenes.objects == i).any(axis=1)
        np.testing.assert_allclose(found.vectors[0, i].numpy(), z[holds].mean(axis=0), atol=1e-12)


def test_objects_never_seen_in_a_slot_have_no_vector() -> None:
    scenes = exhaustive(np.random.default_rng(0).normal(size=(2, 4, 3)))
    scenes = scenes.take((scenes.objects[:, 0] != 2) & (scenes.objects != 3).all(axis=1))
    found = average_table(scenes, positions=True)
    assert found.ids.tolist() == [0, 1, 2]
    assert found.has(np.array([[0, 2], [2, 0], [3, 0]])).tolist() == [[True, True], [False, True], [False, True]]


def test_level_two_gives_back_sums_and_predicts_objects_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    space = ConceptSpace.symbolic(num_concepts=2, num_values=4)
    parts = rng.normal(size=(2, 4, 6))
    values = space.decode(np.arange(16))
    sums = parts[0][values[:, 0]] + parts[1][values[:, 1]]
    table = average_table(exhaustive(np.stack([sums, sums])), positions=True)
    composed = table.composed(space)
    torch.testing.assert_close(composed.vectors, table.vectors)
    partly = table.composed(space, np.arange(16) % 5 != 0)  # four objects left out, each value still seen
    torch.testing.assert_close(partly.vectors, table.vectors)


@pytest.mark.parametrize("coverage", [0.25, 0.75])
def test_weights_take_out_who_stands_beside_whom(coverage: float) -> None:
    """Splits of our own: held-out objects mostly beside held-out ones. Weighted averages are the planted vectors up to
    one common shrinking factor, plain ones are not."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(16, 6)) + 2.0 * (np.arange(16) < 16 * coverage)[:, None]
    everything = exhaustive(np.stack([vectors, vectors]), train=np.arange(int(16 * coverage)))
    distinct = everything.take(everything.objects[:, 0] != everything.objects[:, 1])
    copies = {"train": 3, "heldout": 5, "mixed": 1}  # scenes of each status, unlike their shares
    uneven = distinct.take(np.repeat(np.arange(distinct.num_scenes), [copies[s] for s in distinct.status]))
    expected = average_table(replace(distinct, train=None), positions=True).vectors
    torch.testing.assert_close(average_table(uneven, positions=True).vectors, expected)
    plain = average_table(uneven, positions=True, weights=np.ones(uneven.num_scenes)).vectors
    assert (plain - expected).abs().max() > 0.1
    assert "weighted" in scene_weights(uneven)[1]


def test_without_mixed_scenes_no_weights_help_and_it_is_said() -> None:
    scenes = scenes_of("additive")
    pure = scenes.take(scenes.status != "mixed")
    weights, how = scene_weights(pure)
    assert (weights == 1).all()
    assert how.startswith("as sampled")

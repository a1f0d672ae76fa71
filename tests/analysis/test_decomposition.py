"""The decomposition of embeddings whose structure was planted, and leaks that were."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from planted import scenes_of

from dualenc.analysis import decomposition as module
from dualenc.analysis import reading
from dualenc.analysis.decomposition import apart, decomposition
from dualenc.analysis.embedded import EmbeddedScenes
from dualenc.analysis.nearest import set_numbers
from dualenc.analysis.probes import SceneSplit, scene_split
from dualenc.analysis.studies import DecompositionOptions
from dualenc.errors import InputError
from dualenc.files import write_json

OPTIONS = DecompositionOptions(num_queries=100)
LEVELS = ("Level I", "Level II")


@cache
def found(structure: str) -> dict[str, Any]:
    return decomposition((scenes_of(structure, sizes=(4, 4), dim=32, noise=0.05),), OPTIONS)


def row(result: dict[str, Any], title: str, **wanted: Any) -> dict[str, Any]:
    """The one row with these values."""
    wanted = {"embeddings": "raw", **wanted}
    rows = [r for r in result["tables"][title] if all(r.get(k) == v for k, v in wanted.items())]
    assert len(rows) == 1, rows
    return rows[0]


def by_position(structure: str, level: str, scenes: str = "held out") -> dict[str, Any]:
    return row(found(structure), level, estimator="avg+pos", scenes=scenes, status="all")


def test_sums_of_concepts_are_recognised_at_both_levels() -> None:
    for level in LEVELS:
        held_out = by_position("additive", level)
        assert held_out["r2"] > 0.8
        assert held_out["retrieval"] > 0.95
        assert held_out["r2_interval"][0] < held_out["r2"] < held_out["r2_interval"][1]
        assert by_position("additive", level, "same")["r2"] > 0.99
    vectors = row(found("additive"), "Object vectors as concept sums", estimator="avg+pos")
    assert min(vectors["r2"], vectors["r2_other_objects"]) > 0.99
    # a table that does not know the slot cannot: they were planted apart
    assert row(found("additive"), "Level I", estimator="avg", scenes="same", status="all")["r2"] < 0.6


def test_vectors_of_objects_that_are_no_sums_are_level_one_only() -> None:
    assert by_position("per_object", "Level I", "same")["r2"] > 0.99
    assert by_position("per_object", "Level I")["r2"] > 0.8
    assert by_position("per_object", "Level II", "same")["r2"] < 0.85
    vectors = row(found("per_object"), "Object vectors as concept sums", estimator="avg+pos")
    low, high = vectors["r2_other_objects_interval"]
    assert low <= vectors["r2_other_objects"] <= high
    assert vectors["r2"] < 0.85
    assert vectors["r2_other_objects"] < 0.4
    # only what is no sum tells objects apart: Level II reads values, not objects
    assert by_position("per_object", "Level I")["probe_objects"] > 0.6
    assert by_position("per_object", "Level II")["probe_objects"] < 0.45
    assert by_position("per_object", "Level II")["probe_concepts"] > 0.85


def test_random_embeddings_have_no_structure() -> None:
    """On the scenes that averages and probes were taken from they seem to have some; apart from these they do not."""
    for level in LEVELS:
        held_out = by_position("random", level)
        assert held_out["r2"] < 0
        assert held_out["retrieval"] < 0.03
        assert held_out["probe_objects"] < 0.1
        assert held_out["probe_concepts"] < 0.3
    same = by_position("random", "Level I", "same")
    assert same["r2"] > 0.08
    assert same["retrieval"] > 0.1
    assert same["probe_objects"] > 0.2


def test_true_embeddings_stand_beside_their_reconstructions(tmp_path) -> None:
    truth = row(found("additive"), "Level I", estimator="true embeddings")
    assert truth["probe_concepts"] > 0.9
    assert truth["r2"] is None
    assert row(found("additive"), "Level I", estimator="avg", scenes="same", status="heldout")["num_scenes"] == 20
    write_json(tmp_path / "result.json", found("additive"))  # plain values


def test_the_same_scenes_and_seed_give_the_same_numbers() -> None:
    options = replace(OPTIONS, object_probe=False, num_queries=20)
    scenes = (scenes_of("per_object", sizes=(3, 3), dim=8),)
    assert decomposition(scenes, options) == decomposition(scenes, options)
    assert decomposition(scenes, options) != decomposition(scenes, replace(options, seed=1))


def test_folds_share_no_objects_with_what_they_reconstruct_nor_with_probes() -> None:
    scenes = scenes_of("random", sizes=(4, 4), dim=4, copies=2)
    split = scene_split(scenes, 0)
    (sets,) = set_numbers(scenes.objects)
    folds = apart(scenes, split, seed=0)
    assert np.array_equal(np.sort(np.concatenate([rows for _, rows in folds])), split.test)
    for fit, rows in folds:
        assert not np.intersect1d(sets[fit], sets[rows]).size
        for probes in (split.train, split.validation):
            assert not np.intersect1d(sets[probes], sets[np.concatenate([fit, rows])]).size


def test_a_planted_leak_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A split by rows alone puts the same objects, in another order, on both sides."""
    scenes = scenes_of("random", sizes=(4, 4), dim=8)

    def by_rows(scenes: EmbeddedScenes, seed: int) -> SceneSplit:
        rows = np.random.default_rng(seed).permutation(scenes.num_scenes)
        return SceneSplit(*(np.sort(part) for part in np.split(rows, [96, 120])))

    monkeypatch.setattr(module, "scene_split", by_rows)
    with pytest.raises(ValueError, match="object sets are both in train and"):
        decomposition((scenes,), OPTIONS)


def test_scenes_of_one_object_and_of_three() -> None:
    """Vectors of single objects stand for themselves in larger scenes, whose number of objects is free."""
    rng = np.random.default_rng(0)
    pairs = scenes_of("additive", sizes=(3, 3), dim=24, slots="none", ordered=False)
    vectors = torch.from_numpy(rng.normal(size=(9, 24)))
    vectors -= vectors.mean(0)

    def of(objects: np.ndarray) -> EmbeddedScenes:
        noise = torch.from_numpy(0.01 * rng.normal(size=(len(objects), 24)))
        return replace(
            pairs, embeddings=vectors[torch.from_numpy(objects)].sum(1) + noise + 3, objects=objects, train=None
        )

    triples = np.array([(i, j, k) for i in range(9) for j in range(i) for k in range(j)])
    result = decomposition((of(np.arange(9)[:, None]), of(triples)), replace(OPTIONS, object_probe=False))
    assert {r["objects"] for title in LEVELS for r in result["tables"][title]} == {3}
    single = row(result, "Level I", estimator="single-obj", scenes="same", status="all")
    assert single["r2"] > 0.99
    assert single["retrieval"] == 1
    assert not any(r["estimator"] == "avg+pos" for r in result["tables"]["Level I"])
    assert any("avg+pos is left out" in note for note in result["notes"])
    assert sum("a bag of concepts reads" in note for note in result["notes"]) == 1
    assert "probe_objects" not in single


def test_scenes_too_few_to_reconstruct_any_are_counted_as_none() -> None:
    scenes = scenes_of("additive", sizes=(8, 8), ordered=False, slots="none")
    apart = scenes.take((scenes.objects[:, 0] % 2 == 0) & (scenes.objects[:, 1] == scenes.objects[:, 0] + 1))
    result = decomposition([apart], replace(OPTIONS, object_probe=False))  # no object occurs twice
    found = row(result, "Level I", embeddings="raw", estimator="avg", scenes="held out", status="all")
    assert found["num_scenes"] == 0
    assert found.get("r2") is None


def test_scenes_of_one_object_only_are_refused() -> None:
    scenes = scenes_of("additive")
    with pytest.raises(InputError, match="scenes: have 1 objects; this study needs scenes of two objects or more"):
        decomposition((replace(scenes, objects=scenes.objects[:, :1]),), OPTIONS)


def test_a_collapsed_tower_is_refused() -> None:
    scenes = scenes_of("additive")
    for value in (0.0, 0.5):
        with pytest.raises(InputError, match=r"embeddings: all are the same.*; the tower has collapsed"):
            decomposition((replace(scenes, embeddings=torch.full_like(scenes.embeddings, value)),), OPTIONS)


def test_with_less_memory_all_objects_are_probed_by_more_steps_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = scenes_of("additive", sizes=(3, 3), dim=8)
    found = []
    for free, told in ((10**9, []), (15_000, ["Objects are probed with less memory, by more steps"])):
        monkeypatch.setattr(reading, "available_memory", lambda: free)  # noqa: B023
        result = decomposition((scenes,), OPTIONS)
        notes = [note for note in result["notes"] if note.startswith("Objects are")]
        assert [note.partition(":")[0] for note in notes] == told
        found.append(row(result, "Level I", estimator="avg", scenes="same", status="all")["probe_objects"])
    assert found[0] == found[1] > 0.2  # far above chance, 1 in 36
    monkeypatch.setattr(reading, "available_memory", lambda: 1000)
    result = decomposition((scenes,), OPTIONS)
    assert sum("Objects are not probed: a probe of 9 objects needs" in note for note in result["notes"]) == 1
    assert "probe_objects" not in row(result, "Level I", estimator="avg", scenes="same", status="all")

"""Capacity: stacked fits equal separate ones, planted structure recognised, leaks caught, processes change nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import scenes_of

from dualenc.analysis import curves
from dualenc.analysis.approximators import Examples, StackedMLPs, Training, fit_mlps
from dualenc.analysis.capacity import CapacityStudy, Fit, capacity
from dualenc.analysis.generalization import known_objects
from dualenc.analysis.probes import scene_split
from dualenc.analysis.reading import fit_readers
from dualenc.analysis.studies import CapacityOptions
from dualenc.errors import InputError

QUICK = CapacityOptions(
    coverages=[0.8],
    draws=1,
    widths=[64],
    steps=300,
    forest=False,
    object_probe=False,
    normalized=False,
    workers=1,
)


def row(structure: str, options: CapacityOptions = QUICK, **planted) -> dict:
    scenes = scenes_of(structure, sizes=(6, 6), **planted)
    (found,) = capacity([scenes], options)["tables"]["Approximators"]
    return found


def test_structure_that_a_small_mlp_can_carry_over_to_new_objects_is_told_from_what_it_cannot():
    additive, random = row("additive"), row("random")
    assert additive["r2_heldout"] > 0.9
    assert additive["probe_concepts"] > 0.9 > 0.3 > random["probe_concepts"]
    assert additive["r2_heldout_interval"][0] <= additive["r2_heldout"] <= additive["r2_heldout_interval"][1]
    assert random["r2_heldout"] < 0.1


def test_objects_in_the_true_embeddings_are_not_read_from_predictions_that_miss_them():
    """Every object has products of its own, drawn at random: nothing says what those of a new object are."""
    found = row("per_object", replace(QUICK, object_probe=True), ordered=False)
    assert found["r2_train"] > 0.9
    assert found["true_objects"] > 0.8
    assert found["probe_objects"] < 0.2


def test_a_forest_is_fitted_too():
    forest = row("additive", replace(QUICK, widths=[], forest=True, trees=10), dim=4)
    assert forest["approximator"] == "forest"
    assert forest["r2_train"] > 0.9 > forest["r2_heldout"] > 0


def test_boosted_trees_are_fitted_too():
    pytest.importorskip("xgboost")
    boosted = row("additive", replace(QUICK, widths=[], boosting=True, trees=50), dim=4)
    assert boosted["r2_heldout"] > 0.7


def examples(lengths: list[int], dtype: torch.dtype) -> list[Examples]:
    draw = torch.Generator().manual_seed(0)
    return [
        Examples(
            torch.nn.functional.one_hot(torch.randint(0, 4, (n, 3), generator=draw), 4).flatten(1).to(dtype),
            torch.randn(n, 5, generator=draw, dtype=dtype),
            seed,
        )
        for seed, n in enumerate(lengths)
    ]


def test_stacked_fits_equal_separate_fits():
    sets = examples([40, 17, 29], torch.float64)
    training = Training(embedding=6, steps=60)
    together = fit_mlps(sets, [4, 4, 4], width=16, training=training)
    asked = examples([50], torch.float64)[0].inputs
    for which, alone in enumerate(sets):
        single = fit_mlps([alone], [4, 4, 4], width=16, training=training)
        assert torch.allclose(together.predict(which, asked), single.predict(0, asked), rtol=1e-9, atol=1e-12)


def test_an_mlp_is_the_plain_one():
    """Value embeddings side by side, a hidden layer of ReLUs, an output layer; written out with torch's own modules."""
    inputs = examples([9], torch.float64)[0].inputs
    mlps = StackedMLPs([4, 4, 4], 5, width=8, embedding=6, seeds=[3], like=inputs)
    weights = {name: value[0] for name, value in mlps.parameters.items()}
    ids = inputs.reshape(9, 3, 4).argmax(2) + 4 * torch.arange(3)
    beside = weights["embeddings"][ids].flatten(1)
    hidden = (beside @ weights["first"].flatten(0, 1) + weights["first_bias"]).relu()
    plain = hidden @ weights["second"] + weights["second_bias"]
    assert torch.allclose(mlps.predict(0, inputs), plain)


def study_of(scenes, options: CapacityOptions = QUICK) -> CapacityStudy:
    split = scene_split(scenes, 0)
    return CapacityStudy(scenes, fit_readers(scenes, split, objects=False)[0], split.test, options)


def test_approximators_see_known_objects_only_and_probes_are_asked_on_their_own_test_scenes():
    scenes = scenes_of("additive")
    study = study_of(scenes)
    rows = study.rows(Fit("mlp-64", 0.6, 0))
    known = np.unique(scenes.objects[rows.train])
    assert not np.isin(scenes.objects[rows.heldout], known).any()
    assert np.isin(rows.heldout, scene_split(scenes, 0).test).all()
    other = study.rows(Fit("mlp-64", 0.6, 1))
    assert not np.array_equal(rows.known, other.known)


def test_a_planted_leak_is_caught(monkeypatch):
    study = study_of(scenes_of("additive"))
    clean = study.rows

    def leaking(fit: Fit):
        rows = clean(fit)
        return replace(rows, train=np.append(rows.train, rows.heldout[:1]))

    monkeypatch.setattr(study, "rows", leaking)
    with pytest.raises(ValueError, match="held-out objects stand in scenes that are fitted"):
        study.outcomes([Fit("mlp-64", 0.6, 0)])


def test_unordered_scenes_are_predicted_the_same_in_any_order():
    scenes = scenes_of("per_object", ordered=False, slots="none", sizes=(4, 4))
    turned = replace(scenes, objects=scenes.objects[:, ::-1].copy())
    options = replace(QUICK, steps=50)
    found = [
        study_of(each, options).outcomes([Fit("mlp-64", 0.7, 0)])[0][1].found["error"] for each in (scenes, turned)
    ]
    assert np.allclose(*found, rtol=1e-4)
    ordered = replace(scenes, slots="mention")
    assert not np.allclose(found[0], study_of(ordered, options).outcomes([Fit("mlp-64", 0.7, 0)])[0][1].found["error"])


def test_processes_and_groups_change_nothing():
    options = replace(QUICK, draws=2, widths=[16], steps=100)
    scenes = scenes_of("per_object")
    study = study_of(scenes, options)
    fits, _ = study.fits()
    alone = dict(study.run([[fit] for fit in fits]))
    spread = dict(study_of(scenes, replace(options, workers=2)).run([[fit] for fit in fits]))
    assert all(np.array_equal(alone[fit].found["error"], spread[fit].found["error"]) for fit in fits)
    grouped = dict(study.run([fits]))
    assert all(np.allclose(alone[fit].found["error"], grouped[fit].found["error"], rtol=1e-3) for fit in fits)


def test_what_is_left_out_and_refused(monkeypatch):
    scenes = scenes_of("additive", sizes=(6, 6))
    found = capacity([scenes], replace(QUICK, coverages=[0.1, 0.8], steps=5))
    assert any("Draw 0 at coverage 0.1 is left out" in note for note in found["notes"])
    assert [each["coverage"] for each in found["tables"]["Approximators"]] == [0.8]
    few = study_of(scenes.take(np.arange(0, scenes.num_scenes, 17)), replace(QUICK, coverages=[0.75], draws=8))
    fits, notes = few.fits()
    assert len(fits) + len(notes) == 8
    assert fits
    assert notes
    with pytest.raises(InputError, match="gives 4 training objects"):
        capacity([scenes], replace(QUICK, coverages=[0.1]))
    with pytest.raises(InputError, match="give a width"):
        replace(QUICK, widths=[], forest=False).check()
    with pytest.raises(InputError, match="no scenes of 3 objects"):
        capacity([scenes], replace(QUICK, count=3))
    monkeypatch.setattr("dualenc.analysis.studies.find_spec", lambda module: None)
    with pytest.raises(InputError, match="boosting: needs xgboost-cpu; pip install xgboost-cpu"):
        replace(QUICK, boosting=True).check()


def test_held_out_embeddings_that_do_not_vary_have_no_r2_and_the_figures_leave_them_out():
    scenes = scenes_of("additive", sizes=(6, 6))
    known = known_objects(scenes, 0.8, seed=0)
    scenes.embeddings[torch.from_numpy(~np.isin(scenes.objects, known).any(axis=1))] = 0.3
    found = capacity([scenes], replace(QUICK, coverages=[0.8], steps=5, widths=[4]))
    (row,) = found["tables"]["Approximators"]
    assert row["r2_heldout"] is row["r2_heldout_interval"] is None
    assert row["probe_concepts"] is not None
    assert [drawing.name for drawing in curves.capacity(found)] == ["probe_concepts"]
    whole = {"tables": {"Approximators": [row, {**row, "coverage": 0.5, "r2_heldout": 0.9}]}}
    assert [drawing.name for drawing in curves.capacity(whole)] == ["r2_heldout", "probe_concepts"]

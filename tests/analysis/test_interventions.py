"""Edits and removals on embeddings whose structure was planted."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from planted import scenes_of

from dualenc.analysis.interventions import components, counterfactuals, interventions, moved_round
from dualenc.analysis.nearest import set_numbers
from dualenc.analysis.studies import InterventionsOptions
from dualenc.errors import InputError

OPTIONS = InterventionsOptions(num_edits=100, normalized=False)


@cache
def found(structure: str) -> dict[str, Any]:
    return interventions((scenes_of(structure, sizes=(4, 4), dim=32, noise=0.05),), OPTIONS)


def edited(structure: str, estimator: str, scenes: str = "held out") -> dict[str, Any]:
    rows = found(structure)["tables"]["Object editing"]
    return next(r for r in rows if (r["estimator"], r["scenes"], r["status"]) == (estimator, scenes, "all"))


def left(structure: str, removed: str, tables: str = "per slot") -> dict[str, Any]:
    rows = found(structure)["tables"]["Targeted removal"]
    return next(r for r in rows if (r["removed"], r["tables"]) == (removed, tables))


def test_an_exchanged_object_is_found_and_read_where_scenes_are_sums_of_objects() -> None:
    nothing = edited("per_object", "no edit")
    assert nothing["retrieval"] == 0
    assert nothing["probe_objects"] < 0.1
    by_position = edited("per_object", "avg+pos")
    assert by_position["retrieval"] > 0.9
    assert by_position["probe_objects"] > 0.6
    assert by_position["retrieval"] > edited("per_object", "avg")["retrieval"] + 0.4
    assert {r["status"] for r in found("per_object")["tables"]["Object editing"]} == {
        "all",
        "train",
        "heldout",
        "mixed",
    }


def test_random_embeddings_cannot_be_edited() -> None:
    for estimator in ("avg", "avg+pos"):
        assert edited("random", estimator)["retrieval"] < 0.03
        assert edited("random", estimator)["probe_objects"] < 0.1


def test_removal_takes_out_what_it_names_and_its_control_does_not() -> None:
    """Concept components leave what is no sum: objects are still read. Object components leave nothing."""
    for tables in ("shared", "per slot"):
        assert left("per_object", "concepts", tables)["probe_concepts"] < 0.3
        assert left("per_object", "concepts", tables)["probe_objects"] > 0.5
        assert left("per_object", "objects", tables)["probe_concepts"] < 0.3
        assert left("per_object", "objects", tables)["probe_objects"] < 0.1
        assert left("per_object", "permuted concepts", tables)["probe_concepts"] > 0.9
        assert left("per_object", "permuted objects", tables)["probe_objects"] > 0.6
    assert left("per_object", "objects")["share_removed"] > 0.99
    assert left("per_object", "concepts")["share_removed"] < 0.9
    assert left("per_object", "nothing", "")["probe_objects"] > 0.8


def test_counterfactuals_differ_in_one_object_and_exist() -> None:
    objects = scenes_of("random", sizes=(3, 3), dim=2).objects
    rows = np.arange(0, len(objects), 2)
    edits = counterfactuals(objects, rows, 20, seed=0)
    assert len(edits.rows) == 20
    made = edits.made(objects)
    differs = made != objects[edits.rows]
    assert (differs.sum(axis=1) == 1).all()
    assert differs[np.arange(20), edits.slot].all()
    sets, wanted = set_numbers(objects[rows], made)
    assert np.isin(wanted, sets).all()
    assert np.isin(edits.rows, rows).all()


def test_components_are_projections_and_controls_take_as_much() -> None:
    scenes = scenes_of("per_object", sizes=(4, 3), dim=16)
    z = scenes.embeddings.double()
    z = z - z.mean(0)
    parts = dict(components(scenes, z, per_slot=True, seed=0))
    for name in ("concepts", "objects"):
        torch.testing.assert_close((z * parts[name]).sum(), parts[name].square().sum(), rtol=1e-6, atol=0)
        control = parts[f"permuted {name}"]
        assert control.square().sum() == pytest.approx(parts[name].square().sum().item(), rel=0.3)
        assert not torch.allclose(control, parts[name])


def test_a_permutation_leaves_nothing_in_its_place() -> None:
    for number in (2, 3, 10):
        moved = moved_round(number, np.random.default_rng(number))
        assert sorted(moved) == list(range(number))
        assert (moved != np.arange(number)).all()


def test_scenes_without_a_counterfactual_are_refused() -> None:
    scenes = scenes_of("additive", sizes=(6, 6), dim=4)
    apart = np.array([[i, i + 1] for i in range(0, 36, 2)])
    lonely = replace(scenes, objects=apart, embeddings=scenes.embeddings[: len(apart)])
    with pytest.raises(InputError, match="num_scenes: no two of the 18 scenes"):
        interventions((lonely,), replace(OPTIONS, object_probe=False))

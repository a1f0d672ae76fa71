"""Multiplicative probes: planted structure recognised, SWAPs seen, leaks caught."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import scenes_of

from dualenc.analysis import curves
from dualenc.analysis.generalization import FitRows, known_objects, r2_score, scenes_of_count
from dualenc.analysis.multiplicative import PROBES, MultiplicativeFit, fit_probe, multiplicative
from dualenc.analysis.studies import MultiplicativeOptions
from dualenc.errors import InputError

TERMS = ((), ("per-object",))
STRUCTURES = ("additive", "per_object", "global", "random")


def planted(structure: str, *, ordered: bool, **options):
    slots = "mention" if ordered else "none"
    settings = {"sizes": (6, 6), "coverage": 0.8, "dim": 3, "ordered": ordered, "slots": slots, **options}
    return scenes_of(structure, **settings)


def heldout_r2(scenes, **options) -> dict[str, float]:
    rows = FitRows.of(scenes, scenes.train, validation=0.1)
    test = scenes.take(rows.heldout)
    fits = {name: fit_probe(scenes, rows, terms=terms, rank=4, **options) for name, terms in PROBES.items()}
    return {name: r2_score(test.embeddings, fit(test)) for name, fit in fits.items()}


@pytest.mark.parametrize("ordered", [True, False])
def test_each_structure_is_recognised_by_its_probe(ordered: bool):
    found = {structure: heldout_r2(planted(structure, ordered=ordered), restarts=1) for structure in STRUCTURES}
    assert min(found["additive"].values()) > 0.99  # products that are not needed do no harm
    assert found["per_object"]["additive"] < 0.5
    assert min(found["per_object"]["per-object"], found["per_object"]["global"]) > 0.99
    assert found["global"]["additive"] < 0.5
    assert found["global"]["per-object"] < 0.95 < found["global"]["global"]
    assert max(found["random"].values()) < 0.2


def test_three_concepts_and_one_or_three_objects():
    single = planted("per_object", ordered=True, objects=1, sizes=(6, 6, 6), dim=2)
    assert heldout_r2(single, restarts=1)["per-object"] > 0.99
    three = planted("per_object", ordered=False, objects=3, sizes=(5, 5), dim=2, coverage=0.7)
    rows = FitRows.of(three, three.train, validation=0.1)
    rows = replace(rows, train=rows.train[::4])  # enough, and quick
    test = three.take(rows.heldout)
    found = [r2_score(test.embeddings, fit_probe(three, rows, terms=t, rank=3, restarts=1)(test)) for t in TERMS]
    assert found[0] < 0.5 < found[1]  # one restart finds some of the products, not all


def swapped(scenes):
    """The same scenes after the two objects exchanged their first concept's values."""
    values = scenes.values.copy()
    values[:, :, 0] = values[:, ::-1, 0]
    return replace(scenes, objects=scenes.space.encode(values))


def of_a_swap(fit: MultiplicativeFit, scenes) -> tuple[float, float]:
    """How much the fit's answer changes when two objects change places, and when they exchange a value."""
    turned = replace(scenes, objects=scenes.objects[:, ::-1].copy())
    return tuple(float((fit(other) - fit(scenes)).abs().max()) for other in (turned, swapped(scenes)))


def test_an_unordered_global_product_sees_a_swap_and_not_the_order():
    scenes = planted("global", ordered=False)
    rows = FitRows.of(scenes, scenes.train, validation=0.1)
    fit = fit_probe(scenes, rows, terms=("global",), rank=4, restarts=1)
    order, swap = of_a_swap(fit, scenes)
    assert order < 1e-9
    assert swap > 0.1
    tables = fit.tables.reshape(2, -1, 4)
    tied = replace(fit, tables=tables[:1].expand(2, -1, -1).reshape(-1, 4))  # one table for both slots
    assert of_a_swap(tied, scenes)[1] < 1e-9


def test_an_ordered_fit_tells_the_slots_apart():
    scenes = planted("per_object", ordered=True)
    rows = FitRows.of(scenes, scenes.train, validation=0.1)
    assert min(of_a_swap(fit_probe(scenes, rows, terms=("per-object",), rank=4, restarts=1), scenes)) > 0.1


def test_the_additive_probe_is_least_squares():
    scenes = planted("random", ordered=True)
    rows = FitRows.of(scenes, scenes.train, validation=0.1)
    fit = fit_probe(scenes, rows, terms=(), rank=0)
    seen = scenes.take(np.concatenate([rows.train, rows.validation]))
    columns = np.concatenate([np.eye(6)[seen.values[:, i, k]] for i in range(2) for k in range(2)], axis=1)
    best = columns @ np.linalg.lstsq(columns, seen.embeddings.double().numpy())[0]
    assert torch.allclose(fit(seen), torch.from_numpy(best), atol=1e-8)


def test_leaks_are_caught():
    scenes = planted("global", ordered=True)
    rows = FitRows.of(scenes, scenes.train, validation=0.1)
    assert not np.isin(scenes.objects[rows.heldout], scenes.train).any()
    with pytest.raises(ValueError, match="held-out objects stand in scenes that are fitted"):
        fit_probe(scenes, replace(rows, train=np.append(rows.train, rows.heldout[0])), terms=(), rank=0)
    with pytest.raises(ValueError, match="fitted objects stand in held-out scenes"):
        fit_probe(scenes, replace(rows, heldout=np.append(rows.heldout, rows.train[0])), terms=(), rank=0)


def test_validation_scenes_show_objects_that_the_fit_has_not_seen_and_no_new_values():
    scenes = planted("global", ordered=True, coverage=0.5)
    rows = FitRows.of(scenes, scenes.train, validation=0.3)
    spare = np.setdiff1d(scenes.objects[rows.validation], scenes.objects[rows.train])
    assert 1 <= len(spare) <= 0.3 * len(scenes.train) + 1
    assert np.isin(scenes.objects[rows.validation], spare).any(axis=1).all()
    shown = scenes.values[rows.train].reshape(-1, 2)
    assert all(len(np.unique(shown[:, k])) == 6 for k in range(2))
    again = FitRows.of(scenes, scenes.train, validation=0.3)
    assert np.array_equal(rows.validation, again.validation)


def test_the_study_and_what_it_refuses():
    scenes = planted("global", ordered=True)
    options = MultiplicativeOptions(ranks=[2], restarts=1, normalized=False)
    rows = multiplicative([scenes], options)["tables"]["Probes"]
    assert [(row["probe"], row["rank"]) for row in rows] == [("additive", None), ("per-object", 2), ("global", 2)]
    assert all(row["r2_heldout_interval"][0] <= row["r2_heldout"] <= row["r2_heldout_interval"][1] for row in rows)
    assert rows == multiplicative([scenes], options)["tables"]["Probes"]  # a function of the seed
    with pytest.raises(InputError, match="no scenes of 3 objects; use one of 2"):
        multiplicative([scenes], replace(options, count=3))
    without = replace(scenes, train=None)
    with pytest.raises(InputError, match="no held-out objects"):
        multiplicative([without], options)
    assert len(known_objects(without, 0.5, seed=0)) == 18
    with pytest.raises(InputError, match="training showed all 36 objects; give the share"):
        multiplicative([replace(scenes, train=np.arange(36))], options)
    with pytest.raises(InputError, match="the tower has collapsed"):
        multiplicative([replace(scenes, embeddings=torch.ones_like(scenes.embeddings))], options)
    wide = replace(scenes, objects=np.tile(scenes.objects, (1, 3)), slots="none")
    with pytest.raises(InputError, match="6 objects without an order of slots are too many"):
        scenes_of_count([wide], 6)
    with pytest.raises(InputError, match="are too few"):
        FitRows.of(scenes.take(np.arange(3)), scenes.train)


def test_held_out_embeddings_that_do_not_vary_have_no_r2_and_no_figure():
    scenes = planted("additive", ordered=True)
    rows = FitRows.of(scenes, scenes.train, validation=0.1)
    scenes.embeddings[torch.from_numpy(rows.heldout)] = 0.3
    found = multiplicative([scenes], MultiplicativeOptions(ranks=[2], restarts=1, normalized=False))
    assert {row["r2_heldout"] for row in found["tables"]["Probes"]} == {None}
    assert min(row["r2_train"] for row in found["tables"]["Probes"]) > 0.9
    assert curves.multiplicative(found) == []


def test_an_r2_against_what_does_not_vary_is_a_number():
    same = torch.full((5, 3), 0.1)
    assert np.isfinite(r2_score(same, same + 1e-9))
    assert np.isfinite(r2_score(same, same + 10))

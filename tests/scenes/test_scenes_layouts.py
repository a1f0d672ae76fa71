"""Layouts: where objects stand, what is stated of them, and what does not fit."""

import re
from typing import Any

import numpy as np
import pytest

from dualenc.errors import InputError
from dualenc.scenes import RELATIONS, ConceptSpace, ObjectSplit, Scenes, SceneSampler, relation_numbers, uniform
from dualenc.scenes.random import uniform_at
from dualenc.scenes.relations import holding

SPACE = ConceptSpace.symbolic(num_concepts=2, num_values=8)
SPLIT = ObjectSplit.uniform(SPACE, coverage=0.7, seed=0, val_fraction=0.1, max_objects=4)


def sampler(**options: Any) -> SceneSampler:
    return SceneSampler(SPLIT, **{"seed": 1, "counts": {1: 0.2, 2: 0.4, 4: 0.4}, **options})


def test_random_rows_are_those_of_their_numbers() -> None:
    numbers = np.array([5, 1_000_000, 7, 5, 300, 0])
    rows = uniform_at(3, "train", "x", numbers, 7)
    assert np.array_equal(rows, np.concatenate([uniform(3, "train", "x", i, i + 1, 7) for i in numbers.tolist()]))
    assert uniform_at(3, "train", "x", numbers[:0], 7).shape == (0, 7)


@pytest.mark.parametrize("layout", ["free", "fixed", "relational"])
def test_places_are_a_function_of_number_and_attempt(layout: str) -> None:
    options: dict[str, Any] = {"layout": layout, "min_distance": 0.22, "margin": 0.1, "slot_jitter": 0.02}
    chosen = sampler(**options, relation_margin=0.1)
    scenes = chosen.draw("train", 0, 200)
    assert scenes.relation_margin == 0.1
    numbers = np.array([150, 3, 3, 77, 12])
    attempts = np.array([0, 1, 0, 2, 1])
    places = chosen.places("train", scenes.objects[numbers], numbers, attempts)
    assert np.array_equal(places[attempts == 0], scenes.positions[numbers[attempts == 0]], equal_nan=True)
    for row, (i, attempt) in enumerate(zip(numbers, attempts)):
        alone = chosen.places("train", scenes.objects[i : i + 1], numbers[row : row + 1], attempts[row : row + 1])
        assert np.array_equal(alone[0], places[row], equal_nan=True)
        assert (attempt == 0) == np.array_equal(places[row], scenes.positions[i], equal_nan=True)
    assert np.array_equal(np.isnan(places).any(axis=-1), scenes.objects[numbers] < 0)


def distances(scenes: Scenes) -> np.ndarray:
    apart = np.linalg.norm(scenes.positions[:, :, None] - scenes.positions[:, None], axis=-1)
    return apart[:, ~np.eye(scenes.objects.shape[1], dtype=bool)]


@pytest.mark.parametrize(("most", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (3, 2, 2), (4, 2, 2), (7, 3, 3)])
def test_fixed_slots_are_a_grid(most: int, rows: int, columns: int) -> None:
    split = ObjectSplit.uniform(SPACE, coverage=0.5, seed=0, max_objects=7)
    scenes = SceneSampler(split, seed=1, counts={most: 1.0}, layout="fixed", margin=0.1).draw("ood", 0, 50)
    assert np.all(scenes.positions == scenes.positions[0])
    cell = np.stack([np.arange(most) % columns + 0.5, np.arange(most) // columns + 0.5], axis=1) / [columns, rows]
    assert scenes.positions[0] == pytest.approx(cell)


def test_slots_jitter_but_keep_their_distance_and_margin() -> None:
    fixed = sampler(layout="fixed", slot_jitter=0.04, min_distance=0.3, margin=0.25)
    scenes = fixed.draw("train", 0, 1000)
    assert np.nanmin(distances(scenes)) >= 0.3
    assert 0.25 <= np.nanmin(scenes.positions) < 0.26
    assert 0.74 < np.nanmax(scenes.positions) <= 0.75
    four = scenes.positions[scenes.counts == 4]
    centre = np.array([[0.29, 0.29], [0.71, 0.29], [0.29, 0.71], [0.71, 0.71]])
    assert np.abs(four - centre).max() <= 0.04 + 1e-6
    assert np.abs(four - centre).max() > 0.039
    two = scenes.positions[scenes.counts == 2]
    assert np.abs(two[:, :2] - centre[:2]).max() <= 0.04 + 1e-6  # fewer objects stand in the first slots


@pytest.mark.parametrize(
    ("style", "names"), [("flat", None), ("clevr", None), ("clevr", ("behind",)), ("flat", ("above", "left of"))]
)
def test_relational_scenes_hold_what_is_stated(style: str, names: tuple[str, ...] | None) -> None:
    chosen = sampler(
        layout="relational", style=style, relations=names, relation_margin=0.3, min_distance=0.2, margin=0.1
    )
    scenes = chosen.draw("train", 0, 600)
    for attempt in (0, 1):
        numbers = np.arange(600)
        places = chosen.places("train", scenes.objects, numbers, np.full(600, attempt))
        placed = Scenes(SPACE, scenes.objects, places, 0.3)
        stated = chosen.stated("train", scenes.objects, numbers)
        assert stated is not None
        several = np.flatnonzero(scenes.counts >= 2)
        held = holding(placed, np.arange(6))[stated.relation, numbers, stated.pair[:, 0], stated.pair[:, 1]]
        assert held[several].all()
        assert np.all(stated.relation[scenes.counts == 1] == -1)
        assert np.all(stated.pair[scenes.counts == 1] == -1)
        assert np.nanmin(distances(placed)) >= 0.2 - 1e-6
        assert np.nanmin(places) >= 0.1 - 1e-6
        assert np.nanmax(places) <= 0.9 + 1e-6
    assert set(stated.relation[several].tolist()) == set(relation_numbers(style, names).tolist())
    pairs = {tuple(pair) for pair in stated.pair[scenes.counts == 4].tolist()}
    assert pairs == {(a, b) for a in range(4) for b in range(4) if a != b}
    part = chosen.stated("train", scenes.objects[[40, 9]], np.array([40, 9]))
    assert part is not None
    assert np.array_equal(part.pair, stated.pair[[40, 9]])
    assert sampler().stated("train", scenes.objects, numbers) is None


def test_partners_stay_partners_in_every_layout() -> None:
    for layout in ("fixed", "relational"):
        free, other = (sampler(collision_rate=0.5, layout=name).draw("train", 0, 100) for name in ("free", layout))
        assert np.array_equal(free.objects, other.objects)


@pytest.mark.parametrize("layout", ["free", "relational"])
def test_too_crowded_a_scene_says_how_many_objects_fit(layout: str) -> None:
    options: dict[str, Any] = {"layout": layout, "min_distance": 0.45, "margin": 0.1}
    crowded = SceneSampler(SPLIT, seed=0, counts={4: 1.0}, **{**options, "min_distance": 0.82})
    with pytest.raises(
        InputError, match=r"^objects: 4 objects .* do not fit into the picture, at most \d fit"
    ) as caught:
        crowded.draw("train", 0, 3)
    most = int(re.search(r"at most (\d) fit", str(caught.value)).group(1))  # type: ignore[union-attr]
    assert 1 <= most < 4
    SceneSampler(SPLIT, seed=0, counts={most: 1.0}, **{**options, "min_distance": 0.82}).draw("train", 0, 3)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"layout": "spiral"}, "layout: 'spiral' is unknown; use free, fixed, relational"),
        ({"style": "cubist"}, "style: 'cubist'"),
        ({"layout": "relational", "relations": ["behind"]}, "relations: 'behind' is no relation of the flat style"),
        (
            {"layout": "relational", "style": "clevr", "relations": ["above"]},
            "no relation of the clevr style; use left",
        ),
        ({"relations": []}, "relations: is empty"),
        ({"layout": "relational", "relation_margin": 0.6, "margin": 0.2}, "relation_margin: 0.6 .* use less than 0.6"),
        ({"relation_margin": -0.1}, "relation_margin"),
        ({"slot_jitter": -0.1}, "slot_jitter"),
        ({"layout": "fixed", "min_distance": 0.7}, "objects: 4 slots .* use at most 1"),
        ({"layout": "fixed", "min_distance": 0.3, "margin": 0.4}, "objects: 4 slots .* use at most 1, or less jitter"),
        ({"layout": "fixed", "margin": 0.45, "slot_jitter": 0.2}, "objects: 4 slots .*; use less jitter or smaller"),
    ],
)
def test_impossible_layouts_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        sampler(**options)
    assert len(RELATIONS) == 6

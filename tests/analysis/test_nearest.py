"""Retrieval among real scenes, by hand."""

import numpy as np
import torch

from dualenc.analysis import nearest
from dualenc.analysis.nearest import Gallery, set_numbers

SCENES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [-1.0, 0.0]])
OBJECTS = np.array([[0, 1], [1, 2], [2, 1], [3, 3]])


def test_the_same_objects_in_any_order_are_right() -> None:
    sets, wanted = set_numbers(OBJECTS, np.array([[1, 0], [1, 2], [1, 2], [3, 0]]))
    assert sets[1] == sets[2]
    assert wanted[0] == sets[0]
    vectors = torch.tensor([[5.0, 1.0], [0.1, 9.0], [3.0, 1.0], [-1.0, 0.0]])
    gallery = Gallery(SCENES, sets)
    # the last one's objects are shown nowhere: a miss, wherever it points
    assert gallery.hits(vectors, wanted).tolist() == [True, True, False, False]
    assert gallery.chance(wanted) == (1 + 2 + 2 + 0) / 4 / 4


def test_a_tie_is_a_miss() -> None:
    sets, wanted = set_numbers(OBJECTS, OBJECTS[:1])
    same = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert Gallery(same, sets).hits(torch.tensor([[1.0, 0.0]]), wanted).tolist() == [False]


def test_blocks_change_nothing(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    objects = rng.integers(4, size=(50, 2))
    (sets,) = set_numbers(objects)
    gallery, vectors = (
        Gallery(torch.from_numpy(rng.normal(size=(50, 3))), sets),
        torch.from_numpy(rng.normal(size=(50, 3))),
    )
    whole = gallery.hits(vectors, sets)
    monkeypatch.setattr(nearest, "_CELLS", 120)
    assert gallery.hits(vectors, sets).tolist() == whole.tolist()
    assert 0 < whole.sum() < 50

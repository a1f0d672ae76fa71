"""Embedded scenes: derived facts by hand, and what they refuse."""

import numpy as np
import pytest
import torch

from dualenc.analysis.embedded import EmbeddedScenes
from dualenc.errors import InputError
from dualenc.scenes import ConceptSpace

SPACE = ConceptSpace.symbolic(num_concepts=2, num_values=3)
OBJECTS = np.array([[0, 4], [4, 8], [8, 5], [0, 0]])


def scenes(**changes) -> EmbeddedScenes:
    embeddings = torch.tensor([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0], [0.0, 0.0]])
    options = {
        "embeddings": embeddings,
        "objects": OBJECTS,
        "space": SPACE,
        "slots": "mention",
        "train": np.array([0, 4]),
    }
    return EmbeddedScenes(**{**options, **changes})


def test_what_follows_from_the_objects():
    found = scenes()
    assert (found.num_scenes, found.num_objects) == (4, 2)
    assert found.values[2].tolist() == [[2, 2], [1, 2]]
    assert found.heldout.tolist() == [[False, False], [False, True], [True, True], [False, False]]
    assert found.status.tolist() == ["train", "mixed", "heldout", "train"]


def test_normalized_is_a_copy_of_length_one():
    found = scenes()
    unit = found.normalized()
    assert torch.allclose(unit.embeddings[0], torch.tensor([0.6, 0.8]))
    assert unit.embeddings.norm(dim=1).tolist() == pytest.approx([1, 1, 1, 0])
    assert found.embeddings[0].tolist() == [3, 4]
    assert unit.train is found.train


@pytest.mark.parametrize("rows", [np.array([2, 0]), np.array([True, False, True, False])])
def test_take_keeps_rows_together(rows):
    part = scenes().take(rows)
    order = [2, 0] if rows.dtype != bool else [0, 2]
    assert part.objects.tolist() == OBJECTS[order].tolist()
    assert part.embeddings.tolist() == scenes().embeddings[order].tolist()
    assert part.status.tolist() == scenes().status[order].tolist()


def test_broken_embeddings_are_counted():
    embeddings = scenes().embeddings.clone()
    embeddings[1, 0], embeddings[3, 1] = torch.nan, torch.inf
    with pytest.raises(InputError, match="2 of 4 hold NaN or Inf"):
        scenes(embeddings=embeddings)


def test_without_a_split_nothing_is_held_out():
    with pytest.raises(InputError, match="TARGET: has no held-out objects"):
        _ = scenes(train=None).status


@pytest.mark.parametrize("objects", [OBJECTS[:3], OBJECTS - 1, OBJECTS + 1])
def test_objects_must_fit(objects):
    with pytest.raises(ValueError):
        scenes(objects=objects)


def test_no_scenes_is_a_clear_no():
    with pytest.raises(InputError, match="there are none"):
        scenes(embeddings=torch.zeros(0, 2), objects=np.zeros((0, 2), dtype=np.int64))

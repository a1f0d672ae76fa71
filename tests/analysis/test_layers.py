"""Layers and positions: states are the tower's own, planted layers are told apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import scenes_of

from dualenc.analysis import layers, memory
from dualenc.analysis.layers import States, _run, pretrained_states, text_states, tower_states
from dualenc.analysis.probes import scene_split
from dualenc.analysis.studies import LayersOptions
from dualenc.errors import InputError
from dualenc.models.towers import SymbolicTower, VisionTower

TOKENS = torch.tensor([[1, 2, 3, 4, 0], [4, 3, 2, 1, 5], [2, 2, 5, 0, 0]])


def token_tower(readout: str) -> SymbolicTower:
    return SymbolicTower(6, width=8, depth=3, heads=2, output_dim=4, max_length=5, readout=readout)  # type: ignore[arg-type]


@pytest.mark.parametrize("readout", ["eos", "mean"])
def test_the_last_states_make_the_embedding(readout: str):
    tower = token_tower(readout).eval()
    embedding = tower(TOKENS)
    states, lengths = tower_states(tower, TOKENS)
    assert states.shape == (3, 4, 5, 8)
    assert lengths.tolist() == [4, 5, 3]
    assert torch.allclose(states[0, 0, :4], tower.embedding(TOKENS[0, :4]) + tower.positions[:4])
    last = tower.transformer.norm(states[:, -1])
    rows = [last[i, n - 1] if readout == "eos" else last[i, :n].mean(0) for i, n in enumerate(lengths)]
    assert torch.allclose(tower.projection(torch.stack(rows)), embedding, atol=1e-6)
    assert tower.readout == readout
    assert torch.equal(tower(TOKENS), embedding)  # nothing is left behind
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in tower.transformer.blocks)


def test_pictures_have_patches_and_a_class_token():
    tower = VisionTower(image_size=8, patch_size=4, width=8, depth=2, heads=2, output_dim=4, readout="eos").eval()
    pictures = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8)
    states, lengths = tower_states(tower, pictures)
    assert states.shape == (3, 3, 5, 8)
    assert lengths.tolist() == [5, 5, 5]
    assert torch.allclose(tower.projection(tower.transformer.norm(states[:, -1, -1])), tower(pictures), atol=1e-6)


def test_the_layer_and_the_position_that_hold_objects_are_found():
    """Layer 1: objects at position 0, concepts at 1; layer 0: noise. Position 2 is padding for some."""
    bound, bag = (scenes_of(structure, ordered=False, sizes=(5, 5)) for structure in ("per_object", "additive"))
    noise = torch.randn(bound.num_scenes, 40, generator=torch.Generator().manual_seed(0))
    layers = [torch.stack([noise] * 3, 1), torch.stack([bound.embeddings, bag.embeddings, noise], 1)]
    lengths = 2 + np.arange(bound.num_scenes) % 2
    states = States(replace(bound, slots="none"), torch.stack(layers, 1), lengths)
    options = LayersOptions(workers=1)
    assert states.positions(options) == ["0", "1", "mean", "end"]
    assert states.positions(replace(options, positions="pooled")) == ["mean", "end"]
    split = scene_split(states.scenes, 0)
    asked = [(0, "0"), (1, "0"), (1, "1")]
    found = {place: row for place, (row, _) in _run(states, split, options, asked)}
    assert found[1, "0"]["probe_objects"] > 0.8 > 0.6 > found[1, "1"]["probe_objects"]
    assert min(found[1, "0"]["probe_concepts"], found[1, "1"]["probe_concepts"]) > 0.95
    assert found[0, "0"]["probe_concepts"] < 0.4
    assert found[0, "0"]["probe_objects"] < 0.1


def test_an_object_probe_that_is_left_out_is_said(monkeypatch):
    scenes = replace(scenes_of("per_object", ordered=False, sizes=(5, 5)), slots="none")
    states = States(scenes, scenes.embeddings[:, None, None], np.ones(scenes.num_scenes, dtype=np.int64))
    monkeypatch.setattr(layers, "states_of", lambda target, options: states)
    monkeypatch.setattr("dualenc.analysis.reading.available_memory", iter(range(1000, 2000)).__next__)
    found = layers.layers(None, LayersOptions(workers=1, positions="pooled"))
    assert "probe_objects" not in found["tables"]["Probes"][0]
    assert [note.partition(":")[0] for note in found["notes"]] == ["2 objects, linear probes", "Objects are not probed"]


def test_means_and_ends_leave_padding_out():
    scenes = scenes_of("additive", sizes=(3, 3), dim=2)
    n = scenes.num_scenes
    states = torch.zeros(n, 1, 3, 2)
    states[:, 0] = torch.tensor([1.0, 2.0, 30.0])[:, None]
    found = States(scenes, states, 2 + np.arange(n) % 2)
    assert found.at(0, "mean").embeddings[:2, 0].tolist() == [1.5, 11.0]
    assert found.at(0, "end").embeddings[:2, 0].tolist() == [2.0, 30.0]
    assert found.at(0, "1").embeddings[:2, 0].tolist() == [2.0, 2.0]


def test_a_pretrained_model_has_states_too():
    pytest.importorskip("transformers")
    from dualenc.analysis.pretrained import random_clip

    model = random_clip("clip-vit-base-patch32", seed=0)
    states, lengths = pretrained_states(model, ["a red cube and a blue ball", "a red cube"])
    assert states.shape[:2] == (2, 13)
    assert lengths.tolist() == [9, 5]
    end = model.model.text_model.final_layer_norm(states[:, -1])[[0, 1], lengths - 1]
    texts = model.texts(["a red cube and a blue ball", "a red cube"])
    assert torch.allclose(model.model.text_projection(end), texts, atol=1e-5)


def test_texts_are_read_in_batches_and_refused_where_their_states_do_not_fit(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("transformers")
    from dualenc.analysis.pretrained import random_clip

    model = random_clip("clip-vit-base-patch32", seed=0)
    texts = ["a red cube", "a red cube and a blue ball", "a blue ball"]
    (whole, lengths), (parts, others) = text_states(model, texts, 3), text_states(model, texts, 1)
    assert parts.shape == whole.shape
    assert others.tolist() == lengths.tolist() == [5, 9, 5]
    for row, length in enumerate(lengths):
        assert torch.allclose(parts[row, :, :length], whole[row, :, :length], atol=1e-5)
    monkeypatch.setattr(layers, "available_memory", lambda: 1)
    with pytest.raises(InputError, match=r"^num_scenes: the states of 3 scenes need"):
        text_states(model, texts, 1)


def test_workers_share_the_memory_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_available", lambda: 1000)
    monkeypatch.setattr(memory, "_sharers", 1)
    assert memory.available_memory() == 1000
    monkeypatch.setattr(layers, "become_worker", lambda parent: None)
    layers._start(0, 4)
    assert memory.available_memory() == 250

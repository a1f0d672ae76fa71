"""`dualenc.load`, and the embeddings of a loaded model."""

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import dualenc
from dualenc import hardware
from dualenc.config import Config, TrainerConfig
from dualenc.data import Dataset
from dualenc.errors import InputError
from dualenc.loading import LoadedModel
from dualenc.scenes import ConceptSpace, Scenes

CopyOf = Callable[[Path], Path]


def refusal(function: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(InputError) as refused:
        function(*arguments, **named)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.fixture(scope="session")
def pictures(flat_data: Path, flat_model: LoadedModel) -> np.ndarray:
    """uint8 [20, 24, 24, 3]."""
    dataset = Dataset(flat_data)
    dataset.verify()
    return dataset.images("val", np.arange(20))


def some_scenes(space: ConceptSpace) -> Scenes:
    """Scenes of one and of two objects."""
    return Scenes.of(space, np.array([[3, 14], [14, 3], [26, -1], [0, 9]]))


def test_importing_needs_no_torch_and_loading_no_lightning(python: Callable[..., Any], flat_run: Path) -> None:
    script = """
import sys
import dualenc
assert "torch" not in sys.modules, "torch"
shape = dualenc.load(sys.argv[1]).encode_queries(["a red circle"]).shape
assert not [name for name in sys.modules if "lightning" in name], "lightning"
print(*shape)
"""
    done = python("-c", script, flat_run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "64"]


def test_the_version_is_the_package_s() -> None:
    assert dualenc.__version__ == version("dualenc")


def test_embeddings_are_normalised_float32_without_gradient_or_dropout(
    flat_model: LoadedModel, pictures: np.ndarray
) -> None:
    texts = [*flat_model.grammar.concept_queries, "a red circle and a blue star"]
    for embeddings, again, number in (
        (flat_model.encode_scenes(pictures), flat_model.encode_scenes(pictures), 20),
        (flat_model.encode_queries(texts), flat_model.encode_queries(texts), len(texts)),
    ):
        assert embeddings.shape == (number, 64)
        assert embeddings.dtype == torch.float32
        assert not embeddings.requires_grad
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(number))
        assert torch.equal(embeddings, again)
        assert len(torch.unique(embeddings, dim=0)) == number


def test_embeddings_do_not_depend_on_batches(flat_model: LoadedModel, pictures: np.ndarray) -> None:
    whole = flat_model.encode_scenes(pictures)
    torch.testing.assert_close(flat_model.encode_scenes(pictures, batch_size=7), whole)
    texts = ["something red", "there is a red circle and a blue star", "a star"]
    whole = flat_model.encode_queries(texts)
    torch.testing.assert_close(flat_model.encode_queries(texts, batch_size=1), whole)
    assert flat_model.encode_scenes(pictures[:0]).shape == flat_model.encode_queries([]).shape == (0, 64)


def test_every_form_of_pictures_gives_the_same(flat_model: LoadedModel, pictures: np.ndarray) -> None:
    expected = flat_model.model.encode_scenes(torch.tensor(pictures)).detach()
    images = [Image.fromarray(picture) for picture in pictures]
    for form in (pictures, torch.tensor(pictures), list(pictures), images, [image.convert("RGBA") for image in images]):
        torch.testing.assert_close(flat_model.encode_scenes(form), expected)
    assert flat_model.encode_scenes([]).shape == (0, 64)


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda p: p / 255, "float64"),
        (lambda p: p[:, :12, :12], "20 x 12 x 12 x 3"),
        (lambda p: p[0], "24 x 24 x 3"),
        (lambda p: p.transpose(0, 3, 1, 2), "20 x 3 x 24 x 24"),
        (lambda p: [p[0], Image.fromarray(p[1]).resize((32, 16))], "picture 1 is 16 x 32 x 3"),
        (lambda p: [picture / 255 for picture in p], "float64"),
        (lambda p: Scenes.of(ConceptSpace.symbolic(num_concepts=2, num_values=4), np.array([[1, 2]])), "token scenes"),
    ],
)
def test_wrong_pictures_are_refused(
    flat_model: LoadedModel, pictures: np.ndarray, make: Callable[[np.ndarray], Any], part: str
) -> None:
    message = refusal(flat_model.encode_scenes, make(pictures))
    assert part in message
    assert "24, 24, 3" in message


def test_texts_outside_the_vocabulary_are_refused(flat_model: LoadedModel) -> None:
    assert "'mauve'" in refusal(flat_model.encode_queries, ["a red circle", "a mauve circle"])
    assert "list of texts" in refusal(flat_model.encode_queries, "a red circle")
    longest = flat_model.spec.coder.max_length
    assert flat_model.encode_queries(["red " * (longest - 1)]).shape == (1, 64)
    assert f"{longest - 1}" in refusal(flat_model.encode_queries, ["a star", "red " * longest])


def test_scenes_as_tokens_and_as_objects_are_the_same(symbolic_model: LoadedModel) -> None:
    space = symbolic_model.space
    assert space.sizes == (3, 3, 3)
    embeddings = symbolic_model.encode_scenes(some_scenes(space))
    soo, eoo, eos = 1, 2, 3
    values = space.decode(np.array([3, 14, 26])) + space.offsets + 4
    one, two, three = ([soo, *row, eoo] for row in values.tolist())
    tokens = np.array([[*one, *two, eos], [*two, *one, eos], [*three, eos, *[0] * 5]], dtype=np.int16)
    torch.testing.assert_close(symbolic_model.encode_scenes(tokens), embeddings[:3])
    torch.testing.assert_close(symbolic_model.encode_scenes(torch.tensor(tokens)), embeddings[:3])
    wider = Scenes.of(space, np.array([[26, -1, -1], [3, 14, -1]]))
    torch.testing.assert_close(symbolic_model.encode_scenes(wider), embeddings[[2, 0]])


def test_a_symbolic_query_tower_reads_the_grammar(symbolic_model: LoadedModel) -> None:
    grammar, coder = symbolic_model.grammar, symbolic_model.spec.coder
    texts = [
        grammar.concept_query(1, 2),
        grammar.object_query(14),
        grammar.concept_query(0, 0),
        grammar.object_query(3),
    ]
    objects = symbolic_model.model.encode_queries(torch.tensor(coder.objects(np.array([14, 3]))))
    concepts = symbolic_model.model.encode_queries(torch.tensor(coder.concepts()[[5, 0]]))
    expected = torch.stack([concepts[0], objects[0], concepts[1], objects[1]]).detach()
    torch.testing.assert_close(symbolic_model.encode_queries(texts), expected)
    torch.testing.assert_close(symbolic_model.encode_queries(texts[::2]), expected[::2])
    torch.testing.assert_close(symbolic_model.encode_queries(texts[1::2]), expected[1::2])


def test_what_a_symbolic_query_tower_cannot_read_is_refused(symbolic_model: LoadedModel) -> None:
    encode, grammar = symbolic_model.encode_queries, symbolic_model.grammar
    known = grammar.object_query(0)
    assert "'k9v9'" in refusal(encode, [known, known.replace("k1v0", "k9v9")])
    for text in (grammar.phrase([0, 0, -1]), f"{known} and {grammar.object_query(5)}"):
        assert "neither one object nor one value" in refusal(encode, [known, text])


def test_wrong_token_scenes_are_refused(symbolic_model: LoadedModel) -> None:
    space, encode = symbolic_model.space, symbolic_model.encode_scenes
    assert "not pictures" in refusal(encode, np.zeros((2, 24, 24, 3), dtype=np.uint8))
    assert "not pictures" in refusal(encode, [np.zeros((24, 24, 3), dtype=np.uint8)])
    assert "float64" in refusal(encode, np.ones((2, 6)))
    assert "[0, 13)" in refusal(encode, np.array([[1, 4, 7, 13, 2, 3]]))
    assert "[0, 13)" in refusal(encode, np.array([[1, 4, 7, -1, 2, 3]]))
    assert "padding" in refusal(encode, np.array([[1, 4, 7, 10, 2, 3], [0] * 6]))
    assert "2 objects" in refusal(encode, Scenes.of(space, np.array([[1, 2, 3]])))
    other = ConceptSpace.symbolic(num_concepts=3, num_values=4)
    assert "k0v3 is new" in refusal(encode, Scenes.of(other, np.array([[1, 2]])))


def same(model: LoadedModel, file: Path) -> bool:
    """Whether the model's weights are those of a safetensors file."""
    state, stored = model.model.state_dict(), load_file(file)
    return state.keys() == stored.keys() and all(torch.equal(state[name], stored[name]) for name in stored)


def test_weights_are_readable_like_every_other_file(flat_run: Path) -> None:
    modes = {path.name: path.stat().st_mode for path in (flat_run, flat_run / "checkpoints") for path in path.iterdir()}
    assert modes["weights.safetensors"] == modes["best.safetensors"] == modes["config.yaml"]


def test_weights_without_their_samples_are_refused(flat_run: Path, copy_of: CopyOf) -> None:
    folder = copy_of(flat_run)
    best = folder / "checkpoints" / "best.safetensors"
    tensors = load_file(best)
    for metadata in (None, {"format": "pt"}, {"samples": "many"}):
        save_file(tensors, best, metadata=metadata)
        assert "after how many samples" in refusal(dualenc.load, folder, weights="best")


@pytest.mark.parametrize(
    ("asked", "cuda", "expected"),
    [("auto", False, "cpu"), ("auto", True, "gpu"), ("cpu", True, "cpu"), ("gpu", True, "gpu"), ("gpu", False, None)],
)
def test_the_accelerator_is_cuda_or_the_cpu(
    asked: Literal["auto", "cpu", "gpu"], cuda: bool, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    config = Config(trainer=TrainerConfig(accelerator=asked))
    if expected is None:
        assert "trainer.accelerator" in refusal(hardware.accelerator_of, config)
        assert "trainer.accelerator" in refusal(hardware.device_of, config)
        assert hardware.device_for_use(config).type == "cpu"  # a model trained elsewhere can still be used here
        return
    assert hardware.accelerator_of(config) == expected
    device = {"gpu": "cuda", "cpu": "cpu"}[expected]
    assert hardware.device_of(config).type == hardware.device_for_use(config).type == device


def test_last_and_best_weights(symbolic_run: Path, symbolic_model: LoadedModel) -> None:
    summary = json.loads((symbolic_run / "summary.json").read_text())
    assert (symbolic_model.weights, symbolic_model.samples) == ("last", 8192)
    assert same(symbolic_model, symbolic_run / "weights.safetensors")
    best = dualenc.load(symbolic_run, weights="best")
    assert (best.weights, best.samples) == ("best", summary["best"]["samples"])
    assert same(best, symbolic_run / "checkpoints" / "best.safetensors")
    assert best.logit_scale == pytest.approx(best.model.log_logit_scale.exp().item())
    assert best.config.data.symbolic.num_values == 3


def test_an_unfinished_run_gives_its_newest_checkpoint(
    flat_run: Path, flat_model: LoadedModel, copy_of: CopyOf
) -> None:
    folder = copy_of(flat_run)
    for name in ("weights.safetensors", "summary.json"):
        (folder / name).unlink()
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["state_dict"]["model.log_logit_scale"].fill_(1.0)
    checkpoint["samples"] = 1024
    torch.save(checkpoint, folder / "checkpoints" / "last.ckpt")
    half = dualenc.load(folder)
    assert half.samples == 1024
    assert half.logit_scale == pytest.approx(np.e)
    texts = flat_model.grammar.concept_queries
    assert torch.equal(half.encode_queries(texts), flat_model.encode_queries(texts))


def test_best_weights_of_a_finished_run_without_any_are_its_last(flat_run: Path, copy_of: CopyOf) -> None:
    folder = copy_of(flat_run)
    (folder / "checkpoints" / "best.safetensors").unlink()
    assert same(dualenc.load(folder, weights="best"), folder / "weights.safetensors")
    (folder / "summary.json").unlink()
    assert "no best weights yet" in refusal(dualenc.load, folder, weights="best")


def test_what_cannot_be_loaded_is_refused(flat_run: Path, copy_of: CopyOf, tmp_path: Path) -> None:
    assert "no such run" in refusal(dualenc.load, tmp_path / "nothing")
    assert "model.json" in refusal(dualenc.load, tmp_path)
    assert "weights" in refusal(dualenc.load, flat_run, weights="newest")
    folder = copy_of(flat_run)
    (folder / "weights.safetensors").write_bytes((folder / "weights.safetensors").read_bytes()[:-100])
    assert "damaged" in refusal(dualenc.load, folder)
    (folder / "weights.safetensors").unlink()
    (folder / "checkpoints" / "last.ckpt").unlink()
    (folder / "checkpoints" / "previous.ckpt").unlink(missing_ok=True)
    assert "no readable checkpoint" in refusal(dualenc.load, folder)
    (folder / "model.json").write_text('{"model": {}}')
    assert "KeyError" in refusal(dualenc.load, folder)

"""Pretrained models from a folder: pictures and texts as `transformers` itself embeds them, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import PICTURES, make

from dualenc.analysis.checkpoints import RANDOM, check_checkpoint
from dualenc.analysis.pretrained import Pretrained, load_pretrained, preparation, random_clip
from dualenc.analysis.texts import draw_pairs, text_space, texts_of
from dualenc.errors import InputError

WORDS = ["red", "blue", "cube", "ball"]
TEXTS = ["a red cube", "a blue ball and a red cube", "a ball"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`checkpoint(kind)` -> a folder, made once."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = make(kind, tmp_path_factory.mktemp("checkpoints") / kind, WORDS)
        return made[kind]

    return folder


def pictures(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_are_prepared_as_the_checkpoint_s_own_processor_does(kind: str) -> None:
    """Against transformers' processors on Pillow, for pictures of any shape."""
    import transformers

    names = {"clip": "CLIPImageProcessorPil", "siglip": "SiglipImageProcessorPil", "dinov2": "BitImageProcessorPil"}
    processor = getattr(transformers, names[kind])(**PICTURES[kind])
    for shape in ((32, 32), (40, 31), (20, 50)):
        images = pictures(*shape)
        expected = np.stack(processor(list(images), return_tensors="np")["pixel_values"])
        prepare = preparation(PICTURES[kind])
        found = np.stack([prepare(image) for image in images])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_sizes_as_old_checkpoints_write_them() -> None:
    image = pictures(30, 40)[0]
    old = preparation({**PICTURES["clip"], "size": 24, "crop_size": 24})
    np.testing.assert_array_equal(old(image), preparation(PICTURES["clip"])(image))


@pytest.mark.parametrize("kind", PICTURES)
def test_embeddings_are_those_of_transformers(kind: str, checkpoint: Callable[[str], Path]) -> None:
    import transformers

    folder = checkpoint(kind)
    model = load_pretrained(folder)
    reference = transformers.AutoModel.from_pretrained(folder).eval()
    images = pictures(24, 24)
    pixels = torch.from_numpy(np.stack([preparation(PICTURES[kind])(image) for image in images]))
    with torch.no_grad():
        if kind == "dinov2":
            expected = reference(pixel_values=pixels).last_hidden_state[:, 0]
            torch.testing.assert_close(model.pictures(images), expected)
            with pytest.raises(InputError, match="TARGET: dinov2 has no text tower"):
                model.texts(TEXTS)
            return
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        ids = tokenizer(TEXTS, padding="max_length", max_length=20, return_tensors="pt")["input_ids"]
        out = reference(input_ids=ids, pixel_values=pixels)
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(unit(model.pictures(images), dim=-1), out.image_embeds)
    # CLIP's texts are padded to full length here, and to the longest there: what follows the end token cannot matter
    torch.testing.assert_close(unit(model.texts(TEXTS), dim=-1), out.text_embeds)


def tiny_random(monkeypatch: pytest.MonkeyPatch) -> Pretrained:
    shape = RANDOM["clip-vit-base-patch32"]
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    monkeypatch.setitem(
        RANDOM,
        "tiny",
        {**shape, **{f"{side}_config": {**shape[f"{side}_config"], **small} for side in ("text", "vision")}},
    )
    return random_clip("tiny", seed=3)


def test_texts_cut_off_after_their_end_token_have_the_same_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The causal tower of random weights: 9 tokens against all 77, padded with end tokens and with anything else."""
    model = tiny_random(monkeypatch)
    texts = ["a red cube and a blue ball", "a red cube", "a ball and a big red cube"]
    assert model.tokens is not None
    short = model.tokens(texts)
    assert short.shape == (3, 9)
    found = model.texts(texts)
    rng = np.random.default_rng(0)
    for filler in (np.full((3, 68), 49407), rng.integers(0, 49000, (3, 68))):
        full = torch.cat([short, torch.from_numpy(filler)], dim=1)
        assert full.shape[1] == 77
        with torch.no_grad():
            pooled = model.model.text_model(input_ids=full).pooler_output
            expected = model.model.text_projection(pooled)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    with torch.no_grad():  # and without the end token nothing would be the same
        state = model.model.text_model(input_ids=short[:, :-1]).last_hidden_state[0, -1]
    assert not torch.allclose(model.model.text_projection(state), found[0], atol=1e-3)


def test_random_weights_are_a_function_of_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, same = tiny_random(monkeypatch), tiny_random(monkeypatch)
    torch.testing.assert_close(model.texts(["a red cube"]), same.texts(["a red cube"]), rtol=0, atol=0)
    other = random_clip("tiny", seed=4)
    assert not torch.allclose(model.texts(["a red cube"]), other.texts(["a red cube"]))
    assert model.pictures(pictures(32, 32)).shape == (3, 512)


def test_the_published_architecture_has_its_number_of_parameters() -> None:
    from transformers import CLIPConfig, CLIPModel

    with torch.device("meta"):
        model = CLIPModel(CLIPConfig(**RANDOM["clip-vit-base-patch32"]))
    assert sum(parameter.numel() for parameter in model.parameters()) == 151_277_313


def test_pairs_of_texts() -> None:
    space = text_space(2, 3)
    every = draw_pairs(space, 36, seed=0)
    assert every.tolist() == [[i, j] for i in range(6) for j in range(6)]
    assert texts_of(space, every[[1, 35]]) == ["a red cube and a red ball", "a blue car and a blue car"]
    some = draw_pairs(space, 10, seed=1)
    assert len({tuple(pair) for pair in some.tolist()}) == 10
    assert some.tolist() == draw_pairs(space, 10, seed=1).tolist() != draw_pairs(space, 10, seed=2).tolist()
    assert len(draw_pairs(text_space(20, 20), 10**9, seed=0)) == 160_000


def _setting(key: str, value: object) -> Callable[[Path], None]:
    """Writes `value` into a checkpoint's preprocessor settings."""

    def damage(folder: Path) -> None:
        (folder / "preprocessor_config.json").write_text(json.dumps({**PICTURES["clip"], key: value}))

    return damage


@pytest.mark.parametrize("settings", [None, "{}"])
def test_texts_need_no_picture_settings(
    settings: str | None, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoint("clip"), tmp_path / "texts"))
    (folder / "preprocessor_config.json").unlink()
    if settings is not None:
        (folder / "preprocessor_config.json").write_text(settings)
    expected = load_pretrained(checkpoint("clip")).texts(TEXTS)
    torch.testing.assert_close(load_pretrained(folder, pictures=False).texts(TEXTS), expected)


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no readable config.json, so it is no checkpoint"),
        (lambda folder: (folder / "config.json").write_text("{"), "no readable config.json"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "no readable preprocessor_config.json"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), "type 'bert'; use one of clip"),
        (lambda folder: (folder / "config.json").write_text("[]"), "no readable config.json"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": []}'), r"of type \[\]; use one of clip"),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "clip", "text_config": 3}'),
            "text_config in",
        ),
        (_setting("size", None), r"preprocessor_config.json says nothing usable about size; fetch .* scenes=text"),
        (_setting("crop_size", {"shortest_edge": 24}), "nothing usable about crop_size"),
        (_setting("image_std", 0.5), "nothing usable about image_std"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights as .safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"torn"), "does not load"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "does not load"),
    ],
    ids=[
        "config",
        "torn-config",
        "preprocessor",
        "kind",
        "list",
        "kinds",
        "text",
        "size",
        "crop",
        "std",
        "weights",
        "torn-weights",
        "tokeniser",
    ],
)
def test_a_folder_that_is_no_checkpoint_is_refused(
    damage: Callable[[Path], None], part: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoint("clip"), tmp_path / "damaged"))
    damage(folder)
    with pytest.raises(InputError, match=part) as refused:
        load_pretrained(folder)
    assert "\n" not in str(refused.value)


def test_weights_that_are_missing_are_not_made_up(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint("siglip"), tmp_path / "other"))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"lacks \d+ weights of SiglipModel, e.g. text_model"):
        load_pretrained(folder)
    assert check_checkpoint(checkpoint("siglip"))[0] == "siglip"

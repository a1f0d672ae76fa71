"""Tiny checkpoints with random weights, as `save_pretrained` writes them, tokeniser and picture settings included."""

from pathlib import Path
from typing import Any

from dualenc.files import write_json

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**TOWER, "image_size": 24, "patch_size": 8}
SPECIAL = ["[PAD]", "[UNK]", "[BOS]", "[EOS]"]
WORDS = ["a", "an", "and", ",", "something", "object", "there", "is", "picture", "of", "scene", "with"]

PICTURES: dict[str, dict[str, Any]] = {
    "clip": {
        **{"do_resize": True, "size": {"shortest_edge": 24}, "resample": 3, "do_center_crop": True},
        **{"crop_size": {"height": 24, "width": 24}, "do_rescale": True, "rescale_factor": 1 / 255},
        **{"do_normalize": True, "image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]},
    },
    "siglip": {
        **{"do_resize": True, "size": {"height": 24, "width": 24}, "resample": 3, "do_rescale": True},
        **{"rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    },
    "dinov2": {
        **{"do_resize": True, "size": {"shortest_edge": 28}, "resample": 3, "do_center_crop": True},
        **{"crop_size": {"height": 24, "width": 24}, "do_rescale": True, "rescale_factor": 1 / 255},
        **{"do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
    },
}


def make(kind: str, folder: Path, words: list[str]) -> Path:
    """A checkpoint of `kind` that reads `words`."""
    import torch
    import transformers

    torch.manual_seed(0)
    vocabulary = [*SPECIAL, *dict.fromkeys([*WORDS, *words])]
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    text = {**TOWER, "vocab_size": len(vocabulary), "max_position_embeddings": 20, **ids}
    if kind == "clip":
        config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=12)
        model = transformers.CLIPModel(config)
    elif kind == "siglip":
        config = transformers.SiglipConfig(text_config=text, vision_config=VISION)
        model = transformers.SiglipModel(config)
    else:
        model = transformers.Dinov2Model(transformers.Dinov2Config(**VISION))
    model.save_pretrained(folder)
    if kind != "dinov2":
        tokenizer(vocabulary).save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", PICTURES[kind])
    return folder


def tokenizer(vocabulary: list[str]) -> Any:
    """Whole words between a begin and an end token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    ends = [(name, vocabulary.index(name)) for name in ("[BOS]", "[EOS]")]
    words.post_processor = processors.TemplateProcessing(single="[BOS] $A [EOS]", special_tokens=ends)
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "bos_token": "[BOS]", "eos_token": "[EOS]"}
    return PreTrainedTokenizerFast(tokenizer_object=words, **names)

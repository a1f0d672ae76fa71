"""Which pretrained models there are, and whether a folder holds one. No torch here: it is refused in a moment."""

from pathlib import Path
from typing import Any

from dualenc.errors import InputError
from dualenc.files import read_json

PRETRAINED, RANDOM_WEIGHTS = "hf:", "hf:random:"

KINDS = {"clip": "CLIPModel", "siglip": "SiglipModel", "dinov2": "Dinov2Model"}
"""`model_type` of a checkpoint's config.json -> its class."""

RANDOM = {
    "clip-vit-base-patch32": {
        "projection_dim": 512,
        "text_config": {
            **{"vocab_size": 49408, "max_position_embeddings": 77, "hidden_size": 512, "intermediate_size": 2048},
            **{"num_hidden_layers": 12, "num_attention_heads": 8, "hidden_act": "quick_gelu", "projection_dim": 512},
            **{"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407},
        },
        "vision_config": {
            **{"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
            **{"image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "projection_dim": 512},
        },
    }
}
"""Architectures as published, for the row of random weights."""

CLIP_PICTURES = {
    **{"do_resize": True, "size": {"shortest_edge": 224}, "resample": 3, "do_center_crop": True, "crop_size": 224},
    **{"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True},
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def check_checkpoint(folder: Path) -> tuple[str, dict[str, Any]]:
    """The kind of a checkpoint and its preprocessor's settings, without loading it. InputError where it is none."""
    read = {}
    for name in ("config.json", "preprocessor_config.json"):
        try:
            read[name] = read_json(folder / name)
        except (OSError, ValueError):
            raise InputError(
                f"TARGET: {folder} holds no readable {name}, so it is no checkpoint; give the folder of a CLIP, SigLIP "
                "or DINOv2 model as save_pretrained writes it, its image processor's too"
            ) from None
    kind = read["config.json"].get("model_type")
    if kind not in KINDS:
        raise InputError(f"TARGET: {folder} holds a model of type {kind!r}; use one of {', '.join(KINDS)}")
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"TARGET: {folder} holds no weights as .safetensors; convert them, pickles are not opened")
    return kind, read["preprocessor_config.json"]

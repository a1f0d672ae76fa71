"""Which pretrained models there are, and whether a folder holds one. No torch here: it is refused in a moment."""

from collections.abc import Mapping
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

PREPROCESSOR = "preprocessor_config.json"


def check_checkpoint(folder: Path, *, pictures: bool = True) -> tuple[str, dict[str, Any] | None]:
    """The kind of a checkpoint and its preprocessor's settings, None without `pictures`, without loading it.
    InputError where it is none."""
    config = _read_object(folder, "config.json")
    kind = config.get("model_type")
    if kind not in list(KINDS):  # it may be anything, also what no dict can look up
        raise InputError(f"TARGET: {folder} holds a model of type {kind!r}; use one of {', '.join(KINDS)}")
    if odd := [key for key in ("text_config", "vision_config") if not isinstance(config.get(key) or {}, dict)]:
        raise InputError(f"TARGET: {odd[0]} in {folder / 'config.json'} is no object; fetch the checkpoint anew")
    settings = _read_object(folder, PREPROCESSOR) if pictures else None
    if settings is not None and (wrong := _wrong_setting(settings)):
        raise InputError(
            f"TARGET: {folder / PREPROCESSOR} says nothing usable about {wrong}; fetch the checkpoint anew, or use "
            "scenes=text, which needs no pictures"
        )
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"TARGET: {folder} holds no weights as .safetensors; convert them, pickles are not opened")
    return kind, settings


def _read_object(folder: Path, name: str) -> dict[str, Any]:
    try:
        found = read_json(folder / name)
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise InputError(
            f"TARGET: {folder} holds no readable {name}, so it is no checkpoint; give the folder of a CLIP, SigLIP or "
            "DINOv2 model as save_pretrained writes it, its image processor's too"
        )
    return found


def _wrong_setting(settings: Mapping[str, Any]) -> str | None:
    """The first setting that preparing a picture needs and cannot use, if there is one."""
    asked = {
        "size": settings.get("do_resize", True) and not _is_size(settings.get("size")),
        "crop_size": settings.get("do_center_crop", False) and not _is_size(settings.get("crop_size"), shortest=False),
        "resample": settings.get("resample", 3) not in range(6),
        "rescale_factor": settings.get("do_rescale", True) and not _is_number(settings.get("rescale_factor", 1 / 255)),
    }
    for key in ("image_mean", "image_std"):
        values = settings.get(key)
        three = isinstance(values, list) and len(values) == 3 and all(map(_is_number, values))
        asked[key] = settings.get("do_normalize", True) and not three
    return next((key for key, wrong in asked.items() if wrong), None)


def _is_size(value: Any, *, shortest: bool = True) -> bool:
    """A number of pixels, height and width, or, for `shortest`, the length of the shorter side."""
    if isinstance(value, dict):
        keys = {"shortest_edge"} if shortest and "height" not in value else {"height", "width"}
        return keys <= set(value) and all(_is_size(value[key]) for key in keys)
    return type(value) is int and value > 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)

"""Pretrained models from a local folder, through `transformers` (extra `[pretrained]`): CLIP, SigLIP, DINOv2.

Nothing is fetched and no code of a checkpoint runs: weights come from safetensors, pictures are resized and normalised
here, as the checkpoint's preprocessor_config.json says.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from torch import Tensor, nn

from dualenc.analysis.checkpoints import CLIP_PICTURES, KINDS, RANDOM, check_checkpoint
from dualenc.errors import InputError
from dualenc.scenes import words

Prepare = Callable[[np.ndarray], np.ndarray]
Tokens = Callable[[Sequence[str]], Tensor]


class Pretrained(nn.Module):
    """Pictures and texts to embeddings as the model gives them: not of length one.

    kind: a key of KINDS; prepare: one uint8 picture [H, W, 3] -> float32 [3, h, w], None where only texts are read;
    tokens: texts -> ids [n, T], None for a model without a text tower.
    """

    def __init__(self, kind: str, model: nn.Module, prepare: Prepare | None, tokens: Tokens | None) -> None:
        super().__init__()
        self.kind, self.prepare, self.tokens = kind, prepare, tokens
        self.model: Any = model.eval()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.parameters()).device

    def pixels(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n 3 _ _"]:
        """Pictures as the model reads them."""
        assert self.prepare is not None, "opened for texts"
        return torch.from_numpy(np.stack([self.prepare(picture) for picture in pictures])).to(self.device)

    @torch.no_grad()
    def pictures(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n d"]:
        """CLIP: the projected class token; SigLIP: the attention-pooled state; DINOv2: the class token."""
        pixels = self.pixels(pictures)
        if self.kind == "dinov2":
            return self.model(pixel_values=pixels).pooler_output
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output
        return self.model.visual_projection(pooled) if self.kind == "clip" else pooled

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """CLIP: the projected state at the end token; SigLIP: the head's output. InputError without a text tower.

        CLIP's texts are padded to the longest only: its text tower is causal and read at the end token, so what would
        follow cannot matter.
        """
        if self.tokens is None:
            raise InputError(f"TARGET: {self.kind} has no text tower; use pictures (data.path), or CLIP or SigLIP")
        pooled = self.model.text_model(input_ids=self.tokens(texts).to(self.device)).pooler_output
        return self.model.text_projection(pooled) if self.kind == "clip" else pooled


def load_pretrained(folder: Path, *, pictures: bool = True) -> Pretrained:
    """The model of a local checkpoint, to see `pictures` or for texts alone. InputError, one line, for a folder that
    holds none of KINDS as a whole."""
    kind, preprocessor = check_checkpoint(folder, pictures=pictures)
    transformers = _transformers()
    try:
        model, report = getattr(transformers, KINDS[kind]).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        tokens = None if kind == "dinov2" else _tokens(transformers, folder, kind, model)
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RuntimeError,
        ImportError,
        SafetensorError,
    ) as error:
        raise InputError(f"TARGET: {folder} does not load ({_first_line(error)}); fetch the checkpoint anew") from None
    if report["missing_keys"]:
        number, name = len(report["missing_keys"]), min(report["missing_keys"])
        raise InputError(f"TARGET: {folder} lacks {number} weights of {KINDS[kind]}, e.g. {name}; fetch it anew")
    return Pretrained(kind, model, None if preprocessor is None else preparation(preprocessor), tokens)


def random_clip(name: str, *, seed: int) -> Pretrained:
    """A CLIP of a published architecture with fresh weights, as `transformers` draws them.

    Its tokeniser numbers whole words as they come, between the begin and end tokens, in a vocabulary of the published
    size. Fresh embeddings know nothing of a token but that it differs from others, so that any text of common words,
    each a single token of the published vocabulary, gives what that vocabulary would give, up to the draw.
    """
    transformers = _transformers()
    torch.manual_seed(seed)
    model = transformers.CLIPModel(transformers.CLIPConfig(**RANDOM[name]))
    text = model.config.text_config
    return Pretrained("clip", model, preparation(CLIP_PICTURES), _WordNumbers(text.bos_token_id, text.eos_token_id))


class _WordNumbers:
    """Texts to ids: begin, a number for each word, in the order in which words are first seen, end, ends as padding."""

    def __init__(self, begin: int, end: int) -> None:
        self.begin, self.end = begin, end
        self._ids: dict[str, int] = {}

    def __call__(self, texts: Sequence[str]) -> Tensor:
        rows = [[self._ids.setdefault(word, len(self._ids)) for word in words(text)] for text in texts]
        tokens = torch.full((len(rows), 2 + max(map(len, rows), default=0)), self.end)
        tokens[:, 0] = self.begin
        for line, row in zip(tokens, rows):
            line[1 : 1 + len(row)] = torch.tensor(row)
        return tokens


def preparation(settings: dict[str, Any]) -> Prepare:
    """What a preprocessor_config.json asks for, on one uint8 picture [H, W, 3] -> float32 [3, h, w]."""
    from PIL import Image

    size = settings["size"] if settings.get("do_resize", True) else None
    crop = settings["crop_size"] if settings.get("do_center_crop", False) else None
    factor = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0
    mean, std = (
        np.array(settings[key] if settings.get("do_normalize", True) else [default] * 3, dtype=np.float32)
        for key, default in (("image_mean", 0.0), ("image_std", 1.0))
    )

    def prepare(picture: np.ndarray) -> np.ndarray:
        image = Image.fromarray(picture)
        if size is not None:
            image = image.resize(_resized(image.size, size), resample=settings.get("resample", 3))
        if crop is not None:
            image = image.crop(_centre(image.size, crop))
        scaled = np.asarray(image, dtype=np.float32) * np.float32(factor)
        return np.ascontiguousarray(((scaled - mean) / std).transpose(2, 0, 1))

    return prepare


def _resized(now: tuple[int, int], size: int | dict[str, int]) -> tuple[int, int]:
    """Width and height: as given, or with the shorter side as given and the same shape."""
    if isinstance(size, dict) and "height" in size:
        return size["width"], size["height"]
    edge = size["shortest_edge"] if isinstance(size, dict) else size
    return tuple(edge if side == min(now) else int(edge * side / min(now)) for side in now)  # type: ignore[return-value]


def _centre(now: tuple[int, int], crop: int | dict[str, int]) -> tuple[int, int, int, int]:
    """Left, upper, right, lower of the middle; outside the picture is black."""
    width, height = (crop["width"], crop["height"]) if isinstance(crop, dict) else (crop, crop)
    left, upper = (now[0] - width) // 2, (now[1] - height) // 2
    return left, upper, left + width, upper + height


def _tokens(transformers: Any, folder: Path, kind: str, model: Any) -> Tokens:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    longest = model.config.text_config.max_position_embeddings
    # SigLIP is not causal and was trained on texts padded to full length
    padding: dict[str, Any] = (
        {"padding": "max_length", "max_length": longest} if kind == "siglip" else {"padding": True}
    )

    def tokens(texts: Sequence[str]) -> Tensor:
        ids = tokenizer(list(texts), return_tensors="pt", **padding)["input_ids"]
        if ids.shape[1] > longest:
            raise InputError(f"texts: one has {ids.shape[1]} tokens, the model reads {longest}; use smaller scenes")
        return ids

    return tokens


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise InputError("TARGET: hf: needs transformers; install it with pip install 'dualenc[pretrained]'") from None
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__

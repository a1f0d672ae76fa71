"""Towers: scenes or queries in, one vector each out. None of them normalises; `DualEncoder` does."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn

from dualenc.models.transformer import Transformer, init_embedding, init_linear

Readout = Literal["eos", "mean"]

PAD = 0
"""Token id that pads a sequence at its end."""


def read_out(
    transformer: Transformer, x: Float[Tensor, "n t width"], mask: Bool[Tensor, "n t"] | None, readout: Readout
) -> Float[Tensor, "n width"]:
    """One vector per sequence: ``eos`` is the state at the last position in ``mask``, ``mean`` the mean over them."""
    if readout == "eos":
        return transformer.read(x, mask)
    states = transformer(x, mask)
    if mask is None:
        return states.mean(1)
    return states.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1)[:, None]


class TokenTower(nn.Module):
    """Transformer over token ids [n, T], padded at the end with 0.

    How far a batch is padded has no effect on its embeddings. ``eos`` reads the state at the last token, ``mean``
    averages the states of all tokens. Every sequence needs at least one token, at most ``max_length``.

    With a large ``position_std`` (tokens have 0.02) and a large ``attention_gain`` each head starts as a sharp map from
    place to place, by chance, which training may use before it could have learned one.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        width: int,
        depth: int,
        heads: int,
        output_dim: int,
        max_length: int,
        readout: Readout = "eos",
        dropout: float = 0.0,
        mlp_ratio: float = 4.0,
        position_std: float = 0.02,
        attention_gain: float = 1.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.output_dim = output_dim
        self.max_length = max_length
        self.readout = readout
        self.embedding = nn.Embedding(vocab_size, width)
        self.positions = nn.Parameter(torch.empty(max_length, width))
        self.transformer = Transformer(
            width,
            depth=depth,
            heads=heads,
            mlp_ratio=mlp_ratio,
            dropout=dropout,
            attention_gain=attention_gain,
            causal=causal,
        )
        self.projection = nn.Linear(width, output_dim, bias=False)
        init_embedding(self.embedding.weight)
        init_embedding(self.positions, std=position_std)
        init_linear(self.projection)

    def forward(self, tokens: Int[Tensor, "n t"]) -> Float[Tensor, "n output_dim"]:
        """Raises ValueError for sequences longer than ``max_length``."""
        if tokens.shape[1] > self.max_length:
            raise ValueError(
                f"sequences of {tokens.shape[1]} tokens, but max_length is {self.max_length}: raise max_length"
            )
        return self.projection(read_out(self.transformer, *self.embed(tokens), self.readout))

    def embed(self, tokens: Int[Tensor, "n t"]) -> tuple[Float[Tensor, "n s width"], Bool[Tensor, "n s"]]:
        """What the transformer reads, and which of its places are no padding."""
        return self.embedding(tokens) + self.positions[: tokens.shape[1]], tokens != PAD

    def lengths(self, tokens: Int[Tensor, "n t"]) -> Int[Tensor, " n"]:
        """Places of each sequence that the transformer reads."""
        return (tokens != PAD).sum(1)


class SymbolicTower(TokenTower):
    """A `TokenTower` for symbolic scenes and queries.

    A scene reads [SOO] v_1 ... v_C [EOO] for each object, then [EOS] (Uselis et al. 2026, arXiv 2605.31503); the data
    side makes the tokens.
    """


class ObjectTower(TokenTower):
    """A `TokenTower` for symbolic scenes that reads one token per object: the sum of the object's value embeddings.

    Which values belong together is given, so attention need not find it; that they belong together still has to be
    made from their sum, by the feed-forward layers. Objects have no positions: a scene is a set of them, and the order
    in which they are named plays no part. The tokens are those of `SymbolicTower`, ``object_length`` for an object.
    """

    def __init__(self, vocab_size: int, *, object_length: int, **options: Any) -> None:
        super().__init__(vocab_size, **options)
        self.object_length = object_length
        self.register_parameter("positions", None)

    def embed(self, tokens: Int[Tensor, "n t"]) -> tuple[Float[Tensor, "n s width"], Bool[Tensor, "n s"]]:
        """The objects, then [EOS]."""
        tokens = F.pad(tokens, (0, -tokens.shape[1] % self.object_length), value=PAD)
        here = rearrange(tokens != PAD, "n (s l) -> n s l", l=self.object_length)
        x = rearrange(self.embedding(tokens), "n (s l) width -> n s l width", l=self.object_length)
        return x.masked_fill(~here[..., None], 0).sum(2), here.any(2)

    def lengths(self, tokens: Int[Tensor, "n t"]) -> Int[Tensor, " n"]:
        """Objects of each scene, and one."""
        return -(-super().lengths(tokens) // self.object_length)


class TextTower(TokenTower):
    """A `TokenTower` for captions and queries in words; ``causal=True`` attends as CLIP's text tower does."""


class VisionTower(nn.Module):
    """Vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929) over square pictures of ``image_size`` pixels.

    Readout ``mean`` averages the patches; ``eos`` reads a class token.

    Raises ValueError if ``image_size`` is not a multiple of ``patch_size``.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        output_dim: int,
        readout: Readout = "mean",
        dropout: float = 0.0,
        mlp_ratio: float = 4.0,
        position_std: float = 0.02,
        attention_gain: float = 1.0,
    ) -> None:
        super().__init__()
        if image_size < patch_size or image_size % patch_size:
            nearest = max(round(image_size / patch_size), 1) * patch_size
            raise ValueError(
                f"image_size {image_size} is not a multiple of patch_size {patch_size}: use image_size {nearest}"
            )
        self.output_dim = output_dim
        self.image_size = image_size
        self.patch_size = patch_size
        self.readout = readout
        self.patch = nn.Linear(3 * patch_size**2, width)
        self.positions = nn.Parameter(torch.empty((image_size // patch_size) ** 2, width))
        self.class_token = nn.Parameter(torch.empty(width)) if readout == "eos" else None
        self.transformer = Transformer(
            width, depth=depth, heads=heads, mlp_ratio=mlp_ratio, dropout=dropout, attention_gain=attention_gain
        )
        self.projection = nn.Linear(width, output_dim, bias=False)
        init_linear(self.patch)
        init_embedding(self.positions, std=position_std)
        if self.class_token is not None:
            init_embedding(self.class_token)
        init_linear(self.projection)

    def forward(self, images: Num[Tensor, "n height width 3"]) -> Float[Tensor, "n output_dim"]:
        """Pictures as uint8, or float in [0, 1]; brought to [-1, 1] here, on the device they are on.

        Raises ValueError for pictures of another size than ``image_size``.
        """
        expected = (self.image_size, self.image_size, 3)
        if images.shape[1:] != expected:
            raise ValueError(
                f"pictures of {'x'.join(map(str, images.shape[1:]))} in a tower for {'x'.join(map(str, expected))}: "
                f"resize them, or build the tower with their image_size"
            )
        half_range = 0.5 if images.is_floating_point() else 127.5
        patches = rearrange(images, "n (h p) (w q) c -> n (h w) (p q c)", p=self.patch_size, q=self.patch_size)
        x = self.patch(patches.to(self.patch.weight.dtype) / half_range - 1) + self.positions
        if self.class_token is not None:
            x = torch.cat([x, self.class_token.expand(len(x), 1, -1)], dim=1)
        return self.projection(read_out(self.transformer, x, None, self.readout))

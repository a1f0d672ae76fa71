"""Pre-norm transformer trunk (Xiong et al. 2020, arXiv 2002.04745), shared by all towers."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

SHORT = 192
"""Positions from which the CPU's fused attention takes larger blocks than 32 queries."""

_ONEDNN_BF16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def init_linear(linear: nn.Linear, *, gain: float = 1.0) -> None:
    """Truncated normal of standard deviation gain / sqrt(fan in), about 0.04 at width 512; biases are zero."""
    std = gain * linear.in_features**-0.5
    nn.init.trunc_normal_(linear.weight, std=std, a=-2 * std, b=2 * std)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def init_embedding(weight: Tensor, *, std: float = 0.02) -> None:
    """Truncated normal, for token, position and class embeddings."""
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


class Packing(NamedTuple):
    """Where the tokens of a padded batch are: all but attention works on them alone.

    rows: their places among the [n * t] positions; shape: (n, t).
    """

    rows: Int[Tensor, " tokens"]
    shape: tuple[int, int]

    def pack(self, x: Float[Tensor, "n t width"]) -> Float[Tensor, "tokens width"]:
        """The states of the tokens, one sequence after another."""
        return x.flatten(0, 1).index_select(0, self.rows)

    def unpack(self, x: Float[Tensor, "tokens width"]) -> Float[Tensor, "n t width"]:
        """The states in their places, zeros at the padding."""
        n, t = self.shape
        return x.new_zeros(n * t, x.shape[1]).index_add(0, self.rows, x).unflatten(0, self.shape)


def packing_of(mask: Bool[Tensor, "n t"]) -> Packing | None:
    """None where packing has no use: without padding, on a GPU (it would wait for the rows) and while compiling."""
    if mask.device.type != "cpu" or torch.compiler.is_compiling() or mask.all():
        return None
    return Packing(mask.flatten().nonzero().squeeze(1), (mask.shape[0], mask.shape[1]))


def attend(
    q: Float[Tensor, "n h t c"],
    k: Float[Tensor, "n h t c"],
    v: Float[Tensor, "n h t c"],
    mask: Bool[Tensor, "n 1 1 t"] | None,
    causal: bool,
) -> Float[Tensor, "n h t c"]:
    """Scaled dot-product attention; ``mask`` is True at the keys that may be attended to."""
    if _ONEDNN_BF16 and q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[2] < SHORT:
        return attend_in_one_product(q, k, v, mask, causal)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)


def attend_in_one_product(
    q: Float[Tensor, "n h t c"],
    k: Float[Tensor, "n h t c"],
    v: Float[Tensor, "n h t c"],
    mask: Bool[Tensor, "n 1 1 t"] | None,
    causal: bool,
) -> Float[Tensor, "n h t c"]:
    """Attention with one matrix product for all heads and queries.

    The CPU's fused kernel has five on the way back for each head of each sequence and each block of 32 queries; in
    bfloat16 every one of them is set up anew in oneDNN.
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    if causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -torch.inf)
    elif mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ v


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); dropout acts on the two branches' outputs."""

    def __init__(
        self, width: int, *, heads: int, mlp_ratio: float, dropout: float, branch_gain: float, attention_gain: float
    ) -> None:
        super().__init__()
        self.heads = heads
        hidden = round(mlp_ratio * width)
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, hidden)
        self.mlp_out = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        init_linear(self.qkv)
        with torch.no_grad():
            self.qkv.weight[: 2 * width] *= attention_gain
        init_linear(self.mlp_in)
        init_linear(self.attention_out, gain=branch_gain)
        init_linear(self.mlp_out, gain=branch_gain)

    def forward(
        self,
        x: Float[Tensor, "*rows width"],
        mask: Bool[Tensor, "n 1 1 t"] | None,
        causal: bool,
        packing: Packing | None,
    ) -> Float[Tensor, "*rows width"]:
        qkv = self.qkv(self.attention_norm(x))
        if packing is not None:
            qkv = packing.unpack(qkv)
        # Three views: one split into [three, n, h, t, c] would be gathered again, by copies, on the way back.
        q, k, v = (rearrange(part, "n t (h c) -> n h t c", h=self.heads) for part in qkv.chunk(3, dim=-1))
        mixed = rearrange(attend(q, k, v, mask, causal), "n h t c -> n t (h c)")
        if packing is not None:
            mixed = packing.pack(mixed)
        return self._rest(x, mixed)

    def read(
        self,
        x: Float[Tensor, "*rows width"],
        mask: Bool[Tensor, "n 1 1 t"] | None,
        rows: Int[Tensor, " n"],
        packing: Packing | None,
    ) -> Float[Tensor, "n width"]:
        """What `forward` gives at one place of each sequence, ``rows`` among all; the others serve as keys only.

        ``mask`` is None or True at the keys that this place may attend to.
        """
        width = x.shape[-1]
        normed = self.attention_norm(x)
        weight, bias = self.qkv.weight, self.qkv.bias
        q = F.linear(normed.reshape(-1, width)[rows], weight[:width], bias[:width])
        keys_values = F.linear(normed, weight[width:], bias[width:])
        if packing is not None:
            keys_values = packing.unpack(keys_values)
        k, v = (rearrange(part, "n t (h c) -> n h t c", h=self.heads) for part in keys_values.chunk(2, dim=-1))
        mixed = attend(rearrange(q, "n (h c) -> n h 1 c", h=self.heads), k, v, mask, causal=False)
        return self._rest(x.reshape(-1, width)[rows], rearrange(mixed, "n h 1 c -> n (h c)"))

    def _rest(
        self, x: Float[Tensor, "*rows width"], mixed: Float[Tensor, "*rows width"]
    ) -> Float[Tensor, "*rows width"]:
        x = x + self.dropout(self.attention_out(mixed))
        return x + self.dropout(self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x)))))


class Transformer(nn.Module):
    """``depth`` blocks and a final LayerNorm.

    The branches' output layers start smaller by sqrt(2 * depth), so that the residual stream keeps its scale at any
    depth (Radford et al. 2019, section 2.3). With ``causal`` a position attends to itself and earlier ones only;
    padding at the end is then out of sight and needs no mask. Queries and keys start ``attention_gain`` times as large
    as values, so that attention is sharp before anything is learned.

    Raises ValueError if ``width`` is not a multiple of ``heads``.
    """

    def __init__(
        self,
        width: int,
        *,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        attention_gain: float = 1.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}: use width {width // heads * heads}")
        self.causal = causal
        self.checkpointing = False
        branch_gain = (2 * depth) ** -0.5
        self.blocks = nn.ModuleList(
            Block(
                width,
                heads=heads,
                mlp_ratio=mlp_ratio,
                dropout=dropout,
                branch_gain=branch_gain,
                attention_gain=attention_gain,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self, x: Float[Tensor, "n t width"], mask: Bool[Tensor, "n t"] | None = None
    ) -> Float[Tensor, "n t width"]:
        """``mask`` is True where a position may be attended to; None where all may. Other positions may come out 0.

        With ``checkpointing``, a block's activations are computed anew for its gradient instead of kept, with the same
        dropout (Chen et al. 2016, arXiv 1604.06174).
        """
        keys = None if mask is None or self.causal else rearrange(mask, "n t -> n 1 1 t")
        packing = None if mask is None else packing_of(mask)
        if packing is not None:
            x = packing.pack(x)
        for block in self.blocks:
            x = self._through(block, x, keys, self.causal, packing)
        x = self.norm(x)
        return x if packing is None else packing.unpack(x)

    def read(self, x: Float[Tensor, "n t width"], mask: Bool[Tensor, "n t"] | None = None) -> Float[Tensor, "n width"]:
        """What `forward` gives at the last place in ``mask`` of each sequence, without what the last block makes of the
        others: a sixth of the operations at depth 6 with a wide feed-forward part, more at a lower depth."""
        n, t, _ = x.shape
        packing = None if mask is None else packing_of(mask)
        lengths = torch.full((n,), t, device=x.device) if mask is None else mask.sum(1)
        if packing is None:
            rows = torch.arange(n, device=x.device) * t + lengths - 1
        else:
            rows, x = lengths.cumsum(0) - 1, packing.pack(x)
        every = None if mask is None else rearrange(mask, "n t -> n 1 1 t")
        *blocks, last = self.blocks
        assert isinstance(last, Block)
        for block in blocks:
            x = self._through(block, x, None if self.causal else every, self.causal, packing)
        return self.norm(self._through(last.read, x, every, rows, packing))

    def _through(self, function: Callable[..., Tensor], *arguments: object) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(function, *arguments, use_reentrant=False)
        return function(*arguments)

"""Pre-norm transformer trunk (Xiong et al. 2020, arXiv 2002.04745), shared by all towers."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn


def init_linear(linear: nn.Linear, *, gain: float = 1.0) -> None:
    """Truncated normal of standard deviation gain / sqrt(fan in), about 0.04 at width 512; biases are zero."""
    std = gain * linear.in_features**-0.5
    nn.init.trunc_normal_(linear.weight, std=std, a=-2 * std, b=2 * std)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def init_embedding(weight: Tensor) -> None:
    """Truncated normal of standard deviation 0.02, for token, position and class embeddings."""
    nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); dropout acts on the two branches' outputs."""

    def __init__(self, width: int, *, heads: int, mlp_ratio: float, dropout: float, branch_gain: float) -> None:
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
        init_linear(self.mlp_in)
        init_linear(self.attention_out, gain=branch_gain)
        init_linear(self.mlp_out, gain=branch_gain)

    def forward(
        self, x: Float[Tensor, "n t width"], mask: Bool[Tensor, "n 1 1 t"] | None, causal: bool
    ) -> Float[Tensor, "n t width"]:
        qkv = rearrange(self.qkv(self.attention_norm(x)), "n t (three h c) -> three n h t c", three=3, h=self.heads)
        q, k, v = qkv.unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        x = x + self.dropout(self.attention_out(rearrange(mixed, "n h t c -> n t (h c)")))
        return x + self.dropout(self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x)))))


class Transformer(nn.Module):
    """``depth`` blocks and a final LayerNorm.

    The branches' output layers start smaller by sqrt(2 * depth), so that the residual stream keeps its scale at any
    depth (Radford et al. 2019, section 2.3). With ``causal`` a position attends to itself and earlier ones only;
    padding at the end is then out of sight and needs no mask.

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
        causal: bool = False,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}: use width {width // heads * heads}")
        self.causal = causal
        branch_gain = (2 * depth) ** -0.5
        self.blocks = nn.ModuleList(
            Block(width, heads=heads, mlp_ratio=mlp_ratio, dropout=dropout, branch_gain=branch_gain)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self, x: Float[Tensor, "n t width"], mask: Bool[Tensor, "n t"] | None = None
    ) -> Float[Tensor, "n t width"]:
        """``mask`` is True where a position may be attended to; None where all may."""
        keys = None if mask is None or self.causal else rearrange(mask, "n t -> n 1 1 t")
        for block in self.blocks:
            x = block(x, keys, self.causal)
        return self.norm(x)

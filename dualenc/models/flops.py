"""Floating-point operations of a training step, counted from sizes: two for every multiplication of a matrix product.

Everything else (normalisation, softmax, the losses, the optimiser) is left out, as is usual; at the sizes here that is
below 1% of the operations, though not of the time.
"""

from torch import Tensor, nn

from dualenc.models.dual_encoder import DualEncoder
from dualenc.models.multiplicative import MultiplicativeTower
from dualenc.models.towers import PAD, ObjectTower, TokenTower, VisionTower
from dualenc.models.transformer import Block, Transformer

BACKWARD = 2
"""Of a product's two operands each takes a product of its own on the way back."""


def step_flops(
    model: DualEncoder,
    *,
    num_scenes: int,
    num_queries: int,
    query_length: float,
    scene_length: float | None = None,
) -> int:
    """Forward and backward pass of one step: three times the forward pass (activations computed anew are not counted).

    ``query_length`` and, for a scene tower that reads tokens, ``scene_length`` are tokens of a sequence, padding left
    out; a mean counts the linear layers exactly and attention to within its share, which is small for short sequences.
    """
    scenes = num_scenes * tower_flops(model.scene_tower, length=scene_length)
    queries = num_queries * tower_flops(model.query_tower, length=query_length)
    return round((1 + BACKWARD) * (scenes + queries))


def embedded_flops(model: DualEncoder, scenes: Tensor, queries: Tensor) -> int:
    """`step_flops` of the step that embeds these: pictures [n, h, w, 3] or tokens [n, t], and tokens of queries."""
    scene_length, query_length = (
        float((inputs != PAD).sum()) / len(inputs) if inputs.ndim == 2 else None for inputs in (scenes, queries)
    )
    assert query_length is not None
    return step_flops(
        model,
        num_scenes=len(scenes),
        num_queries=len(queries),
        scene_length=scene_length,
        query_length=query_length,
    )


def tower_flops(tower: nn.Module, *, length: float | None = None) -> float:
    """The forward pass of one picture or one sequence of ``length`` tokens.

    Raises ValueError for a tower that reads tokens without a length, and for a tower of an unknown kind.
    """
    if isinstance(tower, MultiplicativeTower):
        return sum((linear_flops(part) for part in tower.modules() if isinstance(part, nn.Linear)), 0.0)
    if isinstance(tower, VisionTower):
        patches = len(tower.positions)
        tokens: float = patches + (tower.class_token is not None)
        first = patches * linear_flops(tower.patch)
    elif isinstance(tower, TokenTower):
        if length is None:
            raise ValueError("a tower that reads tokens needs their number: give its length")
        tokens, first = length, 0
        if isinstance(tower, ObjectTower):
            tokens = 1 + (length - 1) / tower.object_length  # all but [EOS] belong to objects
    else:
        raise ValueError(f"operations of a {type(tower).__name__} are not known: use a tower of dualenc.models")
    trunk = transformer_flops(tower.transformer, tokens, read_one=tower.readout == "eos")
    return first + trunk + linear_flops(tower.projection)


def transformer_flops(transformer: Transformer, length: float, *, read_one: bool = False) -> float:
    """The forward pass of one sequence; of its last block at a single place where no other is read."""
    *blocks, last = transformer.blocks
    queries = 1 if read_one else length
    return sum((block_flops(block, length, length) for block in blocks), 0.0) + block_flops(last, length, queries)  # type: ignore[arg-type]


def block_flops(block: Block, length: float, queries: float) -> float:
    """A sequence through a block, at so many of its places: linear layers, queries by keys, and weights by values."""
    width = block.attention_out.in_features
    linear = sum(linear_flops(layer) for layer in block.modules() if isinstance(layer, nn.Linear))
    keys_values = 2 * width * 2 * width
    return queries * (linear - keys_values) + length * keys_values + 2 * 2 * queries * length * width


def linear_flops(linear: nn.Linear) -> int:
    """One row through a linear layer."""
    return 2 * linear.in_features * linear.out_features

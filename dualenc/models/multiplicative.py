"""A query tower that is multiplicative by construction."""

from functools import reduce
from operator import mul
from typing import Literal

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dualenc.models.transformer import init_linear

Variant = Literal["per-object", "global"]

SOO = 1
"""Token id that opens an object; ids from ``FIRST_VALUE`` on are values."""
FIRST_VALUE = 4


class Products(nn.Module):
    """A vector of ``rank`` factors for each value, and a linear map of their products."""

    def __init__(self, vocab_size: int, *, rank: int, output_dim: int) -> None:
        super().__init__()
        self.factors = nn.Embedding(vocab_size, rank)  # unit normal: so are products, in size, of any number of values
        self.projection = nn.Linear(rank, output_dim, bias=False)
        init_linear(self.projection)

    def forward(self, values: Int[Tensor, "n m c"]) -> Float[Tensor, "n m rank"]:
        """The element-wise product of the factors of each object's values, not mapped yet."""
        return reduce(mul, self.factors(values).unbind(2))


class MultiplicativeTower(nn.Module):
    """Symbolic queries as sums over values plus products over the values of an object, and nothing else.

    A query reads [SOO] v_1 ... v_C [EOO] for each of its objects, then [EOS], or v [EOS], padded at the end; the data
    side makes the tokens. With a vector u and a vector of factors p for every value, ``per-object`` gives

        sum over values of u  +  W sum over objects of prod over the object's values of p

    and ``global`` adds V prod over objects and values of factors of its own. These are the forms that fit encoders
    which generalise (Uselis et al. 2026, arXiv 2605.31503, multiplicative probes), as an inductive bias: the embedding
    of an object that training never showed is made of parts that it did show. A query of one value has the additive
    term alone. The order of the objects plays no part.

    One dimension of any function of two concepts of V values takes V products; dimensions share them, so that an
    arbitrary embedding may take as many as there are objects. Fewer are a narrower bias.
    """

    def __init__(
        self, vocab_size: int, *, num_concepts: int, output_dim: int, rank: int, variant: Variant = "per-object"
    ) -> None:
        super().__init__()
        self.output_dim = output_dim
        self.num_concepts = num_concepts
        self.values = nn.Embedding(vocab_size, output_dim)
        # As large, summed over the values of an object, as its product is.
        nn.init.normal_(self.values.weight, std=num_concepts**-0.5)
        self.per_object = Products(vocab_size, rank=rank, output_dim=output_dim)
        self.overall = Products(vocab_size, rank=rank, output_dim=output_dim) if variant == "global" else None

    def forward(self, tokens: Int[Tensor, "n t"]) -> Float[Tensor, "n output_dim"]:
        """One vector per query."""
        embedded = self.values(tokens).masked_fill((tokens < FIRST_VALUE)[..., None], 0).sum(1)
        values, present = self._objects(tokens)
        absent = ~present[..., None]
        embedded = embedded + self.per_object.projection(self.per_object(values).masked_fill(absent, 0).sum(1))
        if self.overall is not None:
            product = self.overall(values).masked_fill(absent, 1).prod(1) * present.any(1, keepdim=True)
            embedded = embedded + self.overall.projection(product)
        return embedded

    def _objects(self, tokens: Int[Tensor, "n t"]) -> tuple[Int[Tensor, "n m c"], Bool[Tensor, "n m"]]:
        """The value tokens of each object, any where there is none, and where there is one."""
        length = self.num_concepts + 2
        number = tokens.shape[1] // length
        objects = tokens[:, : number * length].unflatten(1, (number, length))
        return objects[..., 1:-1], objects[..., 0] == SOO

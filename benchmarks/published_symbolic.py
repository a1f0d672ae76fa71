"""The symbolic training of "How can embedding models bind concepts?" as its description has it, to compare with.

Written from the description of arXiv 2605.31503 and its released code, in plain Python and `torch.nn`: scenes are drawn
and their tokens, queries and labels made in loops over scenes and objects; two `nn.TransformerEncoder` of the published
shape; AdamW.
"""

import math
import random
from typing import NamedTuple

import torch
from torch import Tensor, nn

PAD, SOO, EOO, EOS, FIRST_VALUE = 0, 1, 2, 3, 4
MOST = 64  # concept queries of a batch, and unique object queries that some scene shows

Object = tuple[int, ...]


class Batch(NamedTuple):
    """scenes [n, t]; queries [q, t'] and [p, t'']; which occur in which scene, float [n, q] and [n, p]."""

    scenes: Tensor
    concepts: Tensor
    objects: Tensor
    concept_labels: Tensor
    object_labels: Tensor


class Preparation:
    """Draws batches of scenes of two train objects, with their queries, one scene and one object after another."""

    def __init__(self, train: list[Object], *, num_values: int, batch_size: int, seed: int) -> None:
        self.train, self.num_values, self.batch_size = train, num_values, batch_size
        self.is_train = set(train)
        self.random = random.Random(seed)

    def __call__(self) -> Batch:
        """The next batch."""
        scenes = [self.random.sample(self.train, 2) for _ in range(self.batch_size)]
        concepts = self._concepts(scenes)
        objects = self._objects(scenes)
        return Batch(
            scenes=padded([self.scene_tokens(scene) for scene in scenes]),
            concepts=torch.tensor([[FIRST_VALUE + value, EOS] for value in concepts]),
            objects=padded([self.scene_tokens([item]) for item in objects]),
            concept_labels=labels(
                [[self.number(k, v) for o in scene for k, v in enumerate(o)] for scene in scenes], concepts
            ),
            object_labels=labels(scenes, objects),
        )

    def number(self, concept: int, value: int) -> int:
        """A value among those of all concepts."""
        return concept * self.num_values + value

    def scene_tokens(self, scene: list[Object]) -> list[int]:
        """[SOO] v_1 .. v_C [EOO] for each object, then [EOS]."""
        tokens = []
        for item in scene:
            tokens.append(SOO)
            for concept, value in enumerate(item):
                tokens.append(FIRST_VALUE + self.number(concept, value))
            tokens.append(EOO)
        return [*tokens, EOS]

    def _concepts(self, scenes: list[list[Object]]) -> list[int]:
        shown = sorted({self.number(k, v) for scene in scenes for item in scene for k, v in enumerate(item)})
        return self.random.sample(shown, min(MOST, len(shown)))

    def _objects(self, scenes: list[list[Object]]) -> list[Object]:
        """Those shown, a random one for each, and one for each scene in which two objects exchanged a value."""
        shown = list(dict.fromkeys(item for scene in scenes for item in scene))
        own = self.random.sample(shown, min(MOST, len(shown)))
        others = [self.random.choice(self.train) for _ in own]
        swapped = [made for scene in scenes if (made := self._swapped(scene)) is not None]
        return own + others + swapped

    def _swapped(self, scene: list[Object]) -> Object | None:
        """The scene's first object with a value of the second; None where no concept gives a new train object."""
        concepts = list(range(len(scene[0])))
        self.random.shuffle(concepts)
        for concept in concepts:
            made = (*scene[0][:concept], scene[1][concept], *scene[0][concept + 1 :])
            if made not in scene and made in self.is_train:
                return made
        return None


def labels(there: list[list], asked: list) -> Tensor:
    """Which of what is asked is there, entry by entry; a query that stands twice is true twice."""
    places: dict = {}
    for column, item in enumerate(asked):
        places.setdefault(item, []).append(column)
    found = torch.zeros(len(there), len(asked))
    for row, items in enumerate(there):
        for item in items:
            for column in places.get(item, ()):
                found[row, column] = 1.0
    return found


def padded(sequences: list[list[int]]) -> Tensor:
    """Token ids of one length, int64 [n, t]."""
    length = max(map(len, sequences))
    return torch.tensor([sequence + [PAD] * (length - len(sequence)) for sequence in sequences])


class Encoder(nn.Module):
    """Pre-norm transformer with fixed sinusoidal positions, read at the last token that is no padding."""

    def __init__(
        self, vocab_size: int, *, max_length: int, width: int, depth: int, heads: int, hidden: int, output_dim: int
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width, padding_idx=PAD)
        self.register_buffer("positions", sinusoids(max_length, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.projection = nn.Linear(width, output_dim, bias=False)
        for weight in self.parameters():
            if weight.ndim > 1:
                nn.init.xavier_uniform_(weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Unit vectors [n, output_dim]."""
        padding = tokens == PAD
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        x = self.layers(x, src_key_padding_mask=padding)
        last = x[torch.arange(len(x)), (~padding).sum(1) - 1]
        return nn.functional.normalize(self.projection(last), dim=-1)


def sinusoids(length: int, width: int) -> Tensor:
    """Vaswani et al. 2017, section 3.5."""
    place = torch.arange(length)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.stack([place.sin(), place.cos()], dim=-1).flatten(1)


def loss_of(scenes: Tensor, queries: Tensor, truth: Tensor, scale: Tensor) -> Tensor:
    """Soft multi-label cross-entropy of scenes over queries; scenes of which none is true are dropped."""
    kept = truth.sum(1) > 0
    target = truth[kept] / truth[kept].sum(1, keepdim=True)
    return nn.functional.cross_entropy(scale * scenes[kept] @ queries.T, target)

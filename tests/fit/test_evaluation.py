"""The evaluator against models whose every number is known beforehand."""

import pytest
import torch
from torch import Tensor, nn

from dualenc.data import QuerySettings, SymbolicSource
from dualenc.evaluation import Evaluator, with_prefix
from dualenc.models import DualEncoder
from dualenc.scenes import ConceptSpace, ObjectSplit, SceneSampler

NUM_SCENES = 150


class Constant(nn.Module):
    """Embeds everything alike: a collapsed tower."""

    output_dim = 32

    def __init__(self) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(self.output_dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.vector.expand(len(x), -1)


class SetOfObjects(nn.Module):
    """Symbolic scenes and queries as the sum of one orthogonal direction for each object: perfect binding."""

    def __init__(self, space: ConceptSpace) -> None:
        super().__init__()
        self.sizes, self.output_dim = space.sizes, space.num_objects + space.num_values
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, tokens: Tensor) -> Tensor:
        embeddings = torch.zeros(len(tokens), self.output_dim)
        offset = self.output_dim - sum(self.sizes)
        for row, sequence in zip(embeddings, tokens.tolist()):
            values = [token - 4 for token in sequence if token >= 4]
            row[[offset + value for value in values]] = 0.01 if 1 in sequence else 1.0
            for first, second in zip(values[::2], values[1::2]):
                row[first * self.sizes[1] + second - self.sizes[0]] = 1.0
        return embeddings * self.scale


def make_source(query_tower: str) -> SymbolicSource:
    space = ConceptSpace.symbolic(num_concepts=2, num_values=6)
    sampler = SceneSampler(ObjectSplit.uniform(space, coverage=0.6, seed=1), seed=2, counts={2: 1.0})
    settings = QuerySettings(seed=0, captions=0.0, objects=0.5, concepts=0.5, edits=(), edits_per_scene=1)
    return SymbolicSource(sampler, query_tower=query_tower, settings=settings, num_samples=NUM_SCENES)


def evaluate(model: DualEncoder, source: SymbolicSource) -> dict[str, float | None]:
    return with_prefix(Evaluator(model, source, batch_size=64).all_splits())


@pytest.mark.parametrize("seed", range(3))
def test_a_collapsed_model_gets_nothing_right(seed: int) -> None:
    torch.manual_seed(seed)
    numbers = evaluate(DualEncoder(Constant(), Constant()), make_source("text"))
    for split in ("val", "val_ood", "ood", "mixed"):
        for name in ("concept_recognition", "object_recognition", "object_recognition_same_status"):
            assert numbers[f"{split}/{name}"] == 0
        for operator in ("swap", "replace", "add"):
            assert numbers[f"{split}/caption_vs_{operator}_count"] > 0
            assert numbers[f"{split}/caption_vs_{operator}"] == 0
        assert numbers[f"{split}/recall_at_1_scene_to_query"] == 0


def test_perfect_binding_is_recognised_on_every_split() -> None:
    source = make_source("symbolic")
    model = DualEncoder(SetOfObjects(source.space), SetOfObjects(source.space))
    numbers = evaluate(model, source)
    for split in ("val", "val_ood", "ood", "mixed"):
        assert numbers[f"{split}/object_recognition"] == 1
        assert numbers[f"{split}/concept_recognition"] == 1
        assert numbers[f"{split}/binding_gain"] == 1
        assert numbers[f"{split}/object_candidates"] == 36
        assert numbers[f"{split}/num_scenes"] == NUM_SCENES
        assert numbers[f"{split}/caption_vs_swap"] is None

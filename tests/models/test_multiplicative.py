"""The multiplicative query tower: its formula, its symmetries, its gradients, and what it leaves out."""

import numpy as np
import pytest
import torch
from torch import Tensor

from dualenc import config as configuration
from dualenc.build import ModelSpec, build_model
from dualenc.config import MULTIPLICATIVE, TRANSFORMER
from dualenc.data.queries import SymbolicQueries, SymbolicScenes
from dualenc.models import MultiplicativeTower, ObjectTower, SymbolicTower, VisionTower
from dualenc.models import multiplicative as module
from dualenc.scenes import ConceptSpace, Scenes

SPACE = ConceptSpace.symbolic(num_concepts=3, num_values=4)
CODER = SymbolicQueries(SPACE)
VARIANTS = ("per-object", "global")


def tower(variant: str = "per-object", rank: int = 5) -> MultiplicativeTower:
    torch.manual_seed(0)
    return MultiplicativeTower(CODER.vocab_size, num_concepts=3, output_dim=6, rank=rank, variant=variant).double()


def of_objects(ids: list[list[int]]) -> Tensor:
    return torch.as_tensor(SymbolicScenes.tokens(Scenes.of(SPACE, np.array(ids))))


def of_values() -> Tensor:
    return torch.as_tensor(CODER.concepts())


def test_the_ids_of_tokens_are_those_of_the_data() -> None:
    assert (module.SOO, module.FIRST_VALUE) == (SymbolicScenes.SOO, SymbolicScenes.FIRST_VALUE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_embedding_is_the_sum_of_its_terms(variant: str) -> None:
    made = tower(variant)
    ids = [[7, 50, -1], [3, 3, 21], [63, -1, -1]]
    expected = []
    for scene in ids:
        total, overall = torch.zeros(6).double(), torch.ones(5).double()
        for item in (i for i in scene if i >= 0):
            values = [SymbolicScenes.FIRST_VALUE + 4 * k + int(v) for k, v in enumerate(SPACE.decode(item))]
            total = total + sum(made.values.weight[v] for v in values)
            a, b, c = (made.per_object.factors.weight[v] for v in values)
            total = total + made.per_object.projection.weight @ (a * b * c)
            if made.overall is not None:
                a, b, c = (made.overall.factors.weight[v] for v in values)
                overall = overall * a * b * c
        if made.overall is not None:
            total = total + made.overall.projection.weight @ overall
        expected.append(total)
    torch.testing.assert_close(made(of_objects(ids)), torch.stack(expected))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_order_of_objects_and_the_padding_play_no_part(variant: str) -> None:
    made = tower(variant)
    one, other = made(of_objects([[7, 50, 21]])), made(of_objects([[21, 7, 50]]))
    torch.testing.assert_close(one, other)
    alone, among = made(of_objects([[7, 50]])), made(of_objects([[7, 50, -1], [1, 2, 3]]))[:1]
    torch.testing.assert_close(alone, among)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_query_of_one_value_is_its_additive_term_also_beside_objects(variant: str) -> None:
    made = tower(variant)
    expected = made.values.weight[SymbolicScenes.FIRST_VALUE :]
    assert torch.equal(made(of_values()), expected)
    padded = torch.nn.functional.pad(of_values(), (0, 4))
    assert torch.equal(made(torch.cat([padded, of_objects([[5]])]))[:-1], expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_objects_are_not_sums_of_their_values_and_share_their_factors(variant: str) -> None:
    """The second difference over two concepts vanishes for a sum; a product's factorises."""
    made = tower(variant)
    ids = [[int(SPACE.encode(np.array([a, b, 2])))] for a in (0, 1) for b in (0, 1)]
    e = made(of_objects(ids))
    assert (e[0] - e[1] - e[2] + e[3]).norm() > 0.1 * e[0].norm()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_that_is_used_has_a_right_gradient(variant: str) -> None:
    made = tower(variant, rank=2)
    tokens = torch.cat([of_objects([[7, 50], [3, -1]]), torch.nn.functional.pad(of_values()[:2], (0, 9))])
    weights = list(made.parameters())
    names = [name for name, _ in made.named_parameters()]
    point = [weight.detach().clone().requires_grad_() for weight in weights]

    def embedded(*values: Tensor) -> Tensor:
        return torch.func.functional_call(made, dict(zip(names, values)), (tokens,))

    assert torch.autograd.gradcheck(embedded, point)
    made(of_values()).sum().backward()  # a batch without objects: DDP waits for a gradient of every weight all the same
    assert all(weight.grad is not None for weight in weights)


def spec(*overrides: str, kind: str = "vision") -> ModelSpec:
    shared = ["data.queries={captions: 0, objects: 1, concepts: 0}", f"model.scene.kind={kind}", "data.path=somewhere"]
    config = configuration.load(None, ["model.query.kind=multiplicative", "model.preset=tiny", *shared, *overrides])
    return ModelSpec(model=config.model, concepts=SPACE.to_dict(), vocabulary=[], max_objects=2, image_size=32)


@pytest.mark.parametrize(
    ("kind", "tower"), [("vision", VisionTower), ("symbolic", SymbolicTower), ("objects", ObjectTower)]
)
def test_any_scene_tower_goes_with_it(kind: str, tower: type) -> None:
    model = build_model(spec("model.query.variant=global", kind=kind))
    assert isinstance(model.scene_tower, tower)
    embedded = model.encode_queries(of_values())
    assert embedded.shape == (12, 64)
    assert model.query_tower.per_object.projection.in_features == 64, "the rank is the output dimension"


def test_what_another_kind_of_tower_reads_is_no_part_of_the_run() -> None:
    shards = ["data.path=somewhere", "data.queries={captions: 0, objects: 1, concepts: 0}"]
    for kind, unread in (("multiplicative", TRANSFORMER), ("symbolic", MULTIPLICATIVE)):
        given = {"readout": "eos", "variant": "global", "mlp_ratio": "3", "dropout": "0.5"}
        settings = [f"model.query.{name}={given.get(name, 4)}" for name in unread]
        plain, more = (configuration.load(None, [*shards, f"model.query.kind={kind}", *s]) for s in ([], settings))
        assert configuration.identity(plain, "d") == configuration.identity(more, "d")
        (*said,) = configuration.notes(more)
        assert len(said) == len(unread)
        assert all("has no effect" in line for line in said)
        assert configuration.notes(plain) == []

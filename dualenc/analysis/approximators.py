"""Functions from concept ids to scene embeddings, fitted by squared error: MLPs, a random forest, boosted trees.

MLPs read learned embeddings of the concept values, one table for each slot and concept, side by side; one hidden layer
of ReLUs; Adam on the full batch at 1e-2, cosine to 0, 4,000 steps. Source: "How can embedding models bind concepts?"
(arXiv 2605.31503), section on capacity, and its released code. Several MLPs of one width are fitted together, their
parameters stacked and every product one batched matmul, which is what a GPU needs; each is the same as if fitted alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Trees = Literal["forest", "boosting"]


@dataclass(frozen=True)
class Training:
    """How an MLP is fitted: width of the embeddings of values, full-batch steps, first learning rate."""

    embedding: int
    steps: int = 4000
    lr: float = 1e-2


@dataclass(frozen=True, eq=False)
class Examples:
    """inputs: one-hot values, slot by slot and concept by concept [n, p]; targets [n, d]; seed of the first weights."""

    inputs: Float[Tensor, "n p"]
    targets: Float[Tensor, "n d"]
    seed: int


class StackedMLPs:
    """K MLPs of one width. blocks: how many values each slot's concepts have, in the order of the one-hot columns.

    The first layer acts on a sum over blocks of (value embedding times weights of its block). Embeddings and weights
    are multiplied first, into one row for each value, and the rows are then added: the same function, at a fraction of
    the work, since there are far fewer values than scenes.
    """

    def __init__(
        self, blocks: Sequence[int], outputs: int, *, width: int, embedding: int, seeds: Sequence[int], like: Tensor
    ) -> None:
        inputs = len(blocks) * embedding
        shapes = {
            "embeddings": ((sum(blocks), embedding), 1.0),
            "first": ((len(blocks), embedding, width), (2 / inputs) ** 0.5),
            "first_bias": ((1, width), 0.0),
            "second": ((width, outputs), width**-0.5),
            "second_bias": ((1, outputs), 0.0),
        }
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.blocks = list(blocks)
        self.parameters = {
            name: torch.stack([std * torch.randn(*shape, generator=draw, dtype=like.dtype) for draw in draws])
            .to(like.device)
            .requires_grad_()
            for name, (shape, std) in shapes.items()
        }

    def __call__(self, inputs: Float[Tensor, "K n p"]) -> Float[Tensor, "K n d"]:
        """What each makes of its own inputs."""
        weights = self.parameters
        tables = weights["embeddings"].split(self.blocks, dim=1)
        rows = torch.cat([table @ weights["first"][:, i] for i, table in enumerate(tables)], dim=1)
        hidden = torch.baddbmm(weights["first_bias"], inputs, rows).relu()
        return torch.baddbmm(weights["second_bias"], hidden, weights["second"])

    @torch.no_grad()
    def predict(self, which: int, inputs: Float[Tensor, "n p"]) -> Float[Tensor, "n d"]:
        """What one of them makes of other inputs."""
        alone = object.__new__(StackedMLPs)
        alone.blocks = self.blocks
        alone.parameters = {name: value[which : which + 1] for name, value in self.parameters.items()}
        return alone(inputs[None])[0]


def fit_mlps(examples: Sequence[Examples], blocks: Sequence[int], *, width: int, training: Training) -> StackedMLPs:
    """One MLP for each set of examples, all fitted together: shorter sets are padded with rows that count nothing."""
    rows = max(len(e.inputs) for e in examples)
    first = examples[0]
    inputs, targets = (
        torch.stack([torch.nn.functional.pad(part, (0, 0, 0, rows - len(part))) for part in parts])
        for parts in ([e.inputs for e in examples], [e.targets for e in examples])
    )
    lengths = torch.tensor([len(e.inputs) for e in examples], device=inputs.device)
    share = (torch.arange(rows, device=inputs.device) < lengths[:, None]) / (lengths[:, None] * targets.shape[2])
    share = share.to(inputs.dtype)[..., None]
    mlps = StackedMLPs(
        blocks,
        targets.shape[2],
        width=width,
        embedding=training.embedding,
        seeds=[e.seed for e in examples],
        like=first.inputs,
    )
    optimiser = torch.optim.Adam(mlps.parameters.values(), lr=training.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=training.steps)
    for _ in range(training.steps):
        optimiser.zero_grad()
        # A sum over MLPs: each has the gradient of its own mean, and Adam scales every number by itself.
        (share * (mlps(inputs) - targets) ** 2).sum().backward()
        optimiser.step()
        schedule.step()
    return mlps


def tree_regressor(kind: Trees) -> Any:
    """The class of scikit-learn (random forest) or XGBoost (boosted trees)."""
    name = {"forest": "sklearn.ensemble:RandomForestRegressor", "boosting": "xgboost:XGBRegressor"}[kind]
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def fit_trees(kind: Trees, examples: Examples, *, trees: int) -> Any:
    """A fitted forest or boosted trees, with `predict`; on one core, a function of the seed."""
    inputs, targets = examples.inputs.cpu().numpy(), examples.targets.cpu().numpy()
    options = {"tree_method": "hist"} if kind == "boosting" else {}
    model = tree_regressor(kind)(n_estimators=trees, random_state=examples.seed, n_jobs=1, **options)
    return model.fit(inputs, targets if targets.shape[1] > 1 else targets[:, 0])


def predict_trees(model: Any, inputs: Float[Tensor, "n p"], *, outputs: int) -> Float[Tensor, "n outputs"]:
    """What the trees make of other inputs."""
    found = np.asarray(model.predict(inputs.cpu().numpy())).reshape(-1, outputs)
    return torch.from_numpy(found).to(inputs)

"""Reading one place of each sequence is the whole forward pass without the states that nobody looks at."""

import pytest
import torch
from torch import Tensor

from dualenc.models import Transformer


def inputs(padded: bool) -> tuple[Tensor, Tensor | None]:
    torch.manual_seed(1)
    mask = torch.arange(7) < torch.tensor([[7], [3], [1], [5]])
    return torch.randn(4, 7, 16, dtype=torch.float64), mask if padded else None


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_it_is_the_state_at_the_last_place_with_the_same_gradients(
    checkpointing: bool, causal: bool, padded: bool, packs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    trunk = Transformer(16, depth=2, heads=2, causal=causal).double()
    trunk.checkpointing = checkpointing
    if not packs:  # as on a GPU
        monkeypatch.setattr("dualenc.models.transformer.packing_of", lambda mask: None)
    x, mask = inputs(padded)
    last = (mask.sum(1) if padded else torch.full((4,), 7)) - 1
    expected = trunk(x, mask)[torch.arange(4), last]
    read = trunk.read(x, mask)
    torch.testing.assert_close(read, expected)
    weights = list(trunk.parameters())
    direction = torch.randn_like(read)
    found, wanted = (torch.autograd.grad(e, weights, direction) for e in (read, expected))
    for one, other in zip(found, wanted):
        torch.testing.assert_close(one, other)

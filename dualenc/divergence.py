"""Where numbers stopped being finite, for the one line that a diverged training ends with."""

import torch
from torch import Tensor, nn

from dualenc.data import TrainBatch
from dualenc.errors import InputError
from dualenc.models import DualEncoder


def not_finite(model: DualEncoder, batch: TrainBatch) -> str:
    """The weights, embeddings of the batch (without dropout) and gradients that are not finite, by tower.

    A weight that is not finite spoils all embeddings of its tower and all gradients of both; where the weights are
    finite, embeddings say which tower overflowed; where these are finite too, the gradients tell. Empty where all are.
    """
    found = []
    if names := weights_not_finite(model):
        found.append(f"weights of {names}")
    else:
        training = model.training
        model.eval()
        with torch.no_grad():
            embeddings = {"scene_tower": model.encode_scenes(batch.scenes)}
            pools = batch.object_queries
            texts = batch.queries if pools is None or len(batch.queries) else pools
            embeddings["query_tower"] = model.encode_queries(texts)
        model.train(training)
        found += [f"embeddings of {name}" for name, rows in embeddings.items() if not torch.isfinite(rows).all()]
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    if names := _by_part(gradients):
        found.append(f"gradients of {names}")
    return ", ".join(found)


def diverged(samples: int, batch_size: int, where: str) -> InputError:
    """The refusal to go on after `samples` samples, where something in the model is not finite after a step."""
    return InputError(
        f"the training diverged at step {samples // batch_size} (after {samples} samples); not finite: {where}; the "
        "checkpoint before is kept; lower optim.lr and train anew"
    )


def weights_not_finite(model: nn.Module) -> str:
    """The weights that are not finite, by tower; empty where all are."""
    return _by_part(dict(model.named_parameters()))


def _by_part(tensors: dict[str, Tensor]) -> str:
    """Names of tensors that are not finite: `scene_tower (3 of 40: blocks.0.mlp_in.weight to norm.bias), log_scale`."""
    bad = torch.stack([~torch.isfinite(tensor).all() for tensor in tensors.values()]).tolist()
    parts: dict[str, list[str]] = {}
    totals: dict[str, int] = {}
    for name, is_bad in zip(tensors, bad):
        part, _, rest = name.partition(".")
        totals[part] = totals.get(part, 0) + 1
        if is_bad:
            parts.setdefault(part, []).append(rest)
    return ", ".join(_part(part, names, totals[part]) for part, names in parts.items())


def _part(part: str, names: list[str], total: int) -> str:
    if total == 1:
        return part
    if len(names) == total:
        return f"{part} (all {total})"
    which = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    return f"{part} ({len(names)} of {total}: {which})"

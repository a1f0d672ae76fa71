"""Minimal pairs: two pictures, two captions, each true of one picture only (Winoground, arXiv 2204.03162)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dualenc.errors import NotFinite

_CHANCE = {"text": 1 / 4, "picture": 1 / 4, "group": 1 / 6}


def minimal_pairs(scores: Float[Tensor, "n 2 2"], *, kind: str, exists: Bool[Tensor, " n"]) -> dict[str, float | None]:
    """How often pictures and captions that differ in one respect are put together rightly.

    `scores[i, p, c]` is picture p of pair i against caption c; caption c is true of picture c alone. `text`: for each
    picture the true caption scores strictly above the other; `picture`: for each caption the picture it is true of
    does; `group`: both. Over the pairs that exist. Keys, with WHAT among them: `opposite_{kind}_WHAT` (None without
    pairs) and `opposite_{kind}_WHAT_chance` (all orders of the four scores alike); `opposite_{kind}_count`.
    NaN or Inf in a pair that exists raises ValueError.
    """
    scores = scores[exists]
    if not torch.isfinite(scores).all():
        raise NotFinite("scores hold NaN or Inf: the model diverged or an input is broken")
    own = scores.diagonal(dim1=1, dim2=2)
    text = (own > scores.flip(2).diagonal(dim1=1, dim2=2)).all(dim=1)
    picture = (own > scores.flip(1).diagonal(dim1=1, dim2=2)).all(dim=1)
    report: dict[str, float | None] = {f"opposite_{kind}_count": float(len(scores))}
    for what, right in (("text", text), ("picture", picture), ("group", text & picture)):
        report[f"opposite_{kind}_{what}"] = right.double().mean().item() if len(scores) else None
        report[f"opposite_{kind}_{what}_chance"] = _CHANCE[what]
    return report

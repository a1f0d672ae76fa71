"""Caption versus edit: does the true caption score above a minimally changed, false one?"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dualenc.errors import NotFinite


def caption_versus_edit(
    caption_scores: Float[Tensor, "n"],
    edit_scores: Float[Tensor, "n"],
    *,
    operator: str,
    exists: Bool[Tensor, "n"],
    heldout: Bool[Tensor, "n"],
) -> dict[str, float | None]:
    """Share of scenes whose true caption scores strictly above its edit, over scenes where the edit exists.

    `exists` marks these scenes, scores elsewhere are ignored. `heldout` marks edits that name a held-out object
    not in the scene; they are reported apart, since a model can reject such a caption as unfamiliar. For operator
    `swap` the keys are `caption_vs_swap`, and with suffixes `_seen` and `_heldout`, each also with `_count`; a
    share is None where its count is 0. `_chance` is 0.5, `_candidates` 2. NaN or Inf raises ValueError.
    """
    if not torch.isfinite(torch.stack([caption_scores[exists], edit_scores[exists]])).all():
        raise NotFinite("scores hold NaN or Inf: the model diverged or an input is broken")
    name = f"caption_vs_{operator}"
    above = caption_scores > edit_scores
    report: dict[str, float | None] = {f"{name}_chance": 0.5, f"{name}_candidates": 2.0}
    for suffix, chosen in (("", exists), ("_seen", exists & ~heldout), ("_heldout", exists & heldout)):
        count = int(chosen.sum())
        report[f"{name}{suffix}"] = int((above & chosen).sum()) / count if count else None
        report[f"{name}{suffix}_count"] = float(count)
    return report

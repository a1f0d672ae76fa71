"""Hard negatives: texts made of a scene's own caption, false ones (edits) and true ones (paraphrases, hard positives).

As columns of every scene they are NegCLIP's (Yuksekgonul et al. 2023, arXiv 2210.01936). Against a scene's own texts
alone, by cross-entropy or by a margin, they are what is asked of a caption and its negatives in evaluation. Models
trained on false edits alone become too sensitive to edits that keep the meaning (Kamath et al. 2024, "The Hard Positive
Truth", arXiv 2409.17958): hence true ones among them.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dualenc.losses.collectives import all_reduce_max, rank
from dualenc.losses.contrastive import infonce_loss
from dualenc.losses.inputs import Judge, LossInputs, Report
from dualenc.losses.multilabel import cross_entropies, global_mean

_COLUMNS = 256  # of my extra texts that a judge is asked about at once


def hard_negatives_loss(
    inputs: LossInputs, *, form: Literal["columns", "cross_entropy", "margin"] = "cross_entropy", margin: float = 0.2
) -> tuple[Float[Tensor, ""], Report]:
    """A scene's texts are its own query, which is true, and the extra texts made of it, true or false by the targets.

    A query of another kind than the edits (``edited_kind`` of the inputs) is no text of its scene in the two forms
    without columns: "something red" and a full caption differ in length, which alone would answer.

    ``columns``: :func:`dualenc.losses.info_nce`, where every extra text is a column of every scene of the global batch.

    ``cross_entropy``: each scene over its own texts alone, against the uniform distribution over the true ones, in
    nats. ``margin``: max(0, margin - c + f) of the cosine f of each false text and c of the *worst* true one, so that a
    scene costs nothing only if every true text leads every false one by the margin; the mean over its false texts.

    The last two leave out undecided texts, are means over the scenes of the global batch that have a true and a false
    text (0 where there are none), and report ``correct``: the share of these whose true texts all score above the false
    ones.

    Exact at any world size, see :mod:`dualenc.losses.collectives`; computed in float32 or float64. ValueError for extra
    texts without owners.
    """
    if form == "columns":
        return infonce_loss(inputs)
    with torch.autocast(inputs.scene.device.type, enabled=False):
        cosines, true, false = _own_texts(inputs)
        if form == "margin":
            losses, counts = _hinges(cosines, true, false, margin)
        else:
            losses, counts = cross_entropies(cosines * inputs.logit_scale, true, false)
        with torch.no_grad():
            leads = _worst(cosines, true) > cosines.masked_fill(~false, -torch.inf).amax(1)
        totals = torch.stack([losses.sum(), (leads & counts).sum().to(losses)])
        loss, correct = global_mean(totals, counts.sum(), inputs.group)
    return loss, {"correct": correct.detach()}


def _hinges(
    cosines: Float[Tensor, "b n"], true: Bool[Tensor, "b n"], false: Bool[Tensor, "b n"], margin: float
) -> tuple[Float[Tensor, " b"], Bool[Tensor, " b"]]:
    """The mean hinge of each row over its false texts, 0 for a row without true or without false ones; whether it has
    both."""
    counts = true.any(1) & false.any(1)
    worst = _worst(cosines, true).masked_fill(~counts, 0)
    hinges = (margin - worst[:, None] + cosines).clamp(min=0).masked_fill(~false | ~counts[:, None], 0)
    return hinges.sum(1) / false.sum(1).clamp(min=1), counts


def _worst(cosines: Float[Tensor, "b n"], true: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """The least cosine of each row's true texts, infinite where it has none."""
    return cosines.masked_fill(~true, torch.inf).amin(1)


def _own_texts(
    inputs: LossInputs,
) -> tuple[Float[Tensor, "b n"], Bool[Tensor, "b n"], Bool[Tensor, "b n"]]:
    """Cosines of each scene with its own query (first) and with the extra texts made of it; which are true, and which
    are false. Places left over, and undecided texts, are neither."""
    dtype = torch.promote_types(inputs.scene.dtype, torch.float32)
    scene, query = inputs.scene.to(dtype), inputs.query.to(dtype)
    extra = query[:0] if inputs.extra is None else inputs.extra.to(dtype)
    owner = inputs.extra_owner
    if owner is None:
        if len(extra):
            raise ValueError("hard_negatives needs extra_owner, the scene of each extra text")
        owner = torch.empty(0, dtype=torch.int64, device=scene.device)
    true, undecided = _said_of_own(inputs, owner)
    place = _places(owner)
    shape = len(scene), 1 + int(place.max() if len(place) else 0)
    texts = torch.cat([query[:, None], query.new_zeros(len(scene), shape[1] - 1, query.shape[1])], dim=1)
    cosines = torch.einsum("bd,bnd->bn", scene, texts.index_put((owner, place), extra))
    is_true, is_false = torch.zeros(2, *shape, dtype=torch.bool, device=scene.device)
    is_true[:, 0] = True if inputs.edited_kind is None else inputs.edited_kind
    is_true[owner, place] = true & ~undecided
    is_false[owner, place] = ~true & ~undecided
    return cosines, is_true, is_false


def _places(owner: Int[Tensor, " k"]) -> Int[Tensor, " k"]:
    """1 for the first text of each owner, 2 for the second, and so on."""
    ordered, order = owner.sort(stable=True)
    places = torch.empty_like(owner)
    places[order] = 1 + torch.arange(len(owner), device=owner.device) - torch.searchsorted(ordered, ordered)
    return places


def _said_of_own(inputs: LossInputs, owner: Int[Tensor, " k"]) -> tuple[Bool[Tensor, " k"], Bool[Tensor, " k"]]:
    """Whether each of my extra texts is true, and whether it is undecided, of the scene that it was made of."""
    num_extra = torch.tensor(len(owner), device=owner.device)
    first = rank(inputs.group) * int(all_reduce_max(num_extra, inputs.group))
    return _diagonal(inputs.extra_targets, owner, first), _diagonal(inputs.extra_undecided, owner, first)


def _diagonal(
    pairs: Bool[Tensor, "b columns"] | Judge | None, owner: Int[Tensor, " k"], first: int
) -> Bool[Tensor, " k"]:
    """What is said of scene owner[j] and column first + j."""
    if pairs is None:
        return torch.zeros_like(owner, dtype=torch.bool)
    columns = torch.arange(first, first + len(owner), device=owner.device)
    if isinstance(pairs, Tensor):
        return pairs[owner, columns]
    said = torch.zeros_like(owner, dtype=torch.bool)
    for start in range(0, len(owner), _COLUMNS):  # texts that stand together are of a few scenes
        some = slice(start, start + _COLUMNS)
        rows, span = owner[some], slice(first + start, first + min(start + _COLUMNS, len(owner)))
        least = int(rows.min())
        block = pairs(slice(least, int(rows.max()) + 1), span).to(owner.device)
        said[some] = block[rows - least, torch.arange(len(rows), device=owner.device)]
    return said

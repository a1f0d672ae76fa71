"""What a batch holds, for training and for evaluation."""

from typing import Any, NamedTuple

import numpy as np

from dualenc.data.pairs import PairJudge
from dualenc.scenes import Scenes

Array = Any  # a numpy array as a source makes it, a torch tensor once the loader has it

Said = Array | PairJudge  # of every scene and column: a matrix, or a judge where it would be large


class TrainBatch(NamedTuple):
    """One process's share b of a global batch B = b * world, k extra texts, k_max the most of any process.

    position: samples before this batch; indices int64 [b], sample numbers; scenes uint8 [b, H, W, 3] or int64 [b, T];
    queries int64 [b, T]; targets bool [b, B]; extra int64 [k, T], edits and then paraphrases, of which extra_owner
    int64 [k] says of which of my scenes each was made; extra_targets bool [b, world * k_max];
    edited_kind bool [b]: which of my scenes' own queries are of the kind that edits change: captions, or objects where
    the query tower reads tokens; None for all;
    undecided, extra_undecided: of the shapes of the targets, which pairs are neither true nor false (a relation inside
    its margin) and no part of a loss; None, in all processes, where the data states no relations;
    objects int64 [B, m] of the global batch; collisions, edits: how many scenes of the global batch have their swap
    partner in it, and how many edits stand in it; crc32: of the global batch's sample numbers in order, as int64.

    concept_queries int64 [q, T] and object_queries int64 [p, T]: this process's part of the step's pools, q and p the
    same but for one in all processes; concept_targets bool [b, world * q_max], object_targets bool [b, world * p_max].
    None, in all processes, where no loss asks for them. Where no loss asks for anything else, there are no queries (and
    targets have no columns).

    Columns of extra texts and of pools: process r's stand in columns r * most onwards, False where it has fewer. What
    is said of more than `dualenc.data.pairs.MAX_PAIRS` pairs is a `PairJudge` in place of an array.
    """

    position: int
    indices: Array
    scenes: Array
    queries: Array
    targets: Said
    extra: Array
    extra_owner: Array
    extra_targets: Said
    objects: Array
    collisions: int
    edits: int
    crc32: int
    edited_kind: Array | None = None
    undecided: Said | None = None
    extra_undecided: Said | None = None
    concept_queries: Array | None = None
    concept_targets: Said | None = None
    object_queries: Array | None = None
    object_targets: Said | None = None


class EvalBatch(NamedTuple):
    """Scenes of a split with everything that is asked about them.

    inputs: uint8 [n, H, W, 3] or int64 [n, T]; texts, opposites: None where the query tower reads no captions, and
    opposites where the data has none.
    """

    inputs: np.ndarray
    scenes: Scenes
    texts: "EvalTexts | None"
    opposites: "EvalOpposites | None" = None


class EvalTexts(NamedTuple):
    """captions int64 [n, T] and their forms int32 [n, K, 1 + C]; edits int64 [n, E, T'] with operator int8 [n, E], an
    index into EDIT_NAMES (whose first are OPERATORS) or -1, and status int8 [n, E] (see `dualenc.data.table`)."""

    captions: np.ndarray
    forms: np.ndarray
    edits: np.ndarray
    operator: np.ndarray
    status: np.ndarray


class EvalOpposites(NamedTuple):
    """The opposites of the k scenes of a batch that have one: rows int64 [k], which scenes; kind int8 [k], an index
    into OPPOSITE_KINDS; inputs, captions int64 [k, T] and scenes as of the batch. Caption and opposite caption are each
    true of one of the two scenes and false of the other."""

    rows: np.ndarray
    kind: np.ndarray
    inputs: np.ndarray
    captions: np.ndarray
    scenes: Scenes

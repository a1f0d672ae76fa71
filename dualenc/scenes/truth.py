"""Which caption is true of which scene: exact, vectorised model checking of logical forms.

Captions are existential, and each conjunct needs a witness of its own: "a cube and something red" is true of a scene
only if two different objects serve. That is a matching of conjuncts to objects, which exists (Hall's theorem) exactly
if every set of conjuncts has, together, at least as many candidate objects as conjuncts. Candidate sets are bit masks
over the scene's objects, so one test is a few byte operations; the number of tests doubles with each conjunct, which is
why there is a limit.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np

from dualenc.errors import InputError
from dualenc.scenes.language import NONE
from dualenc.scenes.limits import MAX_OBJECTS_OF_SCENE
from dualenc.scenes.sampling import Scenes

_MAX_CONJUNCTS = MAX_OBJECTS_OF_SCENE + 1  # an ADD edit names one object more than its scene has

_Gather = Callable[[np.ndarray, np.ndarray], np.ndarray]


def truth(caption_forms: np.ndarray, scenes: Scenes) -> np.ndarray:
    """bool [num_scenes, num_captions]: whether each caption is true of each scene.

    caption_forms: int [num_captions, K, 1 + C], see `dualenc.scenes.language`; a caption without conjuncts is true.
    InputError for a caption of more than 13 conjuncts or scenes of more than 12 objects.
    """
    forms = np.asarray(caption_forms)
    bits = _value_bits(scenes)
    lengths = _lengths(forms)
    result = np.ones((len(scenes), len(forms)), dtype=bool)
    for length in np.unique(lengths[lengths > 0]):
        columns = np.flatnonzero(lengths == length)
        result[:, columns] = _witnessed(
            bits,
            _first_conjuncts(forms[columns], length),
            lambda table, values: np.take(table, values, axis=1),
        )
    return result


def truth_of_own(forms: np.ndarray, scenes: Scenes) -> np.ndarray:
    """bool [n]: whether caption i is true of scene i; forms int [n, K, 1 + C]; the limits of `truth`."""
    forms = np.asarray(forms)
    bits = _value_bits(scenes)
    lengths = _lengths(forms)
    result = np.ones(len(scenes), dtype=bool)
    for length in np.unique(lengths[lengths > 0]):
        rows = np.flatnonzero(lengths == length)
        own = [table[rows] for table in bits]
        result[rows] = _witnessed(
            own,
            _first_conjuncts(forms[rows], length),
            lambda table, values: table[np.arange(len(table)), values],
        )
    return result


def _lengths(forms: np.ndarray) -> np.ndarray:
    """int [n]: the number of conjuncts of each form."""
    lengths = (forms[:, :, 0] != NONE).sum(axis=1)
    if np.any(lengths > _MAX_CONJUNCTS):
        raise InputError(f"captions: truth is for at most {_MAX_CONJUNCTS} conjuncts, not {lengths.max()}")
    return lengths


def _value_bits(scenes: Scenes) -> list[np.ndarray]:
    """For each concept a table [n, V_k + 1] of bit masks: which objects have value v; the last column, which index
    ANY = -1 reaches, holds all objects."""
    n, m, num_concepts = scenes.values.shape
    if m > MAX_OBJECTS_OF_SCENE:
        raise InputError(f"scenes: truth is for scenes of at most {MAX_OBJECTS_OF_SCENE} objects, not {m}")
    dtype = np.uint8 if m <= 8 else np.uint16
    tables = []
    for k in range(num_concepts):
        table = np.zeros((n, scenes.space.sizes[k] + 1), dtype=dtype)
        for j in range(m):
            present = np.flatnonzero(scenes.objects[:, j] >= 0)
            table[present, scenes.values[present, j, k]] |= dtype(1 << j)
            table[present, -1] |= dtype(1 << j)
        tables.append(table)
    return tables


def _first_conjuncts(forms: np.ndarray, length: int) -> np.ndarray:
    """int [n, length, C]: the values of the conjuncts, padding removed."""
    order = np.argsort(forms[:, :, 0] == NONE, axis=1, kind="stable")[:, :length]
    return np.take_along_axis(forms, order[:, :, None], axis=1)[:, :, 1:]


def _witnessed(bits: list[np.ndarray], conjuncts: np.ndarray, gather: _Gather) -> np.ndarray:
    """Hall's condition over every subset of conjuncts, int [n, length, C]."""
    length = conjuncts.shape[1]
    candidates = []
    for j in range(length):
        mask = gather(bits[0], conjuncts[:, j, 0])
        for k in range(1, len(bits)):
            mask &= gather(bits[k], conjuncts[:, j, k])
        candidates.append(mask)
    result = np.logical_and.reduce([mask != 0 for mask in candidates])
    for size in range(2, length + 1):
        for subset in combinations(candidates, size):
            result &= np.bitwise_count(np.bitwise_or.reduce(subset)) >= size
    return result

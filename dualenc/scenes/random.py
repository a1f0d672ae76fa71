"""Counter-based randomness: every random number of a scene is a pure function of (seed, split, purpose, i)."""

import zlib
from functools import lru_cache

import numpy as np
from numpy.random.bit_generator import ISeedSequence

SPLITS = ("train", "val", "val_ood", "ood", "mixed")

_WORDS_PER_COUNTER = 4  # Philox4x64 yields four 64-bit words for each counter value
_GAP = 64  # rows that are drawn in vain rather than start another generator


class _Key(ISeedSequence):
    """A Philox key as it stands. One handed over as `key` makes numpy gather entropy first that it never uses: four
    times the cost of a generator."""

    def __init__(self, *words: int) -> None:
        self.words = np.array(words, dtype=np.uint64)

    def generate_state(self, n_words: int, dtype: object = np.uint64) -> np.ndarray:
        """The key, which is what Philox asks for."""
        return self.words


@lru_cache(maxsize=1024)
def _key(seed: int, split: str, purpose: str) -> _Key:
    return _Key(seed, zlib.crc32(f"{split}/{purpose}".encode()))


def philox(seed: int, split: str, purpose: str, counter: int | list[int]) -> np.random.Philox:
    """numpy's Philox keyed by (seed, split and purpose), at a counter: one number, or four words, the lowest first."""
    key = _key(seed, split, purpose)
    return np.random.Philox(key, counter=counter)  # type: ignore[arg-type]  # any ISeedSequence, numpy's manual says


def uniform(seed: int, split: str, purpose: str, start: int, stop: int, width: int) -> np.ndarray:
    """float64 [stop - start, width] in [0, 1): row i - start holds the draws of scene i for one purpose.

    numpy's Philox is keyed by (seed, split and purpose), its counter is the scene number, so a row does not depend
    on which rows are drawn with it: any range, in any process, gives the same numbers.
    """
    blocks = -(-width // _WORDS_PER_COUNTER)
    raw = philox(seed, split, purpose, start * blocks).random_raw((stop - start) * blocks * _WORDS_PER_COUNTER)
    draws = (raw >> np.uint64(11)).view(np.int64) * 2.0**-53  # below 2^53, and signed ones convert faster
    return draws.reshape(stop - start, blocks * _WORDS_PER_COUNTER)[:, :width]


def integers(draws: np.ndarray, bound: np.ndarray | int) -> np.ndarray:
    """int64 in [0, bound) from uniform draws; the bias is below bound * 2^-53."""
    return (draws * bound).astype(np.int64)


def uniform_at(seed: int, split: str, purpose: str, numbers: np.ndarray, width: int) -> np.ndarray:
    """float64 [n, width]: the rows of `uniform` of these scene numbers, int64 [n], in any order."""
    draws = np.empty((len(numbers), width))
    if not len(numbers):
        return draws
    order = np.argsort(numbers, kind="stable")
    for run in np.split(order, np.flatnonzero(np.diff(numbers[order]) > _GAP) + 1):
        first, last = numbers[run[0]], numbers[run[-1]]
        draws[run] = uniform(seed, split, purpose, int(first), int(last) + 1, width)[numbers[run] - first]
    return draws

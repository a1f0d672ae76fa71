"""A word-level tokenizer."""

import re
from collections.abc import Sequence

import numpy as np

from dualenc.errors import InputError

_TOKEN = re.compile(r"[^\s,]+|,")


def words(text: str) -> list[str]:
    """The words of a text; a comma is a word."""
    return _TOKEN.findall(text)


class Tokenizer:
    """Words to numbers and nothing else: a closed vocabulary, saved with the dataset."""

    PAD, EOS = 0, 1
    SPECIAL = ("[PAD]", "[EOS]")

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = [*self.SPECIAL, *(word for word in vocabulary if word not in self.SPECIAL)]
        self._ids = {word: i for i, word in enumerate(self.vocabulary)}

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, [EOS] last. InputError names the first word that is not in the vocabulary."""
        try:
            return [*(self._ids[word] for word in words(text)), self.EOS]
        except KeyError as error:
            raise InputError(
                f"unknown word {error.args[0]!r} in {text!r}; the vocabulary holds {len(self)} words: "
                f"{' '.join(self.vocabulary[2:12])} ..."
            ) from None

    def encode_batch(self, texts: Sequence[str]) -> np.ndarray:
        """int64 [n, T] token ids, padded with [PAD] to the longest text."""
        rows = [self.encode(text) for text in texts]
        tokens = np.full((len(rows), max(map(len, rows), default=1)), self.PAD, dtype=np.int64)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = row
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""
        return " ".join(self.vocabulary[t] for t in tokens if t >= len(self.SPECIAL)).replace(" ,", ",")

"""Queries as token arrays: words for a text tower, values for a symbolic tower.

Both coders answer the same questions, so that any scene tower pairs with any query tower.
"""

from collections.abc import Collection
from typing import Protocol

import numpy as np

from dualenc.scenes import STYLES, ConceptSpace, Grammar, Language, Scenes, Tokenizer


class QueryCoder(Protocol):
    """What a source needs to know of the query side."""

    vocab_size: int
    max_length: int

    def objects(self, ids: np.ndarray) -> np.ndarray:
        """int64 [n, T]: the canonical queries of object ids [n]."""
        ...

    def concepts(self) -> np.ndarray:
        """int64 [num_values, T]: the canonical queries of all values, in pooled order."""
        ...


class TextQueries:
    """Queries in words; see `dualenc.scenes.Grammar`."""

    def __init__(self, space: ConceptSpace, tokenizer: Tokenizer, max_objects: int) -> None:
        self.grammar, self.tokenizer = Grammar(space), tokenizer
        self.vocab_size = len(tokenizer)
        # The longest template has three words; each object article, values, "object" and a separator; then [EOS].
        self.max_length = 4 + (max_objects + 1) * (space.num_concepts + 3)
        language = spoken_language(tokenizer.vocabulary, space)
        if language != Language():
            rows = max_rows(language, max_objects) + 1  # an edit adds one
            self.max_length = max(self.max_length, Grammar(space, language).max_words(rows) + 1)

    def objects(self, ids: np.ndarray) -> np.ndarray:
        """int64 [n, T], padded to the longest."""
        return self.tokenizer.encode_batch(self.grammar.object_queries(ids))

    def concepts(self) -> np.ndarray:
        """int64 [num_values, T], padded to the longest."""
        return self.tokenizer.encode_batch(self.grammar.concept_queries)


def spoken_language(vocabulary: Collection[str], space: ConceptSpace) -> Language:
    """The language that a vocabulary has the words for, but for synonyms, which make no text longer."""
    said = set(vocabulary) - {value for values in space.values for value in values}
    style = next((style for style, names in STYLES.items() if set(" ".join(names).split()) <= said), None)
    return Language(relations=style, counting="thirteen" in said, negation="not" in said)


def max_rows(language: Language, max_objects: int) -> int:
    """The most rows in the form of a caption: one for each object; beyond lists, captions of small scenes have more."""
    return max_objects if language == Language() else max(max_objects, 3)


class SymbolicQueries:
    """Queries as [SOO] v_1 .. v_C [EOO] [EOS] for an object and v [EOS] for a value (arXiv 2605.31503)."""

    def __init__(self, space: ConceptSpace) -> None:
        self.space = space
        self.vocab_size = SymbolicScenes.vocabulary_size(space)
        self.max_length = space.num_concepts + 3

    def objects(self, ids: np.ndarray) -> np.ndarray:
        """int64 [n, C + 3]."""
        return SymbolicScenes.full(self.space.pooled_of(np.asarray(ids)[:, None]))

    def concepts(self) -> np.ndarray:
        """int64 [num_values, 2]."""
        values = np.arange(self.space.num_values) + SymbolicScenes.FIRST_VALUE
        return np.stack([values, np.full_like(values, SymbolicScenes.EOS)], axis=1)


class SymbolicScenes:
    """Scenes as token sequences: [SOO] v_1 .. v_C [EOO] for each object, then [EOS], then [PAD]."""

    PAD, SOO, EOO, EOS, FIRST_VALUE = 0, 1, 2, 3, 4

    @classmethod
    def vocabulary_size(cls, space: ConceptSpace) -> int:
        """Number of tokens: four special ones and one for each value of each concept."""
        return cls.FIRST_VALUE + space.num_values

    @classmethod
    def object_length(cls, space: ConceptSpace) -> int:
        """Tokens of an object."""
        return space.num_concepts + 2

    @classmethod
    def max_length(cls, space: ConceptSpace, max_objects: int) -> int:
        """Longest token sequence of a scene."""
        return cls.object_length(space) * max_objects + 1

    @classmethod
    def tokens(cls, scenes: Scenes) -> np.ndarray:
        """int64 [n, (C + 2) * m + 1] for scenes of at most m objects."""
        tokens = cls.full(scenes.pooled)
        absent = scenes.objects < 0
        if absent[:, -1].any():
            n, m, length = *absent.shape, cls.object_length(scenes.space)
            tokens[:, :-1].reshape(n, m, length)[absent] = cls.PAD  # through a view
            tokens[:, -1] = cls.PAD
            tokens[np.arange(n), scenes.counts * length] = cls.EOS
        return tokens

    @classmethod
    def full(cls, pooled: np.ndarray) -> np.ndarray:
        """int64 [n, (C + 2) * m + 1] for n times m objects of values int64 [n, m, C] in pooled order."""
        n, m, num_concepts = pooled.shape
        tokens = np.empty((n, m * (num_concepts + 2) + 1), dtype=np.int64)
        columns = iter(tokens.T)  # numpy is quick where rows are long
        for values in pooled.transpose(1, 2, 0):
            next(columns)[:] = cls.SOO
            for value in values:
                np.add(value, cls.FIRST_VALUE, out=next(columns))
            next(columns)[:] = cls.EOO
        next(columns)[:] = cls.EOS
        return tokens


def pad_to_common_length(arrays: list[np.ndarray]) -> np.ndarray:
    """Token arrays [n_i, T_i] stacked to [sum n_i, max T], padded with 0."""
    length = max(array.shape[1] for array in arrays)
    return np.concatenate([np.pad(array, ((0, 0), (0, length - array.shape[1]))) for array in arrays])


def trimmed(tokens: np.ndarray) -> np.ndarray:
    """Tokens [..., T] without the columns that are padding everywhere; at least one column stays."""
    used = np.flatnonzero(tokens.any(axis=tuple(range(tokens.ndim - 1))))
    return tokens[..., : used[-1] + 1 if len(used) else 1]

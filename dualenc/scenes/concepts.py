"""Concept spaces: what an object can be, and the numbering of objects."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from dualenc.errors import InputError

WORD = re.compile(r"[a-z0-9][a-z0-9_-]*")
LISTED = 1 << 17
"""Objects up to which their values stand in a table (4.5 MiB at three concepts): looking up is faster than dividing."""


@dataclass(frozen=True)
class ConceptSpace:
    """A product of C concepts, each a finite list of named values; an object is one value of each.

    Objects are numbered in mixed radix, the first concept most significant, so the |O| = prod V_k objects are never
    listed. Values are single lower-case words, unique over all concepts: a word names one value.
    Source: "How can embedding models bind concepts?" (arXiv 2605.31503), section 2.
    """

    names: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.values):
            raise InputError("concepts: name at least one concept and give each its list of values")
        if len(set(self.names)) != len(self.names):
            raise InputError(f"concepts: {_repeated(self.names)!r} is named twice; give each concept a name of its own")
        for name, values in zip(self.names, self.values):
            if not values:
                raise InputError(f"concepts.{name}: has no values; give at least one")
            for value in values:
                if not isinstance(value, str) or not WORD.fullmatch(value):
                    raise InputError(f"concepts.{name}: {value!r} is not one lower-case word; use a-z, 0-9, - and _")
        words = [value for values in self.values for value in values]
        if len(set(words)) != len(words):
            raise InputError(f"concepts: the word {_repeated(words)!r} names two values; use different words")
        if self.num_objects >= 2**62:
            raise InputError("concepts: more than 2^62 objects; use fewer concepts or values")

    @classmethod
    def named(cls, concepts: Mapping[str, Sequence[str]]) -> "ConceptSpace":
        """From a mapping of concept names to their values' names, e.g. `{"color": ["red", "blue"], ...}`."""
        for name, values in concepts.items():
            if isinstance(values, str):
                raise InputError(f"concepts.{name}: {values!r} is one word; give a list of values")
        return cls(tuple(concepts), tuple(tuple(values) for values in concepts.values()))

    @classmethod
    def symbolic(cls, *, num_concepts: int, num_values: int) -> "ConceptSpace":
        """`num_concepts` concepts of `num_values` values each, named k0, k1, ... with values k0v0, k0v1, ..."""
        for key, number in (("num_concepts", num_concepts), ("num_values", num_values)):
            if number < 1:
                raise InputError(f"{key}: {number} is not a count; use at least 1")
        return cls.named({f"k{k}": [f"k{k}v{v}" for v in range(num_values)] for k in range(num_concepts)})

    @classmethod
    def from_dict(cls, concepts: Mapping[str, Sequence[str]]) -> "ConceptSpace":
        """The inverse of `to_dict`."""
        return cls.named(concepts)

    def to_dict(self) -> dict[str, list[str]]:
        """Concept name -> list of value names, for JSON."""
        return {name: list(values) for name, values in zip(self.names, self.values)}

    @property
    def num_concepts(self) -> int:
        """C, the number of concepts."""
        return len(self.names)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """V_k, the number of values of each concept."""
        return tuple(len(values) for values in self.values)

    @property
    def num_values(self) -> int:
        """The number of values of all concepts together."""
        return sum(self.sizes)

    @cached_property
    def num_objects(self) -> int:
        """|O|, the product of the sizes."""
        return int(np.prod([len(values) for values in self.values], dtype=object))

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64 [C]: value v of concept k is number `offsets[k] + v` among all values."""
        return np.cumsum([0, *self.sizes[:-1]]).astype(np.int64)

    @cached_property
    def strides(self) -> np.ndarray:
        """int64 [C]: an object's id is `sum(values * strides)`."""
        return np.cumprod([1, *self.sizes[:0:-1]])[::-1].astype(np.int64)

    def encode(self, values: ArrayLike) -> np.ndarray:
        """Object ids, int64 [...], of concept values, int [..., C]. Raises ValueError for a value out of range."""
        values = np.asarray(values)
        if values.ndim == 0 or values.shape[-1] != self.num_concepts or not np.issubdtype(values.dtype, np.integer):
            raise ValueError(
                f"values must be integers of shape (..., {self.num_concepts}), not {values.dtype} {values.shape}"
            )
        if values.size and (np.any(values < 0) or np.any(values >= np.asarray(self.sizes))):
            raise ValueError(f"values must lie in [0, size) of each concept; the sizes are {self.sizes}")
        return values.astype(np.int64) @ self.strides

    def decode(self, ids: ArrayLike) -> np.ndarray:
        """Concept values, int64 [..., C], of object ids, int [...]. Raises ValueError for an id out of range."""
        ids = np.asarray(ids)
        if not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"object ids must be integers, not {ids.dtype}")
        if ids.size and (np.any(ids < 0) or np.any(ids >= self.num_objects)):
            raise ValueError(f"object ids must lie in [0, {self.num_objects})")
        return ids.astype(np.int64)[..., None] // self.strides % np.asarray(self.sizes)

    def values_of(self, objects: np.ndarray) -> np.ndarray:
        """Concept values, int32 [..., C], of object ids, int64 [...]; -1 where the id is -1, for no object."""
        return (
            self._values.take(objects, axis=0)
            if self.num_objects <= LISTED
            else self._look_up(objects, 0).astype(np.int32)
        )

    def pooled_of(self, objects: np.ndarray) -> np.ndarray:
        """Their numbers among the values of all concepts, int64 [..., C], of object ids; -1 where the id is -1. They
        are what arrays are indexed by, which takes a third of the time with int64."""
        if self.num_objects <= LISTED:
            return self._pooled.take(objects, axis=0)
        return self._look_up(objects, self.offsets)

    def _look_up(self, objects: np.ndarray, offsets: ArrayLike) -> np.ndarray:
        values = self.decode(np.maximum(objects, 0)) + offsets
        values[objects < 0] = -1
        return values

    @cached_property
    def _values(self) -> np.ndarray:
        """int32 [|O| + 1, C]: the values of every object; the last line, which is also line -1, is for no object."""
        return self._look_up(np.append(np.arange(self.num_objects), -1), 0).astype(np.int32)

    @cached_property
    def _pooled(self) -> np.ndarray:
        """int64 [|O| + 1, C]: as `_values`, of `pooled_of`."""
        return self._look_up(np.append(np.arange(self.num_objects), -1), self.offsets)


def _repeated(items: Sequence[str]) -> str:
    return next(item for item in items if items.count(item) > 1)

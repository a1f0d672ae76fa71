"""The language of scenes: a small grammar with a closed vocabulary, logical forms, and a word-level tokenizer.

A logical form is an int32 array [K, 1 + C], one row for each conjunct: column 0 is its kind (NONE pads, EXISTS says
"there is such an object"), the others the value index of each concept, ANY where the words leave it open.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from dualenc.errors import InputError
from dualenc.scenes.concepts import ConceptSpace
from dualenc.scenes.forms import ANY, EXISTS, NONE

NOUN_CONCEPT = "shape"  # the concept whose values are nouns; a space without it calls every object an "object"
TEMPLATES = ("{}", "there is {}", "a picture of {}", "a scene with {}")

_TOKEN = re.compile(r"[^\s,]+|,")


def words(text: str) -> list[str]:
    """The words of a text; a comma is a word."""
    return _TOKEN.findall(text)


class Grammar:
    """Captions and queries about the objects of one concept space.

    Full captions list objects ("a red cube, a blue ball and a green cone") inside one of TEMPLATES. Queries are
    canonical, one for each object ("a red cube") and one for each value ("something red", "a cube").
    """

    def __init__(self, space: ConceptSpace) -> None:
        self.space = space
        self._noun = space.names.index(NOUN_CONCEPT) if NOUN_CONCEPT in space.names else None
        self._adjectives = [k for k in range(space.num_concepts) if k != self._noun]
        self._value_of = {word: (k, v) for k, values in enumerate(space.values) for v, word in enumerate(values)}
        for word in self._function_words:
            if word in self._value_of:
                name = space.names[self._value_of[word][0]]
                raise InputError(f"concepts.{name}: {word!r} is a word of the grammar; use another name for this value")

    @cached_property
    def _function_words(self) -> list[str]:
        templates = [word for template in TEMPLATES for word in words(template.format(""))]
        return list(dict.fromkeys(["a", "an", "and", ",", "something", "object", *templates]))

    @cached_property
    def vocabulary(self) -> list[str]:
        """Every word the grammar can say, function words first."""
        return [*self._function_words, *self._value_of]

    def phrase(self, values: Sequence[int]) -> str:
        """The noun phrase of a (partial) object, values [C] with ANY where left open: "a red cube", "something red"."""
        adjectives = [self.space.values[k][values[k]] for k in self._adjectives if values[k] != ANY]
        if self._noun is not None and values[self._noun] != ANY:
            noun = self.space.values[self._noun][values[self._noun]]
        elif len(adjectives) == self.space.num_concepts:
            noun = "object"
        else:
            return " ".join(["something", *adjectives])
        described = " ".join([*adjectives, noun])
        return f"{'an' if described[0] in 'aeiou' else 'a'} {described}"

    def object_query(self, object_id: int) -> str:
        """The canonical query of an object."""
        return self.phrase(self.space.decode(object_id).tolist())

    def object_queries(self, objects: np.ndarray) -> list[str]:
        """The canonical queries of objects [n]; many times faster than one by one."""
        return [self.phrase(values) for values in self.space.decode(objects).tolist()]

    def concept_query(self, concept: int, value: int) -> str:
        """The canonical query of value `value` of concept number `concept`."""
        return self.phrase(np.where(np.arange(self.space.num_concepts) == concept, value, ANY).tolist())

    @cached_property
    def concept_queries(self) -> list[str]:
        """The canonical queries of all values of all concepts, in pooled order (see `ConceptSpace.offsets`)."""
        return [self.concept_query(k, v) for k, size in enumerate(self.space.sizes) for v in range(size)]

    def caption(self, phrases: Sequence[str], template: int = 0) -> str:
        """A caption that lists these noun phrases in this order."""
        listed = phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
        return TEMPLATES[template].format(listed)

    def object_forms(self, objects: np.ndarray) -> np.ndarray:
        """int32 [..., K, 1 + C]: the forms that list the objects [..., K] in full; -1 is no object."""
        objects = np.asarray(objects, dtype=np.int64)
        forms = np.concatenate(
            [np.full((*objects.shape, 1), EXISTS), self.space.decode(np.maximum(objects, 0))], axis=-1
        )
        forms[objects < 0] = [NONE] + [ANY] * self.space.num_concepts
        return forms.astype(np.int32)

    def parse(self, text: str) -> np.ndarray:
        """The logical form [K, 1 + C] of a text of this grammar. InputError names what it does not know."""
        said = words(text)
        prefixes = [words(template.format("")) for template in TEMPLATES]
        template = max((t for t, p in enumerate(prefixes) if said[: len(p)] == p), key=lambda t: len(prefixes[t]))
        body = said[len(prefixes[template]) :]
        phrases: list[list[str]] = [[]]
        for word in body:
            if word in (",", "and"):
                phrases.append([])
            else:
                phrases[-1].append(word)
        rows = [self._parse_phrase(phrase, text) for phrase in phrases]
        meant = self.caption([self.phrase(row[1:]) for row in rows], template)
        if words(meant) != said:
            raise InputError(f"caption: {text!r} is no sentence of the grammar; say e.g. {meant!r}")
        return np.array(rows, dtype=np.int32)

    def _parse_phrase(self, phrase: list[str], text: str) -> list[int]:
        row = [EXISTS] + [ANY] * self.space.num_concepts
        for word in phrase:
            if word in self._value_of:
                k, v = self._value_of[word]
                row[1 + k] = v
            elif word not in self._function_words:
                raise InputError(f"caption: unknown word {word!r} in {text!r}; the vocabulary is in dataset.json")
        return row

    def to_logical(self, form: np.ndarray) -> dict[str, Any]:
        """A form as readable JSON: {"and": [{"exists": {"color": "red"}}, ...]}."""
        named = []
        for kind, *values in np.asarray(form).tolist():
            if kind == EXISTS:
                pairs = zip(self.space.names, self.space.values, values)
                named.append({"exists": {name: listed[v] for name, listed, v in pairs if v != ANY}})
        return {"and": named}


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

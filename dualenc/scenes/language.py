"""The language of scenes: a small grammar with a closed vocabulary, into logical forms and back.

Without options it lists objects in full or in part ("a red cube, something blue and a green cone"). A `Language` adds
relations ("a red cube left of a blue ball"), numbers ("two red cubes", which are exactly two), negation ("a red cube
but no blue ball", "a cube that is not red") and synonyms, and with each the words that it needs. Whatever the grammar
says, it reads back as the same form (`dualenc.scenes.forms`), and it reads nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from dualenc.errors import InputError
from dualenc.scenes.concepts import ConceptSpace
from dualenc.scenes.forms import ABSENT, ANY, EXACTLY, EXISTS, NONE, RELATION, is_exactly, negated
from dualenc.scenes.lexicon import NUMBERS, RELATION_SYNONYMS, article, plural, synonyms_of
from dualenc.scenes.relations import RELATIONS, relations_of
from dualenc.scenes.sentences import Sentence
from dualenc.scenes.tokenizer import words

NOUN_CONCEPT = "shape"  # the concept whose values are nouns; a space without it calls every object an "object"
TEMPLATES = ("{}", "there is {}", "a picture of {}", "a scene with {}")

_PREFIXES = [words(template.format("")) for template in TEMPLATES]
_THERE_IS = TEMPLATES.index("there is {}")  # "there are" before several

_Words = Mapping[str, str]  # a value or relation -> another word for it


@dataclass(frozen=True)
class Language:
    """What a grammar can say beyond lists of objects.

    relations: the style whose relations it knows, "flat" or "clevr", or None; counting: numbers and plurals; negation:
    absent objects and values; synonyms: other words for values and relations. Whatever is off has no words in the
    vocabulary.
    """

    relations: str | None = None
    counting: bool = False
    negation: bool = False
    synonyms: bool = False

    def __post_init__(self) -> None:
        if self.relations is not None:
            relations_of(self.relations)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Language":
        """The inverse of `to_dict`; InputError for anything else."""
        kinds = {"relations": str | None, "counting": bool, "negation": bool, "synonyms": bool}
        if set(plain) != {field.name for field in fields(cls)} or not all(
            isinstance(plain[name], kind) for name, kind in kinds.items()
        ):
            raise InputError(f"language: {dict(plain)} is no language; give {', '.join(kinds)}")
        return cls(**plain)


class Grammar:
    """Captions and queries about the objects of one concept space.

    Full captions list objects ("a red cube, a blue ball and a green cone") inside one of TEMPLATES. Queries are
    canonical, one for each object ("a red cube") and one for each value ("something red", "a cube"). What else can be
    said is up to the language. InputError where a value's name, or its plural, is a word of the grammar.
    """

    def __init__(self, space: ConceptSpace, language: Language | None = None) -> None:
        self.space, self.language = space, language or Language()
        self._noun = space.names.index(NOUN_CONCEPT) if NOUN_CONCEPT in space.names else None
        self._adjectives = [k for k in range(space.num_concepts) if k != self._noun]
        self._value_of = {word: (k, v) for k, values in enumerate(space.values) for v, word in enumerate(values)}
        self.relations = relations_of(self.language.relations) if self.language.relations else ()
        for word in self._function_words:
            if word in self._value_of:
                name = space.names[self._value_of[word][0]]
                raise InputError(f"concepts.{name}: {word!r} is a word of the grammar; use another name for this value")
        self._check_plurals()

    @cached_property
    def _function_words(self) -> list[str]:
        templates = [word for prefix in _PREFIXES for word in prefix]
        said = ["a", "an", "and", ",", "something", "object", *templates]
        for relation in self.relations:
            said += words(RELATION_SYNONYMS.get(relation, relation) if self.language.synonyms else relation)
        if self.language.counting:
            said += [*NUMBERS, "objects", "thing", "things", "are"]
        if self.language.negation:
            said += ["but", "no", "nothing", "that", "is", "not"]
        return list(dict.fromkeys(said))

    @cached_property
    def _plurals(self) -> dict[str, str]:
        """Noun -> plural, of the space's own nouns; empty in a language without numbers."""
        if self._noun is None or not self.language.counting:
            return {}
        return {noun: plural(noun) for noun in self.space.values[self._noun]}

    @cached_property
    def _value_or_plural(self) -> dict[str, tuple[int, int]]:
        """Every word for a value that is no synonym -> concept and value."""
        return {**{word: self._value_of[noun] for noun, word in self._plurals.items()}, **self._value_of}

    def _check_plurals(self) -> None:
        for noun, word in self._plurals.items():
            others = [other for other in self._plurals if other != noun]
            taken = {*self._function_words, *self._value_of, *(self._plurals[other] for other in others)} - {noun}
            if word in taken:
                raise InputError(
                    f"concepts.{NOUN_CONCEPT}: {word!r}, the plural of {noun!r}, means something else too; use another "
                    "name for this value"
                )

    @cached_property
    def synonyms(self) -> dict[str, tuple[str, ...]]:
        """Value or relation -> other words for it, such that every word means one thing."""
        if not self.language.synonyms:
            return {}
        reserved = {*self._function_words, *self._value_of, *self._plurals.values()}
        found = synonyms_of(self._value_of, reserved)
        for relation in self.relations:
            if relation in RELATION_SYNONYMS:
                found[relation] = (RELATION_SYNONYMS[relation],)
        return found

    @cached_property
    def _meaning(self) -> dict[str, str]:
        """Every other word for a value, and its plural -> the word that `text` uses by itself."""
        found: dict[str, str] = {}
        for value, others in self.synonyms.items():
            if value in self._value_of:
                found |= dict.fromkeys(others, value)
                if value in self._plurals:
                    found |= {plural(other): self._plurals[value] for other in others}
        return found

    @cached_property
    def vocabulary(self) -> list[str]:
        """Every word the grammar can say, function words first."""
        return list(dict.fromkeys([*self._function_words, *self._value_of, *self._plurals.values(), *self._meaning]))

    def max_words(self, num_rows: int) -> int:
        """No text that says this many rows has more words; templates and separators included."""
        per_row = self.space.num_concepts + 2  # an article or number, "object" and the values
        if self.language.negation:
            per_row += 2 + 2 * self.space.num_concepts + 1  # "that is", then "and not" each, and "a" before a noun
        separator = 4 if self.relations else 1
        return max(map(len, _PREFIXES)) + num_rows * (per_row + separator)

    def phrase(self, values: Sequence[int]) -> str:
        """The noun phrase of a (partial) object, values [C] with ANY where left open: "a red cube", "something red"."""
        return self._phrase(EXISTS, values, {})

    def _phrase(self, kind: int, values: Sequence[int], said: _Words) -> str:
        """The noun phrase of a row, in other words where `said` has them."""
        space = self.space
        adjectives = [space.values[k][values[k]] for k in self._adjectives if values[k] >= 0]
        several = _is_several(kind)
        if said:
            adjectives = [said.get(word, word) for word in adjectives]
        if self._noun is not None and values[self._noun] >= 0:
            noun = self._noun_word(values[self._noun], said, several)
        elif len(adjectives) == space.num_concepts:
            noun = "objects" if several else "object"
        elif is_exactly(kind):
            noun = "things" if several else "thing"
        else:
            noun = ""
        described = [*adjectives, noun] if noun else adjectives
        if is_exactly(kind):
            head = [NUMBERS[kind - EXACTLY - 1]]
        elif kind == ABSENT:
            head = ["no" if noun else "nothing"]
        else:
            head = [article(described[0]) if noun else "something"]
        return " ".join([*head, *described, *self._denied(values, said, several)])

    def _noun_word(self, value: int, said: _Words, several: bool) -> str:
        assert self._noun is not None
        noun = self.space.values[self._noun][value]
        if several:
            return plural(said[noun]) if noun in said else self._plurals[noun]
        return said.get(noun, noun)

    def _denied(self, values: Sequence[int], said: _Words, several: bool) -> list[str]:
        """The words after the noun: "that is not red and not a cube"."""
        if min(values) >= ANY:
            return []
        denied = [self.space.values[k][negated(values[k])] for k in self._adjectives if values[k] < ANY]
        denied = [said.get(word, word) for word in denied]
        if self._noun is not None and values[self._noun] < ANY:
            noun = self._noun_word(negated(values[self._noun]), said, several)
            denied.append(noun if several else f"{article(noun)} {noun}")
        return ["that", "are" if several else "is", "not", " and not ".join(denied)]

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
        return TEMPLATES[template].format(_listed(phrases))

    def say(self, form: np.ndarray, template: int = 0) -> str:
        """The text of a form [K, 1 + C]; see `text`."""
        rows = tuple(tuple(row) for row in np.asarray(form).tolist() if row[0] != NONE)
        return self.text(Sentence(rows, template))

    def text(self, sentence: Sentence) -> str:
        """A sentence as text. InputError for what the language has no words for."""
        self._check_sayable(sentence)
        said = dict(sentence.synonyms)
        present: list[str] = []
        absent: list[str] = []
        for group in sentence.groups:
            parts = []
            for number in group:
                kind, *values = sentence.rows[number]
                if kind >= RELATION:
                    relation = RELATIONS[kind - RELATION]
                    parts.append(said.get(relation, relation))
                parts.append(self._phrase(kind, values, said))
            (absent if kind == ABSENT else present).append(" ".join(parts))
        if present and absent and sentence.connective == "but":
            listed = f"{_listed(present)} but {_listed(absent)}"
        else:
            listed = _listed([*present, *absent])
        text = TEMPLATES[sentence.template].format(listed)
        if sentence.template == _THERE_IS and _is_several(sentence.rows[0][0]):
            return text.replace("is", "are", 1)
        return text

    def row_spans(self, sentence: Sentence) -> list[tuple[int, int]]:
        """The words [start, end) of the text that name the object of each row, without the relation before it."""
        said, spans = dict(sentence.synonyms), []
        position = len(_PREFIXES[sentence.template])
        for number, (kind, *values) in enumerate(sentence.rows):
            if kind >= RELATION:
                relation = RELATIONS[kind - RELATION]
                position += len(words(said.get(relation, relation)))
            elif number:
                position += 1  # "," "and" "but"
            start, position = position, position + len(words(self._phrase(kind, values, said)))
            spans.append((start, position))
        return spans

    def _check_sayable(self, sentence: Sentence) -> None:
        """InputError where the language lacks the words, or the rows stand in no order of mention."""
        before, language = NONE, self.language
        if not sentence.rows:
            raise InputError("captions: a caption that says nothing has no words; name at least one object")
        for kind, *values in sentence.rows:
            if kind >= RELATION and RELATIONS[kind - RELATION] not in self.relations:
                raise InputError(
                    f"captions: this language has no words for {RELATIONS[kind - RELATION]!r}; turn on the relations "
                    "of the style"
                )
            if is_exactly(kind) and not language.counting:
                raise InputError("captions: this language has no words for numbers; turn on counting")
            if (kind == ABSENT or min(values) < ANY) and not language.negation:
                raise InputError("captions: this language has no words for what is not; turn on negation")
            if kind >= RELATION and before != EXISTS and before < RELATION:
                raise InputError("captions: a relation needs an object before it; name one")
            if before == ABSENT != kind:
                raise InputError("captions: what is absent is named last; change the order of the rows")
            before = kind

    def object_forms(self, objects: np.ndarray) -> np.ndarray:
        """int32 [..., K, 1 + C]: the forms that list the objects [..., K] in full; -1 is no object."""
        objects = np.asarray(objects, dtype=np.int64)
        forms = np.concatenate(
            [np.full((*objects.shape, 1), EXISTS), self.space.decode(np.maximum(objects, 0))], axis=-1
        )
        forms[objects < 0] = [NONE] + [ANY] * self.space.num_concepts
        return forms.astype(np.int32)

    def parse(self, text: str) -> np.ndarray:
        """The logical form int32 [K, 1 + C] of a text of this grammar. InputError names what it does not know.

        The words are read loosely, and what they seem to mean is said again: only what is said back is a sentence."""
        said = words(text)
        plain = self._in_own_words(said)
        if self.language.counting and plain[:2] == ["there", "are"]:
            plain[1] = "is"  # whether it must be "are" shows when it is said again
        template = max((t for t, p in enumerate(_PREFIXES) if plain[: len(p)] == p), key=lambda t: len(_PREFIXES[t]))
        kinds, phrases = self._phrases(plain[len(_PREFIXES[template]) :])
        rows = tuple(self._row(kind, phrase, text) for kind, phrase in zip(kinds, phrases))
        try:
            meant = self.text(Sentence(rows, template, connective="but" if "but" in said else "and"))
        except InputError:
            meant = ""
        if words(meant) != said and not self._same_but_for_synonyms(words(meant), said):
            example = meant or self.object_query(0)
            raise InputError(f"caption: {text!r} is no sentence of the grammar; say e.g. {example!r}")
        return np.array(rows, dtype=np.int32)

    def _same_but_for_synonyms(self, meant: list[str], said: list[str]) -> bool:
        articles = pairwise(said)
        right = all(article(following) == word for word, following in articles if word in ("a", "an"))
        return right and self._in_own_words(meant) == self._in_own_words(said)

    def _in_own_words(self, said: list[str]) -> list[str]:
        """Without synonyms, and "a" for either article."""
        plain = ["a" if word == "an" else self._meaning.get(word, word) for word in said]
        for relation, others in self.synonyms.items():
            if relation in self.relations:
                for other in others:
                    _replace(plain, words(other), words(relation))
        return plain

    def _phrases(self, body: list[str]) -> tuple[list[int], list[list[str]]]:
        """What separators and relations part, and what kind of row each part is by them."""
        kinds, position = [EXISTS], 0
        phrases: list[list[str]] = [[]]
        while position < len(body):
            relation = self._relation_at(body, position) if self.relations else None
            if relation is not None:
                kinds.append(RELATION + RELATIONS.index(relation))
                phrases.append([])
                position += len(words(relation))
                continue
            word, following = body[position], body[position + 1 : position + 2]
            if word in (",", "but") or (word == "and" and following != ["not"]):
                kinds.append(EXISTS)
                phrases.append([])
            else:
                phrases[-1].append(word)
            position += 1
        return kinds, phrases

    def _relation_at(self, body: list[str], position: int) -> str | None:
        for relation in self.relations:
            parts = words(relation)
            if body[position : position + len(parts)] == parts:
                return relation
        return None

    def _row(self, kind: int, phrase: list[str], text: str) -> tuple[int, ...]:
        row = [kind] + [ANY] * self.space.num_concepts
        deny = False
        for word in phrase:
            if word in self._value_or_plural:
                k, v = self._value_or_plural[word]
                row[1 + k] = negated(v) if deny else v
            elif word not in self._function_words:
                raise InputError(f"caption: unknown word {word!r} in {text!r}; the vocabulary is in dataset.json")
            elif word in ("no", "nothing"):
                row[0] = ABSENT
            elif word in NUMBERS:
                row[0] = EXACTLY + NUMBERS.index(word) + 1
            deny = deny or word == "not"
        return tuple(row)

    def to_logical(self, form: np.ndarray) -> dict[str, Any]:
        """A form as readable JSON: {"and": [{"exists": {"color": "red"}}, ...]}.

        "absent" stands for ABSENT, "exactly 2" for a number; {"left of": {...}} is an object of which the one before
        is left; {"color": {"not": "red"}} is any other value.
        """
        named = []
        for kind, *values in np.asarray(form).tolist():
            if kind != NONE:
                named.append({_kind_name(kind): self._concepts(values)})
        return {"and": named}

    def _concepts(self, values: Sequence[int]) -> dict[str, Any]:
        listed = zip(self.space.names, self.space.values, values)
        return {name: names[v] if v >= 0 else {"not": names[negated(v)]} for name, names, v in listed if v != ANY}


def _is_several(kind: int) -> bool:
    return is_exactly(kind) and kind > EXACTLY + 1


def _kind_name(kind: int) -> str:
    if kind >= RELATION:
        return RELATIONS[kind - RELATION]
    if is_exactly(kind):
        return f"exactly {kind - EXACTLY}"
    return {EXISTS: "exists", ABSENT: "absent"}[kind]


def _listed(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _replace(said: list[str], old: list[str], new: list[str]) -> None:
    """Puts `new` wherever `old` stands in `said`; in place."""
    for position in reversed(range(len(said) - len(old) + 1)):
        if said[position : position + len(old)] == old:
            said[position : position + len(old)] = new

"""Captions, opposites and hard negatives of scenes: text, logical form, and what an edit changed.

Captions that list all objects, and their edits by one operation, are the bulk of most datasets; they are put together
from cached noun phrases. Everything else is said by the grammar, sentence by sentence.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from data_gen.checks import CAPTION_OF_OPPOSITE
from data_gen.config import DataConfig, language_of
from data_gen.tally import Tally
from dualenc.scenes import (
    CAPTION_OPERATORS,
    EXISTS,
    OPERATORS,
    TEMPLATES,
    Edits,
    Grammar,
    Language,
    ObjectSplit,
    Scenes,
    Sentence,
    Stated,
    changed_spans,
    draw_caption_edits,
    draw_captions,
    draw_edits,
    draw_opposites,
    draw_paraphrases,
    edit_record,
    uniform,
    words,
)

_CACHED_OBJECTS = 1 << 16


@dataclass(frozen=True)
class Said:
    """What is said of n scenes: for each its captions, kind and sentence, KEY.txt's first."""

    captions: list[list[tuple[str, Sentence]]]

    def of_kind(self, kind: str) -> list[Sentence | None]:
        """KEY.txt's sentences where they are of this kind, else None."""
        return [sentence if name == kind else None for (name, sentence), *_ in self.captions]


@dataclass(frozen=True)
class Opposites:
    """The opposites of n scenes: kind and caption, None where there is none; scenes are then the scene itself."""

    kinds: list[str | None]
    sentences: list[Sentence | None]
    scenes: Scenes

    @property
    def exists(self) -> np.ndarray:
        """bool [n]."""
        return np.array([kind is not None for kind in self.kinds], dtype=bool)


@dataclass(frozen=True)
class Worded:
    """The words of one scene: KEY.txt, its description, further captions, positives and edits."""

    text: str
    caption: dict[str, Any]
    captions: list[dict[str, Any]]
    positives: list[dict[str, Any]]
    negatives: list[dict[str, Any]]


@dataclass(frozen=True)
class _Named:
    """One object in words."""

    phrase: str
    words: list[str]
    form: list[int]
    logical: dict[str, Any]


class Wording:
    """Writes the captions, opposites and edits of the scenes of one split of objects."""

    def __init__(self, data: DataConfig, split: ObjectSplit) -> None:
        self.data, self.seed, self.split, self.config = data, data.seed, split, data.captions
        self.grammar = Grammar(split.space, language_of(data))
        self.only_lists = set(data.captions.kinds) == {"list"}
        self._most_rows = max(*data.objects, 3 if self.grammar.language != Language() else 1) + 1  # what readers hold
        self._templates = [TEMPLATES.index(template) for template in data.captions.templates]
        self._named = lru_cache(maxsize=_CACHED_OBJECTS)(self._name)

    # What is said.

    def say(self, scenes: Scenes, split: str, start: int, stated: Stated | None = None) -> Said:
        """The captions of scenes number start.. of `split`; stated: the relations that the layout has arranged."""
        n, num = len(scenes), self.config.num
        kinds = list(self.config.kinds)
        drawn = {
            kind: draw_captions(
                kind,
                scenes,
                self.grammar,
                self.split,
                seed=self.seed,
                name=split,
                start=start,
                num=num,
                templates=tuple(self._templates),
                random_order=self.config.random_order,
                stated=stated,
                relations=self.data.relations,
                negations=tuple(self.config.negation),
            ).sentences
            for kind in dict.fromkeys(["list", *kinds])
        }
        shares = np.cumsum([self.config.kinds[kind] for kind in kinds])
        draws = uniform(self.seed, split, "caption/kind", start, start + n, num) * shares[-1]
        picked = np.minimum(np.searchsorted(shares, draws, side="right"), len(kinds) - 1).tolist()
        return Said([self._pick(drawn, kinds, picked[i], i) for i in range(n)])

    def _pick(
        self, drawn: dict[str, list[list[Sentence | None]]], kinds: list[str], picked: list[int], i: int
    ) -> list[tuple[str, Sentence]]:
        """Of scene i, its captions of the kinds picked; a list where it has none of a kind. A list always exists once;
        what would be said twice is left out."""
        found: dict[Sentence, str] = {}
        for j, number in enumerate(picked):
            for kind in (kinds[number], "list"):
                sentence = drawn[kind][i][j]
                if sentence is not None:
                    found.setdefault(sentence, kind)
                    break
        return [(kind, sentence) for sentence, kind in found.items()]

    def oppose(self, scenes: Scenes, said: Said, split: str, start: int) -> Opposites:
        """The opposites of scenes number start.. of `split`."""
        n = len(scenes)
        draws = uniform(self.seed, split, "opposite/share", start, start + n, 1)[:, 0]
        kinds: list[str | None] = [None] * n
        sentences: list[Sentence | None] = [None] * n
        objects, positions = scenes.objects.copy(), scenes.positions.copy()
        for kind, share in self.data.opposites.items():
            wanted = [
                sentence if draw < share else None
                for sentence, draw in zip(said.of_kind(CAPTION_OF_OPPOSITE[kind]), draws.tolist())
            ]
            drawn = draw_opposites(kind, scenes, wanted, self.split, seed=self.seed, name=split, start=start)
            for i in np.flatnonzero(drawn.exists).tolist():
                kinds[i], sentences[i] = kind, drawn.sentences[i]
                objects[i], positions[i] = drawn.scenes.objects[i], drawn.scenes.positions[i]
        return Opposites(kinds, sentences, replace(scenes, objects=objects, positions=positions))

    # How it is written.

    def write(self, scenes: Scenes, said: Said, split: str, start: int, tally: Tally) -> Iterator[Worded]:
        """The words of scenes number start.. of `split`; kinds, edits and positives are counted."""
        plain = [captions[0][0] == "list" for captions in said.captions]
        listed = self._list_edits(scenes, split, start)
        drawn = self._caption_edits(scenes, said, split, start)
        positives = self._positives(said, split, start)
        for i, ((kind, sentence), *further) in enumerate(said.captions):
            text, description = self.describe(kind, sentence)
            negatives = [*(listed(i, sentence, text) if plain[i] else ()), *drawn[i]]
            tally.captions[kind] += 1
            tally.positives += len(positives[i])
            tally.count_edits(map(edit_name, negatives))
            captions = []
            for other in further:
                other_text, other_description = self.describe(*other)
                captions.append({"text": other_text, **other_description})
            yield Worded(text, description, captions, positives[i], negatives)

    def describe(self, kind: str, sentence: Sentence) -> tuple[str, dict[str, Any]]:
        """A caption's text, and what KEY.json says of it."""
        if kind == "list" and not sentence.synonyms:
            named = [self._named(row[1:]) for row in sentence.rows]
            text = self.grammar.caption([entry.phrase for entry in named], sentence.template)
            form, logical = [entry.form for entry in named], {"and": [entry.logical for entry in named]}
        else:
            text, form = self.grammar.text(sentence), sentence.form
            logical = self.grammar.to_logical(np.array(form))
        description = {"form": form, "logical": logical, "template": TEMPLATES[sentence.template]}
        return text, description if self.only_lists else {"kind": kind, **description}

    def _name(self, values: tuple[int, ...]) -> _Named:
        space, listed = self.split.space, list(values)
        phrase = self.grammar.phrase(listed)
        concepts = {name: names[v] for name, names, v in zip(space.names, space.values, listed)}
        return _Named(phrase, words(phrase), [EXISTS, *listed], {"exists": concepts})

    def _positives(self, said: Said, split: str, start: int) -> list[list[dict[str, Any]]]:
        if not self.config.positives:
            return [[] for _ in said.captions]
        drawn = draw_paraphrases(
            self.grammar,
            [captions[0][1] for captions in said.captions],
            seed=self.seed,
            name=split,
            start=start,
            num=self.config.positives,
            operators=self.config.paraphrases,
        )
        return [
            [{"text": self.grammar.text(p.sentence), "operator": p.operator, "form": p.sentence.form} for p in row]
            for row in drawn
        ]

    # Edits of captions that list all objects, by one operation.

    def _list_edits(
        self, scenes: Scenes, split: str, start: int
    ) -> Callable[[int, Sentence, str], Iterator[dict[str, Any]]]:
        """A function that gives the edits of scene i, whose caption is this sentence with this text."""
        edits = [
            _Plain.of(
                draw_edits(operator, scenes, self.split, seed=self.seed, name=split, start=start, num=num),
                scenes,
            )
            for operator in OPERATORS
            if (num := getattr(self.data.edits, operator))
        ]
        places = self._added_places(scenes, split, start)

        def edits_of(i: int, sentence: Sentence, text: str) -> Iterator[dict[str, Any]]:
            for made in edits:
                for j, exists in enumerate(made.exists[i]):
                    if exists:
                        yield self._list_edit(made, i, j, sentence, places[i], text)

        return edits_of

    def _added_places(self, scenes: Scenes, split: str, start: int) -> list[list[int]]:
        """For each scene and ADD edit, the place among the objects mentioned that the new one takes."""
        num = self.data.edits.add
        draws = uniform(self.seed, split, "edit/add/place", start, start + len(scenes), max(num, 1))
        return (draws * (scenes.counts[:, None] + 1)).astype(int).tolist()

    def _list_edit(
        self, made: "_Plain", i: int, j: int, sentence: Sentence, places: list[int], text: str
    ) -> dict[str, Any]:
        values = made.values[i][j]
        mentioned = [tuple(values[slot]) for slot in sentence.witnesses]
        place = None
        if made.operator == "add":
            place = places[j]
            mentioned.insert(place, tuple(values[len(sentence.witnesses)]))
        named = [self._named(entry) for entry in mentioned]
        edited = self.grammar.caption([entry.phrase for entry in named], sentence.template)
        concept = made.concept[i][j]
        spans = changed_spans(text, edited) if place is None else None
        return {
            "text": edited,
            "operator": made.operator,
            "concept": None if concept < 0 else self.split.space.names[concept],
            "objects": [object_id for object_id in made.made[i][j] if object_id >= 0],
            "form": [entry.form for entry in named],
            "spans": spans or [_phrase_span(named, place or 0, sentence.template)],
            "depth": 1,
        }

    # Edits of other captions, and deeper ones.

    def _caption_edits(self, scenes: Scenes, said: Said, split: str, start: int) -> list[list[dict[str, Any]]]:
        edits, asked = self.data.edits, [name for name in CAPTION_OPERATORS if getattr(self.data.edits, name)]
        first = [captions[0] for captions in said.captions]
        found: list[list[dict[str, Any]]] = [[] for _ in first]
        everyone: list[Sentence | None] = [sentence for _, sentence in first]
        others = [None if kind == "list" else sentence for kind, sentence in first]
        jobs: list[tuple[tuple[str, ...], int, int, list[Sentence | None]]] = []
        if any(others):
            jobs += [((name,), 1, getattr(edits, name), others) for name in asked]
        if edits.depth2:
            jobs.append((tuple(asked), 2, edits.depth2, everyone))
        shown = [set(row) for row in scenes.objects.tolist()]
        for operators, depth, num, sentences in jobs:
            drawn = draw_caption_edits(
                self.grammar,
                sentences,
                scenes,
                self.split,
                operators=operators,
                depth=depth,
                seed=self.seed,
                name=split,
                start=start,
                num=num,
            )
            for i, row in enumerate(drawn):
                kept = (edit for edit in row if len(edit.sentence.rows) <= self._most_rows)
                found[i] += [edit_record(self.grammar, edit, shown[i]) for edit in kept]
        return found


def edit_name(edit: Mapping[str, Any]) -> str:
    """Under which name of the config an edit is counted."""
    return edit["operator"] if edit["depth"] == 1 else f"depth{edit['depth']}"


@dataclass(frozen=True)
class _Plain:
    """`Edits` as lists, which are faster to read one by one; values: those of the objects [n, num, m + 1, C]."""

    operator: str
    exists: list[list[bool]]
    values: list[list[list[list[int]]]]
    made: list[list[list[int]]]
    concept: list[list[int]]

    @classmethod
    def of(cls, edits: Edits, scenes: Scenes) -> "_Plain":
        values = scenes.space.decode(np.maximum(edits.objects, 0))
        lists = (edits.exists.tolist(), values.tolist(), edits.made.tolist(), edits.concept.tolist())
        return cls(edits.operator, *lists)


def _phrase_span(named: list[_Named], place: int, template: int) -> list[int]:
    """The word span of the phrase at `place` in a caption; one word ("," or "and") stands between two phrases."""
    start = len(words(TEMPLATES[template].format(""))) + sum(len(entry.words) + 1 for entry in named[:place])
    return [start, start + len(named[place].words)]

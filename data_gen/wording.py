"""Captions and hard negatives of scenes: text, logical form, and where an edit's words differ from the caption's."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from data_gen.config import DataConfig
from dualenc.scenes import EXISTS, OPERATORS, TEMPLATES, Edits, Grammar, ObjectSplit, Scenes, draw_edits, uniform, words

_CACHED_OBJECTS = 1 << 16


@dataclass(frozen=True)
class Worded:
    """The caption of one scene, its description for KEY.json, and its edits for KEY.neg.txt."""

    text: str
    caption: dict[str, Any]
    negatives: list[dict[str, Any]]


@dataclass(frozen=True)
class _Named:
    """One object in words."""

    phrase: str
    words: list[str]
    form: list[int]
    logical: dict[str, Any]


class Wording:
    """Writes the captions and edits of the scenes of one split of objects."""

    def __init__(self, data: DataConfig, split: ObjectSplit) -> None:
        self.seed, self.split, self.captions = data.seed, split, data.captions
        self.grammar = Grammar(split.space)
        self._templates = [TEMPLATES.index(template) for template in data.captions.templates]
        self._num_edits = {operator: getattr(data.edits, operator) for operator in OPERATORS}
        self._named = lru_cache(maxsize=_CACHED_OBJECTS)(self._name)

    def write(
        self, scenes: Scenes, split: str, start: int, num_edits: Counter[str], num_edited: Counter[str]
    ) -> Iterator[Worded]:
        """The words of scenes number start.. of `split`; edits, and scenes that have one, are counted by operator."""
        n, m = scenes.objects.shape
        draws = uniform(self.seed, split, "caption", start, start + n, 1 + m)
        templates = np.array(self._templates)[(draws[:, 0] * len(self._templates)).astype(int)].tolist()
        keys = draws[:, 1:] if self.captions.random_order else np.broadcast_to(np.arange(m) / m, (n, m))
        orders = np.argsort(np.where(scenes.objects >= 0, keys, 2.0), axis=1, kind="stable").tolist()
        edits = [
            draw_edits(operator, scenes, self.split, seed=self.seed, name=split, start=start, num=num)
            for operator, num in self._num_edits.items()
            if num
        ]
        for drawn in edits:
            num_edits[drawn.operator] += int(drawn.exists.sum())
            num_edited[drawn.operator] += int(drawn.exists.any(axis=1).sum())
        places = self._added_places(scenes, split, start)
        counts, objects = scenes.counts.tolist(), scenes.objects.tolist()
        plain_edits = [_Plain.of(drawn) for drawn in edits]
        for i in range(n):
            order = orders[i][: counts[i]]
            caption, text = self._caption([objects[i][k] for k in order], templates[i])
            negatives = []
            for made in plain_edits:
                for j, exists in enumerate(made.exists[i]):
                    if exists:
                        negatives.append(self._edit(made, i, j, order, places[i], templates[i], text))
            yield Worded(text, caption, negatives)

    def _added_places(self, scenes: Scenes, split: str, start: int) -> list[list[int]]:
        """For each scene and ADD edit, the place among the objects mentioned that the new one takes."""
        num = self._num_edits["add"]
        draws = uniform(self.seed, split, "edit/add/place", start, start + len(scenes), max(num, 1))
        return (draws * (scenes.counts[:, None] + 1)).astype(int).tolist()

    def _name(self, object_id: int) -> _Named:
        space = self.split.space
        values = space.decode(object_id).tolist()
        phrase = self.grammar.phrase(values)
        concepts = {name: listed[v] for name, listed, v in zip(space.names, space.values, values)}
        return _Named(phrase, words(phrase), [EXISTS, *values], {"exists": concepts})

    def _caption(self, mentioned: list[int], template: int) -> tuple[dict[str, Any], str]:
        named = [self._named(object_id) for object_id in mentioned]
        text = self.grammar.caption([entry.phrase for entry in named], template)
        description = {
            "form": [entry.form for entry in named],
            "logical": {"and": [entry.logical for entry in named]},
            "template": TEMPLATES[template],
        }
        return description, text

    def _edit(
        self, made: "_Plain", i: int, j: int, order: list[int], places: list[int], template: int, text: str
    ) -> dict[str, Any]:
        objects = made.objects[i][j]
        mentioned = [objects[k] for k in order]
        place = None
        if made.operator == "add":
            place = places[j]
            mentioned.insert(place, objects[len(order)])
        named = [self._named(object_id) for object_id in mentioned]
        edited = self.grammar.caption([entry.phrase for entry in named], template)
        concept = made.concept[i][j]
        return {
            "text": edited,
            "operator": made.operator,
            "concept": None if concept < 0 else self.split.space.names[concept],
            "objects": [object_id for object_id in made.made[i][j] if object_id >= 0],
            "form": [entry.form for entry in named],
            "spans": _changed(words(text), words(edited)) if place is None else [_phrase_span(named, place, template)],
            "depth": 1,
        }


@dataclass(frozen=True)
class _Plain:
    """`Edits` as lists, which are faster to read one by one."""

    operator: str
    exists: list[list[bool]]
    objects: list[list[list[int]]]
    made: list[list[list[int]]]
    concept: list[list[int]]

    @classmethod
    def of(cls, edits: Edits) -> "_Plain":
        lists = (edits.exists.tolist(), edits.objects.tolist(), edits.made.tolist(), edits.concept.tolist())
        return cls(edits.operator, *lists)


def _changed(before: list[str], after: list[str]) -> list[list[int]]:
    """Word spans [start, end) of `after` that differ from `before`; the two are equally long."""
    spans: list[list[int]] = []
    for position, (old, new) in enumerate(zip(before, after)):
        if old != new and spans and spans[-1][1] == position:
            spans[-1][1] += 1
        elif old != new:
            spans.append([position, position + 1])
    return spans


def _phrase_span(named: list[_Named], place: int, template: int) -> list[int]:
    """The word span of the phrase at `place` in a caption; one word ("," or "and") stands between two phrases."""
    start = len(words(TEMPLATES[template].format(""))) + sum(len(entry.words) + 1 for entry in named[:place])
    return [start, start + len(named[place].words)]

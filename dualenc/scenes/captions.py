"""Captions of scenes, by kind; each is true of its scene by construction, and by check.

    list        every object in full: "a red cube and a blue ball"
    partial     some objects, or some of their values: "a cube and something red"
    relation    two objects in full, and a definite relation of their places: "a red cube left of a blue ball"
    count       all objects of a description and their number, sometimes another object: "two cubes and a red ball"
    negation    `absent`: an object that is there and one that is not: "a red cube but no blue ball";
                `not`: a value that an object does not have: "a cube that is not red"

Caption j of scene i is a pure function of (seed, split, kind, i, j). In `train` an absent object is a train object
(law 4). A caption is drawn as a `Sentence`: its rows in order of mention, and its template. Text comes last, from
`Grammar.text`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np

from dualenc.errors import InputError
from dualenc.scenes.arrays import Scenes
from dualenc.scenes.choices import absent_objects, pick
from dualenc.scenes.forms import ABSENT, ANY, EXACTLY, EXISTS, RELATION, Row, negated, stack_forms
from dualenc.scenes.language import NOUN_CONCEPT, Grammar
from dualenc.scenes.layouts import Stated
from dualenc.scenes.random import integers, uniform
from dualenc.scenes.relations import POSITION_ERROR, holding, relation_numbers
from dualenc.scenes.sentences import Sentence
from dualenc.scenes.split import ObjectSplit
from dualenc.scenes.truth import truth_of_own

CAPTION_KINDS = ("list", "partial", "relation", "count", "negation")
NEGATIONS = ("absent", "not")

_MOST_PARTIAL = 3  # objects that a partial caption speaks of
_ALL_DESCRIPTIONS = 6  # concepts up to which every choice of them describes objects in a count

_Drawn = tuple[list[Row], list[int]]  # rows and the slots of their witnesses


@dataclass(frozen=True, eq=False)
class Captions:
    """`num` captions of one kind for each of n scenes; None where the scene has no such caption."""

    kind: str
    num: int
    num_concepts: int
    sentences: list[list[Sentence | None]]

    @cached_property
    def exists(self) -> np.ndarray:
        """bool [n, num]."""
        flat = [sentence is not None for row in self.sentences for sentence in row]
        return np.array(flat, dtype=bool).reshape(len(self.sentences), self.num)

    @cached_property
    def forms(self) -> np.ndarray:
        """int32 [n, num, K, 1 + C]; no rows where there is no caption."""
        flat = [sentence.rows if sentence else None for row in self.sentences for sentence in row]
        stacked = stack_forms(flat, self.num_concepts)
        return stacked.reshape(len(self.sentences), self.num, *stacked.shape[1:])


def draw_captions(
    kind: str,
    scenes: Scenes,
    grammar: Grammar,
    split: ObjectSplit,
    *,
    seed: int,
    name: str,
    start: int,
    num: int = 1,
    templates: Sequence[int] = (0,),
    random_order: bool = True,
    stated: Stated | None = None,
    relations: Sequence[str] | None = None,
    negations: Sequence[str] = NEGATIONS,
) -> Captions:
    """`num` captions of a kind for scenes number start.. of split `name`.

    templates: those to draw from; random_order: whether a list mentions the objects in random order, or in the scene's;
    stated: the relations of a relational layout, which relation captions say first; relations: those that others draw
    from, by default all of the style; negations: the forms of negation captions to draw from. InputError for an unknown
    kind, and where the grammar's language lacks the words.
    """
    if kind not in CAPTION_KINDS:
        raise InputError(f"captions: {kind!r} is unknown; use {', '.join(CAPTION_KINDS)}")
    if not negations or not set(negations) <= set(NEGATIONS):
        raise InputError(f"captions: {list(negations)} are no forms of negation; use {', '.join(NEGATIONS)}")
    named = None if relations is None else tuple(relations)
    drawer = _Drawer(scenes, grammar, split, name, random_order, named, tuple(negations))
    columns = []
    for j in range(num):
        purpose = f"caption/{kind}/{j}" if j or kind != "list" else "caption"
        draws = uniform(seed, name, purpose, start, start + len(scenes), _width(kind, scenes))
        template = np.asarray(templates)[integers(draws[:, 0], len(templates))].tolist()
        rest = draws[:, 1:]
        drawn = drawer.draw(kind, rest, None if j else stated)
        columns.append(
            [
                Sentence(tuple(rows[0]), number, witnesses=tuple(rows[1])) if rows else None
                for rows, number in zip(drawn, template)
            ]
        )
    captions = Captions(kind, num, grammar.space.num_concepts, [list(row) for row in zip(*columns)])
    _check(captions, scenes, grammar)
    return captions


def _width(kind: str, scenes: Scenes) -> int:
    """How many uniform numbers one caption takes."""
    m, num_concepts = scenes.objects.shape[1], scenes.space.num_concepts
    return (
        1
        + {
            "list": m,
            "partial": 1 + m + _MOST_PARTIAL * (num_concepts + 1),
            "relation": 1,
            "count": 5,
            "negation": 5 + num_concepts,
        }[kind]
    )


def _check(captions: Captions, scenes: Scenes, grammar: Grammar) -> None:
    """Every caption can be said (InputError) and is true of its scene (AssertionError)."""
    for row in captions.sentences[:1]:
        for sentence in row:
            if sentence:
                grammar.text(sentence)
    strict = wary(scenes)
    for j in range(captions.num):
        rows = np.flatnonzero(captions.exists[:, j])
        if not truth_of_own(captions.forms[rows, j], strict[rows]).all():
            raise AssertionError(f"a {captions.kind} caption is not true of its scene")


def wary(scenes: Scenes) -> Scenes:
    """The scenes with a margin so wide that what is decided stays so when places are rounded to five digits."""
    return replace(scenes, relation_margin=scenes.relation_margin + POSITION_ERROR)


@dataclass(frozen=True)
class _Drawer:
    """Draws the rows of captions of some scenes from uniform numbers [n, w]."""

    scenes: Scenes
    grammar: Grammar
    split: ObjectSplit
    name: str
    random_order: bool
    relations: tuple[str, ...] | None
    negations: tuple[str, ...]

    @cached_property
    def _rows(self) -> list[list[Row]]:
        """For each scene the rows that name its objects in full."""
        counts = self.scenes.counts.tolist()
        return [
            [(EXISTS, *values) for values in listed[:count]]
            for listed, count in zip(self.scenes.values.tolist(), counts)
        ]

    def draw(self, kind: str, draws: np.ndarray, stated: Stated | None) -> list[_Drawn | None]:
        """For each scene the rows of a caption of a kind and the slots of their witnesses."""
        if kind == "relation":
            return self._relation(draws, stated)
        drawers = {
            "list": self._list,
            "partial": self._partial,
            "count": self._count,
            "negation": self._negation,
        }
        return drawers[kind](draws)

    def _list(self, draws: np.ndarray) -> list[_Drawn | None]:
        n, m = self.scenes.objects.shape
        keys = draws if self.random_order else np.broadcast_to(np.arange(m) / m, (n, m))
        orders = np.argsort(np.where(self.scenes.objects >= 0, keys, 2.0), axis=1, kind="stable").tolist()
        found: list[_Drawn | None] = []
        for rows, order in zip(self._rows, orders):
            slots = order[: len(rows)]
            found.append(([rows[slot] for slot in slots], slots) if rows else None)
        return found

    def _partial(self, draws: np.ndarray) -> list[_Drawn | None]:
        m, num_concepts = self.scenes.objects.shape[1], self.scenes.space.num_concepts
        counts = self.scenes.counts
        number = (1 + integers(draws[:, 0], np.minimum(counts, _MOST_PARTIAL))).tolist()
        keys = np.where(self.scenes.objects >= 0, draws[:, 1 : m + 1], 2.0)
        orders = np.argsort(keys, axis=1, kind="stable").tolist()
        rest = draws[:, m + 1 :].reshape(len(draws), _MOST_PARTIAL, num_concepts + 1)
        left_open = rest[..., :-1] < 0.5
        one = integers(rest[..., -1], num_concepts)[..., None] == np.arange(num_concepts)
        left_open &= ~(left_open.all(axis=-1, keepdims=True) & one)  # one value at least is named
        # A caption that names everything would be a list: one value is left open, or one object.
        named = np.arange(_MOST_PARTIAL) < np.array(number)[:, None]
        full = (np.array(number) == counts) & ~(left_open.any(axis=-1) & named).any(axis=1)
        if num_concepts > 1:
            left_open[full, 0] |= one[full, 0]
        else:
            number = (np.array(number) - full).tolist()
        found: list[_Drawn | None] = []
        for rows, order, k, opened in zip(self._rows, orders, number, left_open.tolist()):
            some = [_opened(rows[slot], without) for slot, without in zip(order[:k], opened)]
            found.append((some, order[:k]) if some else None)
        return found

    def _relation(self, draws: np.ndarray, stated: Stated | None) -> list[_Drawn | None]:
        style = self.grammar.language.relations
        if style is None:
            raise InputError("captions: this language has no words for relations; turn on the relations of the style")
        n, m = self.scenes.objects.shape
        names = relation_numbers(style, self.relations)
        held = np.moveaxis(holding(wary(self.scenes), names), 0, 1).reshape(n, -1)
        position, exists = pick(held, draws[:, :1])
        which, first, second = np.unravel_index(position[:, 0], (len(names), m, m))
        relation = names[which]
        if stated is not None:
            given = stated.relation >= 0
            relation = np.where(given, stated.relation, relation)
            first, second = (np.where(given, slot, other) for slot, other in zip(stated.pair.T, (first, second)))
        drawn = zip(self._rows, exists[:, 0].tolist(), relation.tolist(), first.tolist(), second.tolist())
        return [([rows[a], (RELATION + r, *rows[b][1:])], [a, b]) if there else None for rows, there, r, a, b in drawn]

    def _count(self, draws: np.ndarray) -> list[_Drawn | None]:
        n, m = self.scenes.objects.shape
        subsets = _descriptions(self.scenes.space.num_concepts)
        values, present = self.scenes.values, self.scenes.objects >= 0
        same = (values[:, :, None] == values[:, None]) | ~present[:, None, :, None]  # [n, i, j, C]
        alike = np.stack([same[..., list(subset)].all(axis=-1) for subset in subsets], axis=-1)
        alike &= present[:, :, None, None] & present[:, None, :, None]
        # A description of v objects occurs v times, once for each, so that those of one number are equally likely.
        number = alike.sum(axis=2).reshape(n, -1)
        there = np.stack([(number == v).any(axis=1) for v in range(1, m + 1)], axis=1)
        chosen, exists = pick(there, draws[:, :1])
        position, _ = pick(number == chosen + 1, draws[:, 1:2])
        slot, which = np.divmod(position[:, 0], len(subsets))
        fits = alike[np.arange(n), slot, :, which]
        other, has_other = pick(present & ~fits, draws[:, 2:3])
        with_other = has_other[:, 0] & (draws[:, 3] < 0.5)
        found: list[_Drawn | None] = []
        for i, rows in enumerate(self._rows):
            if not exists[i, 0]:
                found.append(None)
                continue
            without = [k not in subsets[which[i]] for k in range(self.scenes.space.num_concepts)]
            _, *wanted = _opened(rows[slot[i]], without)
            said: list[Row] = [(EXACTLY + int(chosen[i, 0]) + 1, *wanted)]
            slots = [-1]
            if with_other[i]:
                place = int(draws[i, 4] * 2)
                said.insert(place, rows[other[i, 0]])
                slots.insert(place, int(other[i, 0]))
            found.append((said, slots))
        return found

    def _negation(self, draws: np.ndarray) -> list[_Drawn | None]:
        present = self._absent(draws) if "absent" in self.negations else None
        denied = self._denied(draws) if "not" in self.negations else None
        if present is None or denied is None:
            return present or denied or []
        first = (draws[:, 0] < 0.5).tolist()
        return [(a or d) if one else (d or a) for one, a, d in zip(first, present, denied)]

    def _absent(self, draws: np.ndarray) -> list[_Drawn | None]:
        slot = integers(draws[:, 1], self.scenes.counts).tolist()
        made, exists = absent_objects(self.scenes, self.split, draws[:, 2:3], self.name == "train")
        values = self.scenes.space.decode(made[:, 0]).tolist()
        drawn = zip(self._rows, slot, values, exists[:, 0].tolist())
        return [([rows[i], (ABSENT, *absent)], [i, -1]) if rows and there else None for rows, i, absent, there in drawn]

    def _denied(self, draws: np.ndarray) -> list[_Drawn | None]:
        space = self.scenes.space
        several = [k for k, size in enumerate(space.sizes) if size > 1]
        if not several:
            return [None] * len(draws)
        noun = space.names.index(NOUN_CONCEPT) if NOUN_CONCEPT in space.names else -1
        slot = integers(draws[:, 1], self.scenes.counts).tolist()
        concept = np.array(several)[integers(draws[:, 3], len(several))].tolist()
        left_open = (draws[:, 5 : 5 + space.num_concepts] < 0.5).tolist()
        found: list[_Drawn | None] = []
        for rows, i, k, opened, u in zip(self._rows, slot, concept, left_open, draws[:, 4].tolist()):
            if not rows:
                found.append(None)
                continue
            kept = [without and c not in (noun, k) for c, without in enumerate(opened)]
            row = _opened(rows[i], kept)
            value = int(u * (space.sizes[k] - 1))
            value += value >= row[1 + k]
            found.append(([(*row[: 1 + k], negated(value), *row[2 + k :])], [i]))
        return found


def _opened(row: Row, left_open: Sequence[bool]) -> Row:
    """A row without the values that are left open."""
    return (row[0], *(ANY if without else value for value, without in zip(row[1:], left_open)))


def _descriptions(num_concepts: int) -> list[tuple[int, ...]]:
    """The sets of concepts by which a count describes objects: all, or, of many concepts, up to two, or every one."""
    sizes = range(1, num_concepts + 1) if num_concepts <= _ALL_DESCRIPTIONS else (1, 2, num_concepts)
    return [subset for size in sizes for subset in combinations(range(num_concepts), size)]

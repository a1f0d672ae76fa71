"""Edits of any caption, one or several operators deep (hard negatives).

Beside SWAP, REPLACE and ADD (see `dualenc.scenes.edits`), which here work on the rows of any sentence, there are

    spatial    a relation gives way to its converse, or its two objects exchange their places
    negation   what is present and what is absent exchange their places; or "that is not red" becomes "red"

An edit of depth k applies k operators in turn. Every caption on the way is definitely false of the scene (not merely
undecided) and legal (law 4: in `train` it names train objects only, and describes nothing that only held-out objects
are), and none means the same as an earlier one, nor is one operator away from a caption earlier than the one before it:
that would be an edit of smaller depth. Source: iterated token-level negatives (arXiv 2510.26302); the rules of
iteration are ours.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import combinations
from typing import Any

import numpy as np

from dualenc.errors import InputError
from dualenc.scenes.arrays import Scenes
from dualenc.scenes.captions import wary
from dualenc.scenes.forms import (
    ABSENT,
    ANY,
    EXACTLY,
    EXISTS,
    MAX_NUMBER,
    RELATION,
    Row,
    is_exactly,
    negated,
    stack_forms,
)
from dualenc.scenes.language import Grammar
from dualenc.scenes.paraphrases import reversed_chain
from dualenc.scenes.random import uniform
from dualenc.scenes.relations import converse
from dualenc.scenes.sentences import Sentence
from dualenc.scenes.split import ObjectSplit
from dualenc.scenes.tokenizer import words
from dualenc.scenes.truth import truth_of_own, undecided_of_own

CAPTION_OPERATORS = ("swap", "replace", "add", "spatial", "negation")
EDIT_NAMES = (*CAPTION_OPERATORS, "depth2")  # what a dataset calls its edits; the first three are OPERATORS

_ATTEMPTS = 16  # for each step
_WIDTH = 4  # uniform numbers of one attempt

_Meaning = frozenset[tuple[tuple[Row, ...], int]]  # groups of rows, each with how often it is said
_Change = dict[int, Row]  # number of a row -> the row in its place


@dataclass(frozen=True)
class Step:
    """One operator: the sentence before and after it, and the row that ADD made, else None."""

    operator: str
    before: Sentence
    after: Sentence
    added: int | None = None


@dataclass(frozen=True)
class CaptionEdit:
    """A caption made of another one by its steps, the first of which starts from that caption."""

    steps: tuple[Step, ...]

    @property
    def sentence(self) -> Sentence:
        """The edited caption."""
        return self.steps[-1].after

    @property
    def depth(self) -> int:
        """The number of operators."""
        return len(self.steps)

    @property
    def operator(self) -> str:
        """The operators in turn, e.g. "swap+replace"; once, if they are all the same."""
        operators = [step.operator for step in self.steps]
        return "+".join(operators) if len(set(operators)) > 1 else operators[0]


def draw_caption_edits(
    grammar: Grammar,
    sentences: Sequence[Sentence | None],
    scenes: Scenes,
    split: ObjectSplit,
    *,
    operators: Sequence[str],
    depth: int = 1,
    seed: int,
    name: str,
    start: int,
    num: int = 1,
    purpose: str = "edit",
) -> list[list[CaptionEdit]]:
    """At most `num` edits of exactly `depth` operators of each caption, all of different meanings; none for None.

    Caption i is that of scene start + i of split `name`. Each step draws its operator among `operators`, so one of
    them gives edits by the same operator throughout. `purpose` tells apart several captions of one scene. InputError
    for an unknown operator and a depth below 1.
    """
    if not operators or not set(operators) <= set(CAPTION_OPERATORS):
        raise InputError(f"edits: {list(operators)} are not all known operators; use {', '.join(CAPTION_OPERATORS)}")
    if depth < 1:
        raise InputError(f"edits: a depth of {depth} is no number of operators; use at least 1")
    search = _Search(grammar, wary(scenes), split, tuple(operators), name == "train")
    found: list[list[CaptionEdit]] = [[] for _ in sentences]
    for j in range(num):
        named = f"{purpose}/{'+'.join(operators)}/{depth}/{j}"
        draws = uniform(seed, name, named, start, start + len(sentences), depth * _ATTEMPTS * _WIDTH)
        draws = draws.reshape(-1, depth, _ATTEMPTS, _WIDTH)
        paths: dict[int, tuple[Sentence, ...]] = {i: (sentence,) for i, sentence in enumerate(sentences) if sentence}
        steps: dict[int, tuple[Step, ...]] = dict.fromkeys(paths, ())
        for level in range(depth):
            known = {i: found[i] if level == depth - 1 else [] for i in paths}
            made = search.steps(paths, draws[:, level], known)
            paths = {i: (*paths[i], step.after) for i, step in made.items()}
            steps = {i: (*steps[i], step) for i, step in made.items()}
        for i in paths:
            found[i].append(CaptionEdit(steps[i]))
    return found


def edit_record(grammar: Grammar, edit: CaptionEdit, shown: Collection[int]) -> dict[str, Any]:
    """An edit as a line of KEY.neg.txt: text, operator, spans (words [start, end) of the text that differ from the
    caption's), depth, form, objects (ids of what it names in full and the scene has not `shown`), and steps."""
    caption_text = grammar.text(edit.steps[0].before)
    texts = [grammar.text(step.after) for step in edit.steps]
    steps = [
        {
            "operator": step.operator,
            "before": before,
            "after": after,
            "spans": _step_spans(grammar, step, before, after),
        }
        for step, before, after in zip(edit.steps, [caption_text, *texts], texts)
    ]
    spans = steps[0]["spans"] if edit.depth == 1 else changed_spans(caption_text, texts[-1])
    return {
        "text": texts[-1],
        "operator": edit.operator,
        "objects": sorted(set(_named_objects(grammar, edit.sentence)) - set(shown)),
        "form": edit.sentence.form,
        "spans": spans,
        "depth": edit.depth,
        "steps": steps,
    }


def changed_spans(before: str, after: str) -> list[list[int]]:
    """Word spans [start, end) of the text `after` that are not as in `before`, by the fewest and earliest changes."""
    old, new = words(before), words(after)
    if len(old) != len(new):
        changes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        return [[start, end] for tag, _, _, start, end in changes if tag != "equal" and end > start]
    spans: list[list[int]] = []
    for position, (a, b) in enumerate(zip(old, new)):
        if a != b and spans and spans[-1][1] == position:
            spans[-1][1] += 1
        elif a != b:
            spans.append([position, position + 1])
    return spans


def _step_spans(grammar: Grammar, step: Step, before: str, after: str) -> list[list[int]]:
    if step.added is not None:
        return [list(grammar.row_spans(step.after)[step.added])]
    return changed_spans(before, after)


def _named_objects(grammar: Grammar, sentence: Sentence) -> list[int]:
    """The ids of the objects that a sentence names in full, present or absent."""
    return [_object_id(grammar, row) for row in sentence.rows if min(row[1:]) >= 0]


def _object_id(grammar: Grammar, row: Row) -> int:
    """The object that a row describes in full."""
    return sum(value * stride for value, stride in zip(row[1:], grammar.space.strides.tolist()))


@dataclass(frozen=True)
class _Search:
    """Finds legal steps for many captions at once; scenes have the margin that their truth is judged by."""

    grammar: Grammar
    scenes: Scenes
    split: ObjectSplit
    operators: tuple[str, ...]
    train_only: bool

    def steps(
        self, paths: dict[int, tuple[Sentence, ...]], draws: np.ndarray, known: dict[int, list[CaptionEdit]]
    ) -> dict[int, Step]:
        """The next step of each caption i in `paths`, the captions so far, where some attempt finds one; draws
        [n, attempts, w]; known: edits whose meaning the step must not have."""
        found: dict[int, Step] = {}
        hopeless: set[int] = set()  # the only operator has nothing to work on
        meanings = {i: [_meaning(sentence) for sentence in path] for i, path in paths.items()}
        for attempt in range(_ATTEMPTS):
            proposed: dict[int, Step] = {}
            for i in paths.keys() - found.keys() - hopeless:
                step = self._propose(paths[i][-1], draws[i, attempt].tolist())
                if step is None and len(self.operators) == 1:
                    hopeless.add(i)
                if step and self._is_legal(step, i) and self._is_new(_meaning(step.after), meanings[i], known[i]):
                    proposed[i] = step
            found |= self._false(proposed)
        return dict(sorted(found.items()))

    def _propose(self, sentence: Sentence, draws: list[float]) -> Step | None:
        operator = self.operators[int(draws[0] * len(self.operators))]
        rows, added = list(sentence.rows), None
        if operator == "add":
            added = self._place_to_add(sentence, draws[1])
            allowed = self.split.train if self.train_only else None
            number = len(allowed) if allowed is not None else self.split.space.num_objects
            which = int(draws[2] * number)
            values = self.split.space.decode(int(allowed[which]) if allowed is not None else which).tolist()
            made = [*rows[:added], (EXISTS, *values), *rows[added:]]
        elif operator == "replace":
            cells = _cells(self.grammar, rows)
            if not cells:
                return None
            row, column, others = cells[int(draws[1] * len(cells))]
            made = _changed(rows, {row: _with(rows[row], column, others[int(draws[2] * len(others))])})
        else:
            changes = {"swap": _swaps, "spatial": _spatial, "negation": _negations}[operator](rows)
            if not changes:
                return None
            made = _changed(rows, changes[int(draws[1] * len(changes))])
        return Step(operator, sentence, replace(sentence, rows=tuple(made), witnesses=()), added)

    def _place_to_add(self, sentence: Sentence, draw: float) -> int:
        """A row number before which an object more can be named: at the border of two groups, before what is absent."""
        starts = [group[0] for group in sentence.groups if sentence.rows[group[0]][0] != ABSENT]
        places = [*starts, sentence.num_present]
        return places[int(draw * len(places))]

    def _is_new(self, meaning: _Meaning, path: list[_Meaning], known: list[CaptionEdit]) -> bool:
        """Whether no known edit means the same, and no caption before the last is one operator away. This also keeps
        steps from changing nothing and from leading back: they would be one operator from there, or true."""
        if any(meaning == _meaning(edit.sentence) for edit in known):
            return False
        return not any(_one_step(earlier, meaning) for earlier in path[:-1])

    def _is_legal(self, step: Step, i: int) -> bool:
        """Law 4; and an object is added only if the scene lacks it, and none is named twice that was not before."""
        if self.train_only and not all(self.split.trains(row[1:]) for row in step.after.rows):
            return False
        if step.added is not None:
            added = step.after.rows[step.added]
            if _object_id(self.grammar, added) in self.scenes.objects[i].tolist():
                return False
        before, after = (Counter(row[1:] for row in s.rows if row[0] != ABSENT) for s in (step.before, step.after))
        return all(number <= max(1, before[values]) for values, number in after.items() if min(values) >= 0)

    def _false(self, proposed: dict[int, Step]) -> dict[int, Step]:
        """Those whose new caption is definitely false of its scene."""
        if not proposed:
            return {}
        own = self.scenes[np.array(list(proposed))]
        forms = stack_forms([step.after.rows for step in proposed.values()], self.split.space.num_concepts)
        false = ~truth_of_own(forms, own) & ~undecided_of_own(forms, own)
        return {i: step for (i, step), kept in zip(proposed.items(), false.tolist()) if kept}


def _with(row: Row, column: int, value: int) -> Row:
    return (*row[:column], value, *row[column + 1 :])


def _changed(rows: Sequence[Row], change: _Change) -> list[Row]:
    return [change.get(number, row) for number, row in enumerate(rows)]


def _cells(grammar: Grammar, rows: Sequence[Row]) -> list[tuple[int, int, list[int]]]:
    """What REPLACE may change: row, column and the other values there, or the other numbers of a count."""
    cells = []
    for number, row in enumerate(rows):
        if row[0] == ABSENT:
            continue
        for column, (size, value) in enumerate(zip(grammar.space.sizes, row[1:]), start=1):
            if value >= 0 and size > 1:
                cells.append((number, column, [v for v in range(size) if v != value]))
        if is_exactly(row[0]):
            near = range(max(1, row[0] - EXACTLY - 2), min(MAX_NUMBER, row[0] - EXACTLY + 2) + 1)
            cells.append((number, 0, [EXACTLY + n for n in near if EXACTLY + n != row[0]]))
    return cells


def _swaps(rows: Sequence[Row]) -> list[_Change]:
    """Two objects that are present exchange a value."""
    found: list[_Change] = []
    present = [number for number, row in enumerate(rows) if row[0] != ABSENT]
    for a, b in combinations(present, 2):
        for column, (left, right) in enumerate(zip(rows[a], rows[b])):
            if column and left != right and left >= 0 and right >= 0:
                found.append({a: _with(rows[a], column, right), b: _with(rows[b], column, left)})
    return found


def _spatial(rows: Sequence[Row]) -> list[_Change]:
    """A relation turns round, by its word or by its objects."""
    found: list[_Change] = []
    for number, (kind, *values) in enumerate(rows):
        if kind >= RELATION:
            before, *others = rows[number - 1]
            found.append({number: (RELATION + converse(kind - RELATION), *values)})
            found.append({number - 1: (before, *values), number: (kind, *others)})
    return found


def _negations(rows: Sequence[Row]) -> list[_Change]:
    """A present and an absent object exchange their places, or a denied value is said."""
    found: list[_Change] = []
    for a, (kind, *values) in enumerate(rows):
        if kind == ABSENT:
            continue
        for b, (other_kind, *others) in enumerate(rows):
            if other_kind == ABSENT:
                found.append({a: (kind, *others), b: (ABSENT, *values)})
        for column, value in enumerate(values, start=1):
            if value < ANY:
                found.append({a: _with(rows[a], column, negated(value))})
    return found


def _meaning(sentence: Sentence) -> _Meaning:
    """The rows without their order: groups, chains from the end that sorts first."""
    counted: Counter[tuple[Row, ...]] = Counter()
    for group in sentence.groups:
        chain = [sentence.rows[number] for number in group]
        counted[tuple(chain) if len(chain) == 1 else min(tuple(chain), tuple(reversed_chain(chain)))] += 1
    return frozenset(counted.items())


def _one_step(before: _Meaning, after: _Meaning) -> bool:
    """Whether some single operator makes `after` of `before`."""
    old, new = Counter(dict(before)), Counter(dict(after))
    lost, gained = list((old - new).elements()), list((new - old).elements())
    if not lost:
        return len(gained) == 1 and len(gained[0]) == 1 and gained[0][0][0] == EXISTS
    if len(lost) > 2 or len(lost) != len(gained):
        return False
    if len(lost) == 1 and _one_cell(lost[0], gained[0]):
        return True
    rows = [row for group in sorted(lost, key=lambda group: group[0][0] == ABSENT) for row in group]
    target = frozenset(Counter(gained).items())
    changes = (change for operator in (_swaps, _spatial, _negations) for change in operator(rows))
    return any(_meaning(Sentence(tuple(_changed(rows, change)))) == target for change in changes)


def _one_cell(old: tuple[Row, ...], new: tuple[Row, ...]) -> bool:
    """Whether REPLACE makes the one group of the other."""
    if len(old) != len(new):
        return False
    for turned in (old, tuple(reversed_chain(old))) if len(old) > 1 else (old,):
        cells = [(column, a, b) for x, y in zip(turned, new) for column, (a, b) in enumerate(zip(x, y)) if a != b]
        if len(cells) == 1:
            column, a, b = cells[0]
            return (is_exactly(a) and is_exactly(b)) if column == 0 else min(a, b) >= 0 and turned[0][0] != ABSENT
    return False

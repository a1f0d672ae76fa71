"""Edits of any caption: false, legal, sayable, of the depth that they say, by an independent search."""

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest

from dualenc.errors import InputError
from dualenc.scenes import (
    ABSENT,
    ANY,
    CAPTION_KINDS,
    CAPTION_OPERATORS,
    EXISTS,
    RELATION,
    TRAIN,
    CaptionEdit,
    ConceptSpace,
    Grammar,
    Language,
    ObjectSplit,
    SceneSampler,
    Sentence,
    changed_spans,
    draw_caption_edits,
    draw_captions,
    edit_record,
    negated,
    stack_forms,
    truth_of_own,
    undecided_of_own,
    words,
)

SPACE = ConceptSpace.named(
    {"color": ["gray", "red", "blue"], "shape": ["cube", "ball", "cone"], "size": ["small", "large"]}
)
SPLIT = ObjectSplit(
    SPACE, np.array([0, 1, 2, 4, 6, 7, 9, 11, 13, 14, 16]), np.array([3, 5, 12]), np.array([8, 10, 15, 17])
)
GRAMMAR = Grammar(SPACE, Language(relations="flat", counting=True, negation=True))
SAMPLER = SceneSampler(SPLIT, seed=0, counts={1: 0.1, 2: 0.5, 3: 0.4}, relation_margin=0.1)
SCENES = SAMPLER.draw("train", 0, 150)


def captions(kind: str) -> list[Sentence | None]:
    drawn = draw_captions(kind, SCENES, GRAMMAR, SPLIT, seed=3, name="train", start=0)
    return [row[0] for row in drawn.sentences]


def edits(
    kind: str, operators: tuple[str, ...], depth: int = 1, num: int = 1, *, first: int = len(SCENES), **options: Any
) -> list[list[CaptionEdit]]:
    """Of the first scenes."""
    keys: dict[str, Any] = {"seed": 5, "name": "train", "start": 0, "operators": operators, **options}
    scenes = SCENES[np.arange(first)]
    return draw_caption_edits(GRAMMAR, captions(kind)[:first], scenes, SPLIT, depth=depth, num=num, **keys)


def listed(sentence: Sentence) -> tuple[tuple[int, ...], ...]:
    """The meaning of a list of objects: its rows in any order."""
    return tuple(sorted(sentence.rows))


def one_edit_away(rows: tuple[tuple[int, ...], ...]) -> set[tuple[tuple[int, ...], ...]]:
    """All that SWAP, REPLACE and ADD make of a list of objects, by search."""
    found = {tuple(sorted((*rows, (EXISTS, *values)))) for values in product(*map(range, SPACE.sizes))}
    for i, k in product(range(len(rows)), range(1, 4)):
        for v in range(SPACE.sizes[k - 1]):
            changed = [list(row) for row in rows]
            changed[i][k] = v
            found.add(tuple(sorted(map(tuple, changed))))
        for j in range(i):
            changed = [list(row) for row in rows]
            changed[i][k], changed[j][k] = changed[j][k], changed[i][k]
            found.add(tuple(sorted(map(tuple, changed))))
    return found


@pytest.mark.parametrize("kind", CAPTION_KINDS)
@pytest.mark.parametrize(
    ("operators", "depth"), [(CAPTION_OPERATORS, 1), (("swap", "replace", "add"), 2), (CAPTION_OPERATORS, 3)]
)
def test_edits_are_false_legal_and_sayable_at_every_step(kind: str, operators: tuple[str, ...], depth: int) -> None:
    made, said = edits(kind, operators, depth, num=2), captions(kind)
    assert np.mean([len(row) == 2 for row, caption in zip(made, said) if caption]) > 0.4
    for i, (row, caption) in enumerate(zip(made, said)):
        assert caption is not None or not row
        for edit in row:
            assert edit.depth == depth
            assert edit.steps[0].before == caption
            assert all(step.before == earlier.after for earlier, step in zip(edit.steps, edit.steps[1:]))
            forms = stack_forms([step.after.rows for step in edit.steps], 3)
            own = SCENES[np.full(depth, i)]
            assert not truth_of_own(forms, own).any()
            assert not undecided_of_own(forms, own).any()
            full = [values for step in edit.steps for _, *values in step.after.rows if min(values) >= 0]
            assert np.all(SPLIT.status(SPACE.encode(np.array(full, dtype=int).reshape(-1, 3))) == TRAIN)
            path = [edit.steps[0].before, *(step.after for step in edit.steps)]
            assert len({frozenset(tuple(s.rows[n] for n in group) for group in s.groups) for s in path}) == depth + 1
            for step in edit.steps:
                assert GRAMMAR.parse(GRAMMAR.text(step.after)).tolist() == step.after.form
        assert len({listed(edit.sentence) for edit in row}) == len(row)


@pytest.mark.parametrize("kind", ["partial", "negation"])
def test_train_edits_describe_nothing_that_held_out_objects_alone_are(kind: str) -> None:
    train = SPACE.decode(SPLIT.train).tolist()
    made = [edit for row in edits(kind, ("replace", "negation"), num=4) for edit in row]
    for _, *values in {row for edit in made for row in edit.sentence.rows}:
        fits = [
            all(v in (ANY, have) or (v < ANY and have != negated(v)) for v, have in zip(values, one)) for one in train
        ]
        assert any(fits), values


def test_depth_two_is_not_reached_by_one_operator() -> None:
    made, said = edits("list", ("swap", "replace", "add"), 2, num=3), captions("list")
    operators = Counter(edit.operator for row in made for edit in row)
    assert len(operators) == 9  # every order of every two of them
    for row, caption in zip(made, said):
        assert caption is not None
        near = one_edit_away(caption.rows)
        for edit in row:
            first, second = (step.after for step in edit.steps)
            assert listed(first) in near
            assert listed(second) in one_edit_away(first.rows)
            assert listed(second) not in near


def test_depth_one_draws_everything_that_is_legal() -> None:
    """SWAP, REPLACE and ADD on lists make what the search by hand makes, if it is legal and names nothing twice."""
    made, said = edits("list", ("swap", "replace", "add"), 1, num=60, first=60), captions("list")
    train, missed = set(SPLIT.train.tolist()), 0
    for row, caption in zip(made, said):
        assert caption is not None
        near = one_edit_away(caption.rows) - {listed(caption)}
        legal = {
            rows
            for rows in near
            if len(set(rows)) == len(rows) and {int(SPACE.encode(list(values))) for _, *values in rows} <= train
        }
        drawn = {listed(edit.sentence) for edit in row}
        assert drawn <= legal
        missed += len(legal - drawn)
    assert missed < 60


def test_spatial_edits_turn_relations_round() -> None:
    made, said = edits("relation", ("spatial",), num=2), captions("relation")
    for row, caption in zip(made, said):
        if caption is None:
            continue
        (edit,) = row  # both ways mean the same
        (_, *a), (relation, *b) = caption.rows
        turned = ((EXISTS, *a), (RELATION + (relation - RELATION ^ 1), *b)), ((EXISTS, *b), (relation, *a))
        assert edit.sentence.rows in turned
    texts = Counter(edit.sentence.rows[0] == edit.steps[0].before.rows[0] for row in made for edit in row)
    assert min(texts[True], texts[False]) > 30


def test_negation_edits_exchange_or_say_what_is_not() -> None:
    made, said = edits("negation", ("negation",)), captions("negation")
    for row, caption in zip(made, said):
        assert caption is not None
        for edit in row:
            if len(caption.rows) == 2:
                (_, *present), (_, *absent) = caption.rows
                assert edit.sentence.rows == ((EXISTS, *absent), (ABSENT, *present))
            else:
                says = tuple(negated(value) if value < -1 else value for value in caption.rows[0])
                assert edit.sentence.rows == (says,)
    assert np.mean([len(row) for row in made]) > 0.7


def test_operators_that_do_not_apply_make_nothing() -> None:
    assert not any(edits("list", ("spatial",)))
    assert not any(edits("list", ("negation",), 2))
    assert not any(edits("relation", ("negation",)))


def test_edits_are_a_function_of_the_scene_number() -> None:
    whole = edits("relation", CAPTION_OPERATORS, 2, num=2)
    some = slice(21, 57)
    part = draw_caption_edits(
        GRAMMAR, captions("relation")[some], SCENES[some], SPLIT,
        operators=CAPTION_OPERATORS, depth=2, num=2, seed=5, name="train", start=21,
    )  # fmt: skip
    assert part == whole[some]
    first = edits("relation", CAPTION_OPERATORS, 2, num=1)
    assert all(one in ([], row[:1]) for one, row in zip(first, whole))
    assert edits("relation", CAPTION_OPERATORS, 2, num=2, purpose="again") != whole


def test_records_tell_what_changed() -> None:
    for kind, depth in product(CAPTION_KINDS, (1, 2)):
        for row, objects in zip(edits(kind, CAPTION_OPERATORS, depth), SCENES.objects.tolist()):
            for edit in row:
                record = edit_record(GRAMMAR, edit, objects)
                assert record["text"] == GRAMMAR.text(edit.sentence) == record["steps"][-1]["after"]
                assert (record["depth"], record["form"]) == (depth, edit.sentence.form)
                assert record["operator"] in (edit.operator, *CAPTION_OPERATORS)
                assert [step["operator"] for step in record["steps"]] == [step.operator for step in edit.steps]
                named = {int(SPACE.encode(list(row[1:]))) for row in edit.sentence.rows if min(row[1:]) >= 0}
                assert record["objects"] == sorted(named - set(objects))
                for step in record["steps"]:
                    assert_spans_explain(step["before"], step["after"], step["spans"])


def assert_spans_explain(before: str, after: str, spans: list[list[int]]) -> None:
    """Outside the spans stand words of the text before, in its order."""
    separators = (",", "and", "but")  # an object more makes a comma of an "and"
    left = iter([word for word in words(before) if word not in separators])
    inside = {position for start, end in spans for position in range(start, end)}
    assert all(0 <= start < end <= len(words(after)) for start, end in spans)
    outside = [word for position, word in enumerate(words(after)) if position not in inside]
    assert all(word in left for word in outside if word not in separators)


def test_spans_of_texts() -> None:
    assert changed_spans("a red cube and a blue ball", "a blue cube and a red ball") == [[1, 2], [5, 6]]
    assert changed_spans("a red heart and a bar", "an orange heart and a ring") == [
        [0, 2],
        [5, 6],
    ]
    assert changed_spans("a cube that is not red", "a red cube") == [[1, 2]]
    assert changed_spans("a cube", "a red cube") == [[1, 2]]
    edit = edits("list", ("add",))[3][0]
    record = edit_record(GRAMMAR, edit, SCENES.objects[3].tolist())
    start, end = record["spans"][0]
    (added,) = record["objects"]
    assert words(record["text"])[start:end] == words(GRAMMAR.object_query(added))


def test_impossible_edits_are_refused() -> None:
    with pytest.raises(InputError, match="'twist'"):
        edits("list", ("swap", "twist"))
    with pytest.raises(InputError, match="edits: "):
        edits("list", ())
    with pytest.raises(InputError, match="a depth of 0"):
        edits("list", ("swap",), 0)

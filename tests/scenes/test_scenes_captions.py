"""Captions by kind and their paraphrases: true, readable, seeded, legal in train, and of the kind asked for."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dualenc.errors import InputError
from dualenc.scenes import (
    ABSENT,
    ANY,
    CAPTION_KINDS,
    EXACTLY,
    EXISTS,
    PARAPHRASES,
    RELATION,
    TRAIN,
    ConceptSpace,
    Grammar,
    Language,
    ObjectSplit,
    Scenes,
    SceneSampler,
    Sentence,
    draw_captions,
    draw_paraphrases,
    stack_forms,
    truth,
    truth_of_own,
    undecided,
    undecided_of_own,
    uniform,
)
from dualenc.scenes.relations import RELATIONS

SPACE = ConceptSpace.named(
    {"color": ["gray", "red", "blue"], "shape": ["cube", "sphere", "cone"], "size": ["small", "large"]}
)
SPLIT = ObjectSplit(SPACE, np.arange(0, 18, 2), np.array([1, 5, 7, 11, 13]), np.array([3, 9, 15, 17]))
GRAMMAR = Grammar(SPACE, Language(relations="clevr", counting=True, negation=True, synonyms=True))
SAMPLER = SceneSampler(SPLIT, seed=0, counts={1: 0.2, 2: 0.4, 4: 0.4}, relation_margin=0.2, style="clevr")


def drawn(
    kind: str, scenes: Scenes, name: str = "train", start: int = 0, **options: object
) -> list[list[Sentence | None]]:
    captions = draw_captions(kind, scenes, GRAMMAR, SPLIT, seed=3, name=name, start=start, **options)
    return captions.sentences


@pytest.mark.parametrize("name", ["train", "ood"])
@pytest.mark.parametrize("kind", CAPTION_KINDS)
def test_captions_are_true_and_of_their_kind(kind: str, name: str) -> None:
    scenes = SAMPLER.draw(name, 0, 300)
    captions = draw_captions(kind, scenes, GRAMMAR, SPLIT, seed=3, name=name, start=0, num=2, templates=(0, 2))
    assert captions.exists.shape == (300, 2)
    assert captions.exists[scenes.counts > 1].mean() > (0.6 if kind == "relation" else 0.99)
    texts = set()
    for i, row in enumerate(captions.sentences):
        shown = scenes.values[i, : scenes.counts[i]].tolist()
        for j, sentence in enumerate(row):
            assert (sentence is not None) == captions.exists[i, j]
            if sentence is None:
                continue
            text = GRAMMAR.text(sentence)
            texts.add(text)
            form = GRAMMAR.parse(text)
            assert form.tolist() == sentence.form
            assert truth_of_own(form[None], scenes[i : i + 1]).all()
            assert_of_kind(kind, sentence, shown)
            if name == "train":
                full = np.array([values for _, *values in sentence.rows if min(values) >= 0], dtype=int).reshape(-1, 3)
                assert np.all(SPLIT.status(SPACE.encode(full)) == TRAIN)
    assert len(texts) > 50
    assert any(text.startswith("a picture of") for text in texts)


def assert_of_kind(kind: str, sentence: Sentence, shown: list[list[int]]) -> None:
    kinds = [row[0] for row in sentence.rows]
    named = [list(row[1:]) for row in sentence.rows]
    for row, slot in zip(sentence.rows, sentence.witnesses):
        if slot >= 0:
            assert all(want < 0 or want == got for want, got in zip(row[1:], shown[slot]))
    if kind == "list":
        assert sorted(named) == sorted(shown)
    elif kind == "partial":
        assert set(kinds) == {EXISTS}
        assert len(kinds) < len(shown) or min(map(min, named)) == ANY
        assert all(max(values) >= 0 for values in named)
    elif kind == "relation":
        assert kinds[0] == EXISTS
        assert len(kinds) == 2
        assert kinds[1] - RELATION in (0, 1, 4, 5)
    elif kind == "count":
        (number,) = (kind for kind in kinds if kind > EXACTLY)
        want = named[kinds.index(number)]
        assert number - EXACTLY == sum(all(w in (ANY, g) for w, g in zip(want, got)) for got in shown)
        assert max(want) >= 0
    else:
        assert kinds == [EXISTS, ABSENT] or (kinds == [EXISTS] and sum(value < ANY for value in named[0]) == 1)


def test_every_count_and_both_negations_are_drawn() -> None:
    scenes = SAMPLER.draw("train", 0, 400)
    numbers = Counter(kind for row in drawn("count", scenes) for kind, *_ in row[0].rows if kind > EXACTLY)
    assert min(numbers[EXACTLY + n] for n in (1, 2, 3)) > 8
    forms = Counter(len(row[0].rows) for row in drawn("negation", scenes))
    assert min(forms[1], forms[2]) > 150
    only = drawn("negation", scenes, negations=("absent",))
    assert {len(row[0].rows) for row in only if row[0]} == {2}


def test_lists_keep_their_order_of_old() -> None:
    """The draws that decided the quickstart's captions."""
    scenes = SAMPLER.draw("train", 7, 60)
    draws = uniform(3, "train", "caption", 7, 60, 5)
    order = np.argsort(np.where(scenes.objects >= 0, draws[:, 1:], 2.0), axis=1)
    for i, (sentence,) in enumerate(drawn("list", scenes, start=7, templates=(0, 3))):
        assert sentence is not None
        assert list(sentence.witnesses) == order[i, : scenes.counts[i]].tolist()
        assert sentence.template == (0, 3)[int(draws[i, 0] * 2)]
    fixed = drawn("list", scenes, random_order=False)
    assert all(row[0].witnesses == tuple(range(len(row[0].rows))) for row in fixed)


@pytest.mark.parametrize("kind", CAPTION_KINDS)
def test_captions_are_a_function_of_the_scene_number(kind: str) -> None:
    scenes = SAMPLER.draw("train", 0, 60)
    whole = drawn(kind, scenes, num=2)
    assert drawn(kind, scenes[17:31], start=17, num=2) == whole[17:31]
    assert [row[:1] for row in whole] == drawn(kind, scenes)
    assert [row[0] for row in whole] != [row[1] for row in whole]


def test_relation_captions_draw_from_the_relations_named() -> None:
    scenes = SAMPLER.draw("train", 0, 100)
    rows = drawn("relation", scenes, num=2, relations=["behind"])
    said = {sentence.rows[1][0] - RELATION for row in rows for sentence in row if sentence}
    assert said == {RELATIONS.index("behind")}
    with pytest.raises(InputError, match="relations: 'above' is no relation of the clevr style"):
        drawn("relation", scenes, relations=["above"])


def test_stated_relations_are_said_first() -> None:
    sampler = SceneSampler(
        SPLIT, seed=0, counts={1: 0.3, 3: 0.7}, layout="relational", style="clevr", relation_margin=0.2
    )
    scenes = sampler.draw("train", 0, 100)
    stated = sampler.stated("train", scenes.objects, np.arange(100))
    assert stated is not None
    for i, (first, _) in enumerate(drawn("relation", scenes, num=2, stated=stated)):
        assert (first is None) == (scenes.counts[i] == 1)
        if first is not None:
            assert first.rows[1][0] == RELATION + stated.relation[i]
            assert first.witnesses == tuple(stated.pair[i].tolist())


def test_scenes_without_such_a_caption_have_none() -> None:
    one = SAMPLER.draw("train", 0, 40)
    one = one[one.counts == 1]
    assert not any(row[0] for row in drawn("relation", one))
    close = replace(SAMPLER.draw("train", 0, 40), relation_margin=1.0)
    assert not any(row[0] for row in drawn("relation", close))
    space = ConceptSpace.named({"color": ["gray", "red"]})
    split = ObjectSplit(space, np.array([0, 1]), np.array([], dtype=int), np.array([], dtype=int))
    scenes = Scenes.of(space, np.array([[0, -1], [0, 1]]))
    made = draw_captions("partial", scenes, Grammar(space), split, seed=0, name="train", start=0)
    assert made.exists.tolist() == [[False], [True]]
    grammar = Grammar(space, Language(negation=True))
    made = draw_captions("negation", scenes, grammar, split, seed=0, name="train", start=0, negations=("absent",))
    assert made.exists.tolist() == [[True], [False]]


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        ("poem", {}, "captions: 'poem' is unknown; use list"),
        ("relation", {}, "no words for relations"),
        ("count", {}, "turn on counting"),
        ("negation", {}, "turn on negation"),
        ("negation", {"negations": ("never",)}, "never.*use absent, not"),
    ],
)
def test_impossible_captions_are_refused(kind: str, options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        draw_captions(kind, SAMPLER.draw("val", 0, 5), Grammar(SPACE), SPLIT, seed=0, name="val", start=0, **options)


@pytest.mark.parametrize("kind", CAPTION_KINDS)
def test_paraphrases_mean_the_same_in_other_words(kind: str) -> None:
    scenes = SAMPLER.draw("val", 0, 80)
    captions = [row[0] for row in drawn(kind, scenes, "val")]
    made = draw_paraphrases(GRAMMAR, captions, seed=1, name="val", start=0, num=3)
    worlds = Scenes.concatenate([scenes, SAMPLER.draw("mixed", 0, 120)])
    operators = Counter(paraphrase.operator for row in made for paraphrase in row)
    for sentence, row in zip(captions, made):
        assert sentence is not None or not row
        texts = [GRAMMAR.text(s) for s in (sentence, *(p.sentence for p in row)) if s]
        assert len(set(texts)) == len(texts)
        if not row or sentence is None:
            continue
        forms = stack_forms([sentence.rows, *(p.sentence.rows for p in row)], 3)
        for told, paraphrase in zip(texts[1:], row):
            assert GRAMMAR.parse(told).tolist() == paraphrase.sentence.form
            moved = zip(paraphrase.sentence.rows, paraphrase.sentence.witnesses)
            old = dict(zip(sentence.witnesses, sentence.rows))
            assert all(slot < 0 or old[slot][1:] == want[1:] for want, slot in moved)
        for ask in (truth, undecided):
            answers = ask(forms, worlds)
            assert np.array_equal(answers, np.repeat(answers[:, :1], len(forms), axis=1))
    expected = {"relation": {"converse", "synonym"}, "negation": {"synonym", "connective"}}
    assert set(operators) == expected.get(kind, {"order", "synonym"})


def test_paraphrases_of_longer_sentences() -> None:
    rows = (
        (EXISTS, 0, 0, ANY),
        (RELATION, 1, 1, ANY),
        (RELATION + 5, ANY, 2, 0),
        (EXISTS, 2, ANY, 1),
        (ABSENT, 0, 0, 0),
    )
    sentence = Sentence((*rows, (ABSENT, 1, 1, 1)))
    made = draw_paraphrases(GRAMMAR, [sentence] * 40, seed=0, name="val", start=0, num=4)
    assert Counter(p.operator for row in made for p in row).keys() == set(PARAPHRASES)
    worlds = SAMPLER.draw("mixed", 0, 300)
    forms = stack_forms([sentence.rows, *(p.sentence.rows for row in made for p in row)], 3)
    for ask in (truth, undecided):
        answers = ask(forms, worlds)
        assert np.array_equal(answers, np.repeat(answers[:, :1], len(forms), axis=1))
    (turned,) = {GRAMMAR.text(p.sentence) for row in made for p in row if p.operator == "converse"}
    assert turned == (
        "a small cone in front of a red sphere right of a gray cube and something blue large "
        "but no gray small cube and no red large sphere"
    )


def test_paraphrases_that_are_not_there() -> None:
    plain = Sentence(((EXISTS, 1, 1, ANY),))
    for operator in ("order", "converse", "connective"):
        assert draw_paraphrases(GRAMMAR, [plain, None], seed=0, name="val", start=0, operators=(operator,)) == [[], []]
    twice = Sentence(plain.rows * 2)
    assert draw_paraphrases(GRAMMAR, [twice], seed=0, name="val", start=0, operators=("order",)) == [[]]
    assert draw_paraphrases(Grammar(SPACE), [plain], seed=0, name="val", start=0) == [[]]
    with pytest.raises(InputError, match="rhyme"):
        draw_paraphrases(GRAMMAR, [plain], seed=0, name="val", start=0, operators=("rhyme",))


def test_paraphrases_are_a_function_of_the_scene_number() -> None:
    captions = [row[0] for row in drawn("negation", SAMPLER.draw("val", 0, 40), "val")]
    whole = draw_paraphrases(GRAMMAR, captions, seed=1, name="val", start=0, num=2)
    assert draw_paraphrases(GRAMMAR, captions[11:29], seed=1, name="val", start=11, num=2) == whole[11:29]
    assert draw_paraphrases(GRAMMAR, captions, seed=1, name="val", start=0, num=2, purpose="second") != whole
    assert undecided_of_own(np.zeros((1, 0, 4), dtype=int), SAMPLER.draw("val", 0, 1)).tolist() == [False]

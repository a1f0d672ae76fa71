"""Relations, numbers, negation and synonyms in words: everything that is said is read back, and nothing else is."""

from collections.abc import Sequence

import numpy as np
import pytest

from dualenc.errors import InputError
from dualenc.scenes import (
    ABSENT,
    ANY,
    EXACTLY,
    EXISTS,
    MAX_NUMBER,
    RELATION,
    RELATIONS,
    TEMPLATES,
    ConceptSpace,
    Grammar,
    Language,
    Sentence,
    Tokenizer,
    negated,
    words,
)
from dualenc.scenes.lexicon import plural

FULL = Language(relations="flat", counting=True, negation=True, synonyms=True)
SPACE = ConceptSpace.named(
    {"color": ["gray", "orange", "blue"], "shape": ["cube", "ellipse", "torus", "cross"], "size": ["small", "big"]}
)
SPACES = {
    "all": SPACE,
    "two synonyms": ConceptSpace.named({"shape": ["ball", "sphere", "box"], "color": ["red", "gray"]}),
    "no shape": ConceptSpace.named({"color": ["gray", "azure"], "size": ["large", "tiny"]}),
    "only shape": ConceptSpace.named({"shape": ["cube", "hourglass"]}),
    "symbolic": ConceptSpace.symbolic(num_concepts=3, num_values=2),
}
LANGUAGES = {
    "full": FULL,
    "clevr": Language(relations="clevr"),
    "counting": Language(counting=True),
    "negation": Language(negation=True),
    "synonyms": Language(synonyms=True),
}


def random_sentence(rng: np.random.Generator, grammar: Grammar) -> Sentence:
    """Rows of any kind that the language has, in any words that it has."""
    language, rows = grammar.language, []
    for _ in range(rng.integers(1, 5)):
        values = [int(rng.integers(0, size)) for size in grammar.space.sizes]
        deny = negated if language.negation else lambda _: ANY
        values = [(v, ANY, deny(v))[rng.integers(0, 3)] for v in values]
        kinds = [EXISTS, *([ABSENT] * language.negation)]
        kinds += [EXACTLY + int(rng.integers(1, MAX_NUMBER + 1))] * language.counting
        if grammar.relations and rows and (rows[-1][0] == EXISTS or rows[-1][0] >= RELATION):
            kinds += [RELATION + RELATIONS.index(str(rng.choice(grammar.relations)))] * 2
        kind = kinds[rng.integers(len(kinds))] if not rows or rows[-1][0] != ABSENT else ABSENT
        rows.append((kind, *values))
    said = tuple((word, others[rng.integers(len(others))]) for word, others in grammar.synonyms.items())
    chosen = tuple(pair for pair in said if rng.random() < 0.5)
    return Sentence(tuple(rows), int(rng.integers(len(TEMPLATES))), chosen, ("but", "and")[rng.integers(2)])


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", SPACES)
def test_everything_that_can_be_said_is_read_back(name: str, language: str) -> None:
    rng, grammar = np.random.default_rng(0), Grammar(SPACES[name], LANGUAGES[language])
    tokenizer, known = Tokenizer(grammar.vocabulary), set(grammar.vocabulary)
    meanings: dict[str, tuple[tuple[int, ...], ...]] = {}
    for _ in range(400):
        sentence = random_sentence(rng, grammar)
        text = grammar.text(sentence)
        assert grammar.parse(text).tolist() == sentence.form, text
        assert set(words(text)) <= known
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert len(words(text)) <= grammar.max_words(len(sentence.rows))
        assert meanings.setdefault(text, sentence.rows) == sentence.rows
    assert len(grammar.vocabulary) == len(known)


def test_the_vocabulary_grows_only_by_what_is_asked_for() -> None:
    plain = Grammar(SPACE).vocabulary
    assert plain[:12] == ["a", "an", "and", ",", "something", "object", "there", "is", "picture", "of", "scene", "with"]
    assert plain[12:] == ["gray", "orange", "blue", "cube", "ellipse", "torus", "cross", "small", "big"]
    added = {
        name: [w for w in Grammar(SPACE, language).vocabulary if w not in plain] for name, language in LANGUAGES.items()
    }
    assert added["clevr"] == ["left", "right", "in", "front", "behind"]
    assert added["negation"] == ["but", "no", "nothing", "that", "not"]
    assert added["counting"][-4:] == ["cubes", "ellipses", "tori", "crosses"]
    assert added["synonyms"] == ["box", "doughnut", "little", "large", "grey"]
    assert Grammar(SPACES["two synonyms"], Language(synonyms=True)).synonyms == {"box": ("cube",), "gray": ("grey",)}


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([[EXISTS, 0, 0, ANY], [RELATION, 2, 1, 1]], "a gray cube left of a blue big ellipse"),
        ([[EXACTLY + 2, 0, 0, ANY]], "two gray cubes"),
        ([[EXACTLY + 3, 1, ANY, ANY], [EXISTS, ANY, 2, ANY]], "three orange things and a torus"),
        ([[EXACTLY + 1, ANY, ANY, ANY]], "one thing"),
        ([[EXISTS, 0, 0, ANY], [ABSENT, 2, 1, ANY]], "a gray cube but no blue ellipse"),
        ([[EXISTS, negated(0), 0, ANY]], "a cube that is not gray"),
        ([[EXACTLY + 2, ANY, negated(0), negated(1)]], "two things that are not big and not cubes"),
        ([[EXISTS, 0, negated(1), ANY]], "something gray that is not an ellipse"),
        ([[EXISTS, 0, 0, 0], [EXISTS, 1, 1, 1], [ABSENT, 2, ANY, ANY], [ABSENT, ANY, 3, ANY]],
         "a gray small cube and an orange big ellipse but nothing blue and no cross"),
    ],
)  # fmt: skip
def test_the_words_themselves(rows: list[list[int]], text: str) -> None:
    grammar = Grammar(SPACE, FULL)
    assert grammar.say(np.array(rows)) == text
    assert grammar.parse(text).tolist() == rows


def test_other_words_for_the_same() -> None:
    grammar = Grammar(SPACE, FULL)
    rows = ((EXISTS, 0, 0, 0), (RELATION, 0, ANY, 1), (ABSENT, 0, 2, ANY))
    other = (
        ("gray", "grey"),
        ("cube", "box"),
        ("small", "little"),
        ("torus", "doughnut"),
        ("left of", "to the left of"),
    )
    text = grammar.text(Sentence(rows, synonyms=other, connective="and"))
    assert text == "a grey little box to the left of something grey big and no grey doughnut"
    assert grammar.parse(text).tolist() == [list(row) for row in rows]
    assert grammar.parse("a grey cube and two gray boxes").tolist() == [[EXISTS, 0, 0, ANY], [EXACTLY + 2, 0, 0, ANY]]


def test_there_are_several() -> None:
    grammar = Grammar(SPACE, FULL)
    for text in ("there are two cubes and a cross", "there is one cube and two tori", "there is a cube"):
        assert grammar.say(grammar.parse(text), 1) == text
    for text in ("there is two cubes", "there are one cube", "there are a cube", "there are no cube"):
        with pytest.raises(InputError, match="no sentence"):
            grammar.parse(text)


def test_regular_and_irregular_plurals() -> None:
    nouns = {"cube": "cubes", "box": "boxes", "cross": "crosses", "torus": "tori", "ruby": "rubies", "key": "keys"}
    assert {noun: plural(noun) for noun in nouns} == nouns


@pytest.mark.parametrize(
    "text",
    [
        "a gray cube left of",
        "left of a cube",
        "a cube left a ball",
        "a gray cube left of no ellipse",
        "a gray cube left of two ellipses",
        "two cube",
        "a cubes",
        "one cubes",
        "two cubes that is not gray",
        "a cube that is not a gray",
        "a cube that not gray",
        "a cube that is not gray and big",
        "a cube but a cross",
        "no cube but a cross",
        "no cube and a cross",
        "a cube but no",
        "a cube and nothing cross",
        "to the left of a cube",
        "a cube to the above a cross",
        "a cube to the left a cross",
        "an box",
        "a orange cube",
        "something cube",
        "there is but no cube",
    ],
)
def test_what_the_grammar_would_not_say_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no sentence of the grammar; say") as caught:
        Grammar(SPACE, FULL).parse(text.replace("ball", "cross"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("language", [None, *LANGUAGES.values()])
def test_words_of_another_language_are_unknown(language: Language | None) -> None:
    grammar = Grammar(SPACE, language)
    said = {
        "a cube behind a cross": "clevr",
        "a cube above a cross": "flat",
        "two cubes": "counting",
        "a cube but no cross": "negation",
        "a box": "synonyms",
    }
    for text, needed in said.items():
        chosen = grammar.language
        if needed == chosen.relations or (needed in ("counting", "negation", "synonyms") and getattr(chosen, needed)):
            assert len(grammar.parse(text))
        else:
            with pytest.raises(InputError, match="unknown word"):
                grammar.parse(text)


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([[EXISTS, 0, 0, 0], [RELATION + 5, 0, 0, 0]], "'behind'.*turn on the relations"),
        ([[EXACTLY + 1, 0, 0, 0]], "turn on counting"),
        ([[ABSENT, 0, 0, 0]], "turn on negation"),
        ([[EXISTS, 0, negated(0), 0]], "turn on negation"),
        ([], "says nothing"),
    ],
)
def test_forms_without_words_are_refused(rows: Sequence[Sequence[int]], named: str) -> None:
    with pytest.raises(InputError, match=named):
        Grammar(SPACE).say(np.array(rows).reshape(-1, 4))
    for order in (
        [[ABSENT, 0, 0, 0], [EXISTS, 0, 0, 0]],
        [[RELATION, 0, 0, 0]],
        [[ABSENT, 0, 0, 0], [RELATION, 0, 0, 0]],
    ):
        with pytest.raises(InputError, match=r"absent is named last|needs an object before it"):
            Grammar(SPACE, FULL).say(np.array(order))


def test_words_with_two_meanings_are_refused() -> None:
    with pytest.raises(InputError, match=r"concepts\.color.*'left'"):
        Grammar(ConceptSpace.named({"color": ["left", "red"]}), FULL)
    with pytest.raises(InputError, match=r"concepts\.shape: 'cubes', the plural of 'cube'"):
        Grammar(ConceptSpace.named({"shape": ["cube", "cubes"]}), Language(counting=True))
    assert Grammar(ConceptSpace.named({"shape": ["cube", "cubes"]})).parse("a cubes").tolist() == [[EXISTS, 1]]


def test_languages_as_json() -> None:
    assert Language.from_dict(FULL.to_dict()) == FULL
    for wrong in (
        {},
        {**FULL.to_dict(), "relations": 3},
        {**FULL.to_dict(), "counting": "yes"},
        {**FULL.to_dict(), "x": 1},
    ):
        with pytest.raises(InputError, match="language: "):
            Language.from_dict(wrong)
    with pytest.raises(InputError, match="style: 'cubist'"):
        Language(relations="cubist")


def test_readable_forms() -> None:
    grammar = Grammar(SPACE, FULL)
    form = grammar.parse("a gray cube above something blue, two big things and no cross that is not small")
    assert grammar.to_logical(form) == {
        "and": [
            {"exists": {"color": "gray", "shape": "cube"}},
            {"above": {"color": "blue"}},
            {"exactly 2": {"size": "big"}},
            {"absent": {"shape": "cross", "size": {"not": "small"}}},
        ]
    }

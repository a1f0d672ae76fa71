"""The grammar says nothing that it cannot read back, and refuses what it would not say."""

from itertools import permutations, product

import numpy as np
import pytest

from dualenc.errors import InputError
from dualenc.scenes import ANY, EXISTS, NONE, TEMPLATES, ConceptSpace, Grammar, Tokenizer, words

FLAT = ConceptSpace.named({"color": ["red", "orange", "blue"], "shape": ["cube", "ellipse"]})
SPACES = {
    "flat": FLAT,
    "sized": ConceptSpace.named({"shape": ["cube", "ball"], "size": ["small", "big"], "color": ["amber", "red"]}),
    "no shape": ConceptSpace.named({"color": ["red", "azure"], "size": ["small", "big"]}),
    "only color": ConceptSpace.named({"color": ["red", "azure"]}),
    "only shape": ConceptSpace.named({"shape": ["cube", "ellipse"]}),
    "symbolic": ConceptSpace.symbolic(num_concepts=3, num_values=2),
}


def partial_objects(space: ConceptSpace) -> list[tuple[int, ...]]:
    """All (partial) objects: a value or ANY for each concept."""
    return list(product(*([ANY, *range(size)] for size in space.sizes)))


@pytest.mark.parametrize("name", SPACES)
def test_everything_that_can_be_said_is_read_back(name: str) -> None:
    space = SPACES[name]
    grammar, tokenizer = Grammar(space), Tokenizer(Grammar(space).vocabulary)
    partial = partial_objects(space)
    said = [grammar.phrase(values) for values in partial]
    listings = [[i] for i in range(len(partial))] + list(permutations(range(min(len(partial), 5)), 2))
    listings += [[0, i, i, len(partial) - 1] for i in range(len(partial))]
    for template, listing in product(range(len(TEMPLATES)), listings):
        text = grammar.caption([said[i] for i in listing], template)
        assert grammar.parse(text).tolist() == [[EXISTS, *partial[i]] for i in listing], text
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(set(said)) == len(set(partial))


@pytest.mark.parametrize("name", SPACES)
def test_canonical_queries(name: str) -> None:
    space, grammar = SPACES[name], Grammar(SPACES[name])
    assert grammar.object_queries(np.arange(space.num_objects)) == [
        *map(grammar.object_query, range(space.num_objects))
    ]
    for i in range(space.num_objects):
        assert grammar.parse(grammar.object_query(i)).tolist() == [[EXISTS, *space.decode(i).tolist()]]
    assert len(grammar.concept_queries) == space.num_values
    for k, v in ((k, v) for k, size in enumerate(space.sizes) for v in range(size)):
        query, form = grammar.concept_query(k, v), [[EXISTS, *([ANY] * space.num_concepts)]]
        form[0][1 + k] = v
        assert grammar.parse(query).tolist() == form
        assert grammar.concept_queries[space.offsets[k] + v] == query


def test_the_words_themselves() -> None:
    flat, plain = Grammar(FLAT), Grammar(SPACES["no shape"])
    assert flat.object_query(0) == "a red cube"
    assert flat.object_query(3) == "an orange ellipse"
    assert [flat.concept_query(0, 1), flat.concept_query(1, 0)] == ["something orange", "a cube"]
    assert flat.concept_query(1, 1) == "an ellipse"
    assert plain.object_query(2) == "an azure small object"
    assert plain.concept_query(1, 0) == "something small"
    assert Grammar(SPACES["only color"]).concept_query(0, 0) == "a red object"
    assert Grammar(SPACES["sized"]).object_query(7) == "a big red ball"
    said = flat.caption(["a red cube", "an orange cube", "a blue cube"], 2)
    assert said == "a picture of a red cube, an orange cube and a blue cube"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a red",
        "an red cube",
        "a orange cube",
        "a cube red",
        "a red blue cube",
        "something cube",
        "red cube",
        "a red cube a blue cube",
        "a red cube and",
        "a red cube, a blue cube",
        "a red cube and a blue cube and a red ellipse",
        "there is",
        "there is there is a cube",
        "a picture a red cube",
        "a red object",
    ],
)
def test_what_the_grammar_would_not_say_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no sentence of the grammar"):
        Grammar(FLAT).parse(text)


def test_unknown_words_are_named() -> None:
    with pytest.raises(InputError, match="'teapot'"):
        Grammar(FLAT).parse("a red teapot")
    tokenizer = Tokenizer(Grammar(FLAT).vocabulary)
    for text in ("a red teapot", "a teapot, a Red cube"):
        with pytest.raises(InputError, match="'teapot'") as caught:
            tokenizer.encode(text)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="'Red'"):
        tokenizer.encode_batch(["a red cube", "a Red cube"])


@pytest.mark.parametrize("word", ["a", "an", "and", "something", "object", "picture", "there"])
def test_a_value_cannot_be_a_word_of_the_grammar(word: str) -> None:
    with pytest.raises(InputError, match=rf"concepts\.color.*'{word}'"):
        Grammar(ConceptSpace.named({"color": ["red", word]}))


def test_tokens_are_padded_and_end() -> None:
    tokenizer = Tokenizer(Grammar(FLAT).vocabulary)
    assert tokenizer.vocabulary[:2] == ["[PAD]", "[EOS]"]
    assert len(tokenizer) == 2 + len(Grammar(FLAT).vocabulary) == len(set(tokenizer.vocabulary))
    tokens = tokenizer.encode_batch(["a red cube", "a cube"])
    assert tokens.dtype == np.int64
    assert tokens[1].tolist() == [*tokenizer.encode("a cube"), Tokenizer.PAD]
    assert tokens[0, -1] == Tokenizer.EOS
    assert [tokenizer.decode(row) for row in tokens] == ["a red cube", "a cube"]
    assert Tokenizer(tokenizer.vocabulary).vocabulary == tokenizer.vocabulary
    assert words("a cube, a ball") == ["a", "cube", ",", "a", "ball"]


def test_forms_of_objects_and_readable_forms() -> None:
    grammar = Grammar(FLAT)
    forms = grammar.object_forms(np.array([[3, -1], [0, 5]]))
    assert forms.tolist() == [[[EXISTS, 1, 1], [NONE, ANY, ANY]], [[EXISTS, 0, 0], [EXISTS, 2, 1]]]
    assert grammar.to_logical(forms[0]) == {"and": [{"exists": {"color": "orange", "shape": "ellipse"}}]}
    partial = grammar.parse("something red and a cube")
    assert grammar.to_logical(partial) == {"and": [{"exists": {"color": "red"}}, {"exists": {"shape": "cube"}}]}

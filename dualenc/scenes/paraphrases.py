"""Paraphrases (hard positives): other words for a caption, true of exactly the same scenes.

order       another order of mention
synonym     other words for some values or relations
converse    a chain of relations from its other end: "A left of B" is "B right of A"
connective  "but no" or "and no"
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import factorial

import numpy as np

from dualenc.errors import InputError
from dualenc.scenes.choices import distinct
from dualenc.scenes.forms import ABSENT, ANY, EXISTS, RELATION, Row, negated
from dualenc.scenes.language import Grammar
from dualenc.scenes.random import uniform
from dualenc.scenes.relations import RELATIONS, converse
from dualenc.scenes.sentences import Sentence

PARAPHRASES = ("order", "synonym", "converse", "connective")

_ATTEMPTS = 4  # for each paraphrase asked for
_WIDTH = 32  # uniform numbers of one attempt


@dataclass(frozen=True)
class Paraphrase:
    """A sentence that means the same as another one, and by which operator it was made of it."""

    operator: str
    sentence: Sentence


def draw_paraphrases(
    grammar: Grammar,
    sentences: Sequence[Sentence | None],
    *,
    seed: int,
    name: str,
    start: int,
    num: int = 1,
    operators: Sequence[str] = PARAPHRASES,
    purpose: str = "paraphrase",
) -> list[list[Paraphrase]]:
    """At most `num` paraphrases of each sentence, all of different texts; none for None.

    Sentence k is that of scene start + k of split `name`; `purpose` tells apart several sentences of one scene.
    """
    if not set(operators) <= set(PARAPHRASES):
        raise InputError(f"paraphrases: {list(operators)} are not all known; use {', '.join(PARAPHRASES)}")
    draws = uniform(seed, name, purpose, start, start + len(sentences), _WIDTH * _ATTEMPTS * num).tolist()
    return [
        _paraphrases(grammar, sentence, row, num, operators) if sentence else []
        for sentence, row in zip(sentences, draws)
    ]


def other_orders(objects: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Objects int64 [n, num, m]: those of scenes [n, m] in `num` different orders, uniform, none as they stand; and
    whether there are that many, bool [n, num]. The "order" of captions that list objects, many at once.

    draws: float64 [n, num], uniform. Objects that stand twice in a scene do not count as moved when they change places.
    """
    m, counts = objects.shape[1], (objects >= 0).sum(axis=1)
    factorials = np.array([factorial(number) for number in range(m + 1)])
    others = factorials[counts] - 1
    number = 1 + distinct(draws, others)  # of the order among all, sorted; 0 is the order as they stand
    # Its digits to the base of factorials: which of the objects left comes next.
    bases = factorials[np.maximum(counts[:, None] - 1 - np.arange(m), 0)][:, None]
    places = number[..., None] // bases % np.maximum(counts[:, None] - np.arange(m), 1)[:, None]
    for i in reversed(range(m - 1)):
        places[..., i + 1 :] += places[..., i + 1 :] >= places[..., i : i + 1]
    orders = np.take_along_axis(objects[:, None], places, axis=2)
    exists = np.arange(draws.shape[1]) < others[:, None]
    return orders, exists & (orders != objects[:, None]).any(axis=-1)


def _paraphrases(
    grammar: Grammar, sentence: Sentence, draws: list[float], num: int, operators: Sequence[str]
) -> list[Paraphrase]:
    found: list[Paraphrase] = []
    texts = {grammar.text(sentence)}
    possible = [operator for operator in operators if _applies(grammar, sentence, operator)]
    for attempt in range(_ATTEMPTS * num if possible else 0):
        which, *rest = draws[attempt * _WIDTH : (attempt + 1) * _WIDTH]
        operator = possible[int(which * len(possible))]
        made = _OPERATORS[operator](grammar, sentence, rest)
        text = grammar.text(made)
        if text not in texts:
            texts.add(text)
            found.append(Paraphrase(operator, made))
            if len(found) == num:
                break
    return found


def _applies(grammar: Grammar, sentence: Sentence, operator: str) -> bool:
    absent = len(sentence.rows) - sentence.num_present
    if operator == "order":
        return len(sentence.groups) - absent > 1 or absent > 1
    if operator == "synonym":
        return bool(_with_synonyms(grammar, sentence))
    if operator == "converse":
        return any(len(group) > 1 for group in sentence.groups)
    return bool(absent and sentence.num_present)


def _order(grammar: Grammar, sentence: Sentence, draws: list[float]) -> Sentence:
    """The present groups, then the absent ones, each in random order, but never all as they are."""
    absent = [sentence.rows[group[0]][0] == ABSENT for group in sentence.groups]
    order = sorted(range(len(absent)), key=lambda g: (absent[g], draws[g]))
    if order == sorted(order):
        movable = len(absent) - sum(absent) if sum(absent) < 2 or draws[-1] < 0.5 else 0
        first, last = (0, movable) if movable > 1 else (absent.index(True), len(absent))
        order[first:last] = [*order[first + 1 : last], order[first]]
    return _rearranged(sentence, [number for g in order for number in sentence.groups[g]])


def _rearranged(sentence: Sentence, order: list[int]) -> Sentence:
    witnesses = tuple(sentence.witnesses[number] for number in order) if sentence.witnesses else ()
    return replace(sentence, rows=tuple(sentence.rows[number] for number in order), witnesses=witnesses)


def _converse(grammar: Grammar, sentence: Sentence, draws: list[float]) -> Sentence:
    chains = [group for group in sentence.groups if len(group) > 1]
    chain = chains[int(draws[0] * len(chains))]
    turned = _rearranged(
        sentence,
        [chain[-1 - chain.index(number)] if number in chain else number for number in range(len(sentence.rows))],
    )
    rows = list(turned.rows)
    rows[chain[0] : chain[-1] + 1] = reversed_chain([sentence.rows[number] for number in chain])
    return replace(turned, rows=tuple(rows))


def reversed_chain(chain: Sequence[Row]) -> list[Row]:
    """The same relations from the other end: rows that mean the same as these."""
    relations = [converse(kind - RELATION) for kind, *_ in chain[1:]]
    kinds = [EXISTS, *(RELATION + relation for relation in reversed(relations))]
    return [(kind, *values) for kind, (_, *values) in zip(kinds, reversed(chain))]


def _synonym(grammar: Grammar, sentence: Sentence, draws: list[float]) -> Sentence:
    """At least one of the words that have synonyms is another one."""
    said = dict(sentence.synonyms)
    known = _with_synonyms(grammar, sentence)[: len(draws) // 2]
    always = int(draws[0] * len(known))
    for position, word in enumerate(known):
        if position == always or draws[1 + position] < 0.5:
            others = [other for other in (word, *grammar.synonyms[word]) if other != said.get(word, word)]
            said[word] = others[int(draws[-1 - position] * len(others))]
    return replace(sentence, synonyms=tuple((word, other) for word, other in said.items() if word != other))


def _with_synonyms(grammar: Grammar, sentence: Sentence) -> list[str]:
    """The values and relations of a sentence that have other words, once each."""
    found: dict[str, None] = {}
    for kind, *values in sentence.rows:
        if kind >= RELATION:
            found[RELATIONS[kind - RELATION]] = None
        for names, value in zip(grammar.space.values, values):
            if value != ANY:
                found[names[value if value >= 0 else negated(value)]] = None
    return [word for word in found if word in grammar.synonyms]


def _connective(grammar: Grammar, sentence: Sentence, draws: list[float]) -> Sentence:
    return replace(sentence, connective="and" if sentence.connective == "but" else "but")


_OPERATORS: dict[str, Callable[[Grammar, Sentence, list[float]], Sentence]] = {
    "order": _order,
    "synonym": _synonym,
    "converse": _converse,
    "connective": _connective,
}

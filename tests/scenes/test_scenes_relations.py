"""Truth of counts, absences, negated values and relations, against a checker that tries every witness and every way to
decide."""

from functools import cache
from itertools import combinations, permutations, product

import numpy as np
import pytest

from dualenc.errors import InputError
from dualenc.scenes import (
    ABSENT,
    ANY,
    EXACTLY,
    EXISTS,
    NONE,
    RELATION,
    RELATIONS,
    ConceptSpace,
    Scenes,
    converse,
    negated,
    relation_numbers,
    relation_table,
    relations_of,
    stack_forms,
    truth,
    truth_of_own,
    undecided,
    undecided_of_own,
)

SPACE = ConceptSpace.named({"color": ["red", "blue"], "shape": ["cube", "ball", "cone"]})
MARGIN = 0.25
AXIS = {"left of": 0, "right of": 0, "above": 1, "below": 1, "in front of": 1, "behind": 1}
SMALLER_FIRST = {"left of", "above", "behind"}

Pairs = frozenset[tuple[int, int]]


def matches(want: list[int], got: list[int]) -> bool:
    return all(w in (ANY, g) or (w < ANY and negated(w) != g) for w, g in zip(want, got))


def needs(form: list[list[int]], objects: list[list[int]]) -> list[list[Pairs]]:
    """For every choice of witnesses that the descriptions allow: per axis, which object must come before which."""
    rows = [row for row in form if row[0] != NONE]
    slots: list[list[int]] = []
    relations: list[tuple[int, int]] = []  # (slot, relation to the slot before)
    for kind, *want in rows:
        number = sum(matches(want, got) for got in objects)
        if (kind == ABSENT and number) or (EXACTLY < kind < RELATION and number != kind - EXACTLY):
            return []
        if kind >= RELATION:
            relations.append((len(slots), kind - RELATION))
        if kind != ABSENT:
            slots += [want] * (kind - EXACTLY if EXACTLY < kind < RELATION else 1)
    found = []
    for served in permutations(range(len(objects)), len(slots)):
        if all(matches(want, objects[i]) for want, i in zip(slots, served)):
            wanted: list[set[tuple[int, int]]] = [set(), set()]
            for slot, relation in relations:
                pair = (served[slot - 1], served[slot])
                name = RELATIONS[relation]
                wanted[AXIS[name]].add(pair if name in SMALLER_FIRST else pair[::-1])
            found.append([frozenset(side) for side in wanted])
    return found


@cache
def ways(places: tuple[float, ...]) -> list[Pairs]:
    """Every strict partial order of objects at these places that contains the definite relations."""
    definite = {(i, j) for i, j in permutations(range(len(places)), 2) if places[j] - places[i] > MARGIN}
    open_pairs = [
        (i, j) for i, j in combinations(range(len(places)), 2) if (i, j) not in definite and (j, i) not in definite
    ]
    found = []
    for choice in product(range(3), repeat=len(open_pairs)):
        order = definite | {(pair, pair[::-1])[c] for pair, c in zip(open_pairs, choice) if c < 2}
        if all((a, d) in order for a, b in order for c, d in order if b == c):
            found.append(frozenset(order))
    return found


def decided(form: list[list[int]], objects: list[list[int]], places: list[list[float]]) -> tuple[bool, bool]:
    """Whether the caption is true in all ways to decide, and whether in some but not all."""
    choices = needs(form, objects)
    axes = [ways(tuple(place[axis] for place in places)) for axis in (0, 1)]
    answers = {any(want[0] <= x and want[1] <= y for want in choices) for x, y in product(*axes)}
    return answers == {True}, answers == {True, False}


def random_scenes(rng: np.random.Generator, number: int, most: int) -> Scenes:
    """Objects that are often identical, on a grid whose neighbours are sometimes inside the margin."""
    objects = rng.integers(0, SPACE.num_objects // 2 + 1, (number, most))
    objects[np.arange(most) >= rng.integers(0, most + 1, number)[:, None]] = -1
    positions = rng.integers(0, 6, (number, most, 2)).astype(np.float32) * 0.15
    positions[objects < 0] = np.nan
    return Scenes(SPACE, objects, positions, MARGIN)


def random_form(rng: np.random.Generator, most: int, relations: tuple[str, ...]) -> list[list[int]]:
    """Up to `most` rows of any kinds, at most two of them relations."""
    rows: list[list[int]] = []
    for _ in range(rng.integers(0, most + 1)):
        want = [int(rng.integers(0, size)) for size in SPACE.sizes]
        want = [(v, ANY, ANY, negated(v))[rng.integers(0, 4)] for v in want]
        kinds = [EXISTS, EXISTS, ABSENT, EXACTLY + 1, EXACTLY + 2, NONE]
        before = [row[0] for row in rows if row[0] != NONE]
        if before and (before[-1] == EXISTS or before[-1] >= RELATION) and sum(k >= RELATION for k in before) < 2:
            kinds += [RELATION + RELATIONS.index(str(rng.choice(relations)))] * 8
        rows.append([int(rng.choice(kinds)), *want])
    return rows


@pytest.mark.parametrize("relations", [RELATIONS, relations_of("flat"), ("left of",), ("behind", "in front of")])
def test_truth_is_what_every_witness_and_every_decision_say(relations: tuple[str, ...]) -> None:
    rng = np.random.default_rng(len(relations))
    scenes = random_scenes(rng, 100, 4)
    listed = [random_form(rng, 4, relations) for _ in range(250)]
    forms = stack_forms(listed, 2)
    shown = [[v for v in scene if v[0] >= 0] for scene in scenes.values.tolist()]
    places = [[p for p in scene if p[0] == p[0]] for scene in scenes.positions.tolist()]
    expected = np.array([[decided(form, *scene) for form in listed] for scene in zip(shown, places)])
    assert 0.1 < expected[..., 0].mean() < 0.6
    assert expected[..., 1].sum() > 150
    assert np.array_equal(truth(forms, scenes), expected[..., 0])
    assert np.array_equal(undecided(forms, scenes), expected[..., 1])
    own = np.arange(100)
    assert np.array_equal(truth_of_own(forms[:100], scenes), expected[own, own, 0])
    assert np.array_equal(undecided_of_own(forms[:100], scenes), expected[own, own, 1])


def place(*xs: float) -> Scenes:
    """A scene of cones, or of a red cube and a blue ball, side by side at these x."""
    objects = np.array([[0, 4, 2][: len(xs)]])
    return Scenes(SPACE, objects, np.array([[[x, 0.5] for x in xs]], dtype=np.float32), MARGIN)


def test_a_circle_of_open_relations_is_no_way_to_decide() -> None:
    """Each of two steps to the left is inside the margin, both together are beyond it."""
    chain = np.array([[[EXISTS, 0, 0], [RELATION, 1, 1], [RELATION, 0, 2]]])
    assert undecided(chain, place(0.4, 0.3, 0.2)).tolist() == [[True]]
    assert undecided(chain, place(0.6, 0.4, 0.2)).tolist() == [[False]]
    assert not truth(chain, place(0.6, 0.4, 0.2)).any()
    assert truth(chain, place(0.2, 0.5, 0.8)).tolist() == [[True]]


def test_at_the_margin_neither_relation_holds() -> None:
    at, beyond = place(0.25, 0.5), place(0.25, 0.501)
    left, right = (np.array([[[EXISTS, 0, 0], [RELATION + r, 1, 1]]]) for r in (0, 1))
    for form in (left, right):
        assert not truth(form, at).any()
        assert undecided(form, at).all()
    assert truth(left, beyond).all()
    assert not truth(right, beyond).any()
    assert not undecided(left, beyond).any()
    assert not undecided(right, beyond).any()


def test_counts_take_their_witnesses() -> None:
    cube, ball = [0, 0], [1, 1]
    scenes = Scenes.of(SPACE, SPACE.encode(np.array([[cube, cube, ball], [cube, ball, ball]])))
    two_red = [EXACTLY + 2, 0, ANY]
    said = [[two_red], [two_red, [EXISTS, ANY, 0]], [two_red, [EXISTS, ANY, 1]], [[EXACTLY + 1, 0, ANY]], [two_red] * 2]
    forms = stack_forms(said, 2)
    assert truth(forms, scenes).tolist() == [[True, False, True, False, False], [False, False, False, True, False]]


def test_relations_have_converses_and_styles() -> None:
    assert [RELATIONS[converse(r)] for r in range(6)] == [
        "right of",
        "left of",
        "below",
        "above",
        "behind",
        "in front of",
    ]
    assert relation_numbers("clevr").tolist() == [0, 1, 4, 5]
    assert relation_numbers("flat", ("below",)).tolist() == [3]
    with pytest.raises(InputError, match=r"relations: 'above' is no relation of the clevr style; use left of"):
        relation_numbers("clevr", ("above",))
    with pytest.raises(InputError, match="relations: is empty"):
        relation_numbers("flat", ())
    with pytest.raises(InputError, match="style: 'cubist'"):
        relations_of("cubist")
    scenes = Scenes(SPACE, np.array([[0, 1]]), np.array([[[0.1, 0.2], [0.8, 0.3]]], dtype=np.float32), 0.05)
    assert relation_table(scenes, "flat") == [[(0, "left of", 1), (0, "above", 1)]]
    assert relation_table(scenes, "clevr") == [[(0, "left of", 1), (1, "in front of", 0)]]


def test_what_truth_cannot_tell_is_refused() -> None:
    plain, rel = [EXISTS, ANY, ANY], [RELATION, ANY, ANY]
    one = np.array([[plain, rel]])
    for ask in (truth, undecided, truth_of_own, undecided_of_own):
        with pytest.raises(InputError, match="need the places"):
            ask(one, Scenes.of(SPACE, np.array([[0, 1]])))
        with pytest.raises(InputError, match="at most 2 relations in one, not 3"):
            ask(np.array([[plain, rel, rel, rel]]), place(0.1, 0.5))
        for wrong in ([rel, plain], [[ABSENT, 0, 0], rel], [[EXACTLY, 0, 0], plain], [plain, [EXISTS, 2, ANY]]):
            with pytest.raises(ValueError, match=r"dualenc\.scenes\.forms|a relation without"):
                ask(np.array([wrong]), place(0.1, 0.5))
        with pytest.raises(ValueError, match=r"dualenc\.scenes\.forms"):
            ask(np.array([[[EXISTS, ANY, negated(3)]]]), place(0.1, 0.5))
    assert undecided(np.array([[plain]]), Scenes.of(SPACE, np.array([[0]]))).tolist() == [[False]]

"""The words of the language that are not a space's own: numbers, plurals and synonyms."""

from collections.abc import Collection

NUMBERS = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
)  # fmt: skip

IRREGULAR_PLURALS = {
    "axis": "axes",
    "die": "dice",
    "half": "halves",
    "knife": "knives",
    "leaf": "leaves",
    "loaf": "loaves",
    "octahedron": "octahedra",
    "polyhedron": "polyhedra",
    "shelf": "shelves",
    "tetrahedron": "tetrahedra",
    "torus": "tori",
    "vertex": "vertices",
}

# The words of a group mean the same. A group is used where exactly one of its words is a value of the space.
SYNONYMS = (
    ("sphere", "ball"),
    ("cube", "box"),
    ("cylinder", "can"),
    ("capsule", "pill"),
    ("torus", "doughnut"),
    ("circle", "disk"),
    ("diamond", "rhombus"),
    ("ring", "hoop"),
    ("rubber", "matte"),
    ("metal", "metallic", "shiny"),
    ("small", "little"),
    ("large", "big"),
    ("huge", "giant", "enormous"),
    ("gray", "grey"),
    ("purple", "violet"),
    ("striped", "stripy"),
    ("dotted", "spotted"),
    ("checked", "chequered"),
)
RELATION_SYNONYMS = {"left of": "to the left of", "right of": "to the right of"}


def plural(noun: str) -> str:
    """The plural of a noun, regular unless the table says otherwise."""
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def article(following: str) -> str:
    """The indefinite article before a word."""
    return "an" if following[0] in "aeiou" or following.startswith("hour") else "a"


def synonyms_of(values: Collection[str], reserved: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Value -> other words for it, without any that is reserved or could mean two values."""
    usable = [group for group in SYNONYMS if sum(word in values for word in group) == 1]
    found: dict[str, tuple[str, ...]] = {}
    for group in usable:
        value = next(word for word in group if word in values)
        others = tuple(word for word in group if word != value and word not in reserved)
        if others:
            found[value] = others
    return found

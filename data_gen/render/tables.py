"""What each style can draw: the values of every concept, in the order in which a count takes them."""

import math

from data_gen.render.colors import COLORS
from data_gen.render.materials import MATERIALS
from data_gen.render.patterns import PATTERNS
from data_gen.render.shapes import SHAPES, SOLIDS

# Diameters in units of "large". A space's largest size fills the room of one object: see `size_scales`.
SIZES: dict[str, float] = {"small": 0.6, "large": 1.0, "medium": 0.78, "tiny": 0.46, "huge": 1.28}
# Clockwise quarter turns: flat, on the screen; 3-D, seen from above. As drawn, the top of an outline points upward or,
# lying on the ground, backward, away from the viewer.
ORIENTATIONS: dict[str, dict[str, int]] = {
    "flat": {"upward": 0, "rightward": 1, "downward": 2, "leftward": 3},
    "clevr": {"leftward": 3, "rightward": 1, "forward": 2, "backward": 0},
}

VALUES: dict[str, dict[str, list[str]]] = {
    "flat": {
        "color": list(COLORS),
        "shape": list(SHAPES),
        "size": list(SIZES),
        "pattern": list(PATTERNS),
        "orientation": list(ORIENTATIONS["flat"]),
    },
    "clevr": {
        "color": list(COLORS),
        "shape": list(SOLIDS),
        "size": list(SIZES),
        "material": list(MATERIALS),
        "pattern": list(PATTERNS),
        "orientation": list(ORIENTATIONS["clevr"]),
    },
}


def size_scales(sizes: list[str]) -> list[float]:
    """Diameters of these sizes as shares of the room of one object, which "large" fills, or "huge" where it occurs."""
    room = max(1.0, *(SIZES[size] for size in sizes)) if sizes else 1.0
    return [SIZES[size] / room for size in sizes]


def default_object_size(max_objects: int) -> float:
    """Diameter of the largest object, as a share of the side, that leaves room for `max_objects` at random places."""
    return min(0.44, 0.56 / math.sqrt(max_objects))

"""What each style can draw: the values of every concept, in the order in which a count takes them."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from data_gen.render.colors import COLORS
from data_gen.render.materials import MATERIALS
from data_gen.render.patterns import PATTERNS
from data_gen.render.shapes import SHAPES, SOLIDS, Shape, Solid
from dualenc.errors import InputError

# Diameters in units of "large". A space's largest size fills the room of one object: see `size_scales`.
SIZES: dict[str, float] = {"small": 0.6, "large": 1.0, "medium": 0.78, "tiny": 0.46, "huge": 1.28}
# Clockwise quarter turns, on the screen or seen from above, from upward or backward (away from the viewer).
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


def check_orientations(style: str, concepts: Mapping[str, Sequence[str]]) -> None:
    """Raises InputError where objects shall be oriented (a concept `orientation`) whose quarter turns look the same."""
    if "orientation" not in concepts:
        return
    table: Mapping[str, Shape | Solid] = SHAPES if style == "flat" else SOLIDS
    allowed = [name for name, shape in table.items() if shape.orients]
    if "shape" not in concepts:
        raise InputError(f"concepts.orientation: needs concepts.shape; give shapes among {', '.join(allowed)}")
    refused = [name for name in concepts["shape"] if name not in allowed]
    if refused:
        raise InputError(
            f"concepts.orientation: {', '.join(refused)} may look the same in two orientations; "
            f"leave them out of concepts.shape, and use {', '.join(allowed)}"
        )


def quarter_turns(style: str, concepts: Mapping[str, Sequence[str]], default_shape: str) -> np.ndarray:
    """int64 [V, W]: clockwise quarter turns that give shape v orientation w; zeros [V, 1] where none is asked for."""
    table: Mapping[str, Shape | Solid] = SHAPES if style == "flat" else SOLIDS
    shapes = [table[name] for name in concepts.get("shape", [default_shape])]
    if "orientation" not in concepts:
        return np.zeros((len(shapes), 1), dtype=np.int64)
    quarters = ORIENTATIONS[style]
    asked = np.array([quarters[name] for name in concepts["orientation"]])
    return asked - np.array([[quarters[shape.heading]] for shape in shapes])


def size_scales(sizes: Sequence[str]) -> list[float]:
    """Diameters of these sizes as shares of the room of one object, which "large" fills, or "huge" where it occurs."""
    room = max(1.0, *(SIZES[size] for size in sizes)) if sizes else 1.0
    return [SIZES[size] / room for size in sizes]


def default_object_size(max_objects: int) -> float:
    """Diameter of the largest object, as a share of the side, that leaves room for `max_objects` at random places."""
    return min(0.44, 0.56 / math.sqrt(max_objects))

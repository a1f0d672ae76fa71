"""What the flat style can draw: the values of every concept, in the order in which a count takes them."""

import math

from data_gen.render.colors import COLORS
from data_gen.render.shapes import SHAPES

SIZES: dict[str, float] = {"small": 0.6, "large": 1.0, "medium": 0.78}  # diameter as a share of the largest
VALUES: dict[str, list[str]] = {"color": list(COLORS), "shape": list(SHAPES), "size": list(SIZES)}


def default_object_size(max_objects: int) -> float:
    """Diameter of the largest object, as a share of the side, that leaves room for `max_objects` at random places."""
    return min(0.44, 0.56 / math.sqrt(max_objects))

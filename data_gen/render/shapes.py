"""The shapes of both styles, as two tables over the one table of outlines (`profiles.PROFILES`).

SHAPES: flat shapes, filled outlines. SOLIDS: 3-D shapes, outlines swept into space. A shape's turn is limited so that
no turned shape looks like another one. A config that asks for n shapes gets the first n.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from data_gen.render.profiles import PROFILES, Polygons

Kind = Literal["extrude", "stand", "revolve", "taper"]


@dataclass(frozen=True)
class Shape:
    """One flat shape.

    profile: name in PROFILES. max_turn: the largest angle, in degrees to either side, by which it may be turned.
    orients: whether its four quarter turns, each within max_turn, look different.
    """

    profile: str
    max_turn: float
    orients: bool = False

    @property
    def polygons(self) -> Callable[[], Polygons]:
        """The function that returns the outline's polygons."""
        return PROFILES[self.profile].polygons


@dataclass(frozen=True)
class Solid:
    """One 3-D shape: an outline swept into space, in units in which outlines lie in the unit circle.

    kind says how a point (x right, y away from the viewer, z up) is sampled in the outline (u right, v down):
      extrude: (u, v) = (x, -y), |z| <= height / 2: the outline lies flat and rises by `height`;
      stand: (u, v) = (x, -z), |y| <= height / 2: the outline stands upright and faces the viewer, `height` thick;
      revolve: (u, v) = (sqrt(x^2 + y^2), -z): the right half of the outline turns around the vertical axis;
      taper: as extrude, but the outline shrinks linearly from full size at the bottom to the share `top` at the top.
    height: as above, full length; unused by revolve. rounding: radius of rounded edges; the outer measures stay.
    max_turn: largest free turn around the vertical axis, in degrees to either side.
    orients: whether quarter turns around the vertical axis, each within max_turn, look different.
    """

    profile: str
    kind: Kind
    height: float = 0.0
    rounding: float = 0.04
    max_turn: float = 180.0
    top: float = 1.0
    orients: bool = False


SHAPES: dict[str, Shape] = {
    "circle": Shape("circle", 180),
    "square": Shape("square", 15),
    "triangle": Shape("triangle", 20),
    "star": Shape("star", 36),
    "cross": Shape("cross", 15),
    "heart": Shape("heart", 20, orients=True),
    "ring": Shape("ring", 180),
    "crescent": Shape("crescent", 30, orients=True),
    "diamond": Shape("diamond", 15),
    "arrow": Shape("arrow", 30, orients=True),
    "hourglass": Shape("hourglass", 20),
    "bar": Shape("bar", 30),
}

SOLIDS: dict[str, Solid] = {
    "sphere": Solid("circle", "revolve", rounding=0.0),
    "cube": Solid("square", "extrude", height=1.4142),
    "cylinder": Solid("circle", "extrude", height=1.76),
    "cone": Solid("circle", "taper", height=1.8, top=0.0),
    "torus": Solid("tube", "revolve", rounding=0.0),
    "pyramid": Solid("square", "taper", height=1.5, top=0.0),
    "prism": Solid("triangle", "stand", height=1.2, max_turn=30),
    "capsule": Solid("pill", "revolve", rounding=0.0),
    "star": Solid("star", "extrude", height=0.6),
}

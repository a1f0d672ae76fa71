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
    orients: whether its four quarter turns, each within max_turn, look different. heading: its orientation as drawn.
    """

    profile: str
    max_turn: float
    orients: bool = False
    heading: str = "upward"

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
    heading: its orientation as drawn.
    """

    profile: str
    kind: Kind
    height: float = 0.0
    rounding: float = 0.04
    max_turn: float = 180.0
    top: float = 1.0
    orients: bool = False
    heading: str = "backward"


SHAPES: dict[str, Shape] = {
    "circle": Shape("circle", 180),
    "square": Shape("square", 15),
    "triangle": Shape("triangle", 20),
    "star": Shape("star", 36),
    "cross": Shape("cross", 15),
    "heart": Shape("heart", 20, orients=True),
    "ring": Shape("ring", 180),
    "crescent": Shape("crescent", 30, orients=True, heading="rightward"),
    "diamond": Shape("diamond", 15),
    "arrow": Shape("arrow", 30, orients=True),
    "hourglass": Shape("hourglass", 20),
    "bar": Shape("bar", 30),
    "wheel": Shape("wheel", 180),
    "spiral": Shape("spiral", 40),
    "chevron": Shape("chevron", 20, orients=True),
    "anchor": Shape("anchor", 20, orients=True),
    "magnet": Shape("magnet", 20),
    "gear": Shape("gear", 180),
    "arch": Shape("arch", 20, orients=True),
    "trident": Shape("trident", 20, orients=True),
    "axe": Shape("axe", 20, orients=True, heading="leftward"),
    "bird": Shape("bird", 20, orients=True, heading="leftward"),
    "asterisk": Shape("asterisk", 10),
    "sun": Shape("sun", 180),
    "comb": Shape("comb", 20, orients=True),
    "dome": Shape("dome", 20, orients=True),
    "boat": Shape("boat", 20, orients=True),
    "propeller": Shape("propeller", 20),
    "eye": Shape("eye", 20),
    "butterfly": Shape("butterfly", 20, orients=True),
    "pie": Shape("pie", 20, orients=True, heading="rightward"),
    "plane": Shape("plane", 20, orients=True),
    "staircase": Shape("staircase", 20, orients=True, heading="rightward"),
    "bone": Shape("bone", 20),
    "mushroom": Shape("mushroom", 20, orients=True),
    "leaf": Shape("leaf", 20),
    "snake": Shape("snake", 20),
    "flag": Shape("flag", 20, orients=True, heading="rightward"),
    "lock": Shape("lock", 20, orients=True),
    "bulb": Shape("bulb", 20, orients=True),
    "car": Shape("car", 20, orients=True, heading="leftward"),
    "frame": Shape("frame", 15),
    "cat": Shape("cat", 20, orients=True),
    "puzzle": Shape("puzzle", 20),
    "crown": Shape("crown", 20, orients=True),
    "castle": Shape("castle", 20, orients=True),
    "key": Shape("key", 20, orients=True, heading="rightward"),
    "house": Shape("house", 20, orients=True),
    "fish": Shape("fish", 20, orients=True, heading="leftward"),
    "hook": Shape("hook", 20, orients=True),
}

SOLIDS: dict[str, Solid] = {
    "sphere": Solid("circle", "revolve", rounding=0.0),
    "cube": Solid("square", "extrude", height=1.4142),
    "cylinder": Solid("circle", "extrude", height=1.6),
    "cone": Solid("circle", "taper", height=1.8, top=0.0),
    "torus": Solid("tube", "revolve", rounding=0.0),
    "pyramid": Solid("square", "taper", height=1.5, top=0.0),
    "prism": Solid("triangle", "stand", height=1.2, max_turn=25),
    "capsule": Solid("pill", "revolve", rounding=0.0),
    "star": Solid("star", "stand", height=0.5, max_turn=25),
    "cross": Solid("cross", "stand", height=0.5, max_turn=25),
    "heart": Solid("heart", "stand", height=0.5, max_turn=25),
    "mushroom": Solid("mushroom", "revolve", rounding=0.0),
    "ring": Solid("ring", "stand", height=0.4, max_turn=25),
    "goblet": Solid("goblet", "revolve", rounding=0.0),
    "arrow": Solid("arrow", "extrude", height=0.5, max_turn=25, orients=True),
    "hourglass": Solid("hourglass", "revolve", rounding=0.0),
    "gear": Solid("gear", "stand", height=0.5, max_turn=25),
    "diamond": Solid("diamond", "revolve", rounding=0.0),
    "crescent": Solid("crescent", "extrude", height=0.5, max_turn=25, orients=True, heading="rightward"),
    "dome": Solid("dome", "revolve", rounding=0.0),
    "house": Solid("house", "stand", height=0.8, max_turn=25),
    "tree": Solid("tree", "revolve", rounding=0.0),
    "arch": Solid("arch", "stand", height=0.5, max_turn=25),
    "pawn": Solid("pawn", "revolve", rounding=0.0),
    "staircase": Solid("staircase", "stand", height=1.0, max_turn=25, orients=True, heading="rightward"),
    "bell": Solid("bell", "revolve", rounding=0.0),
    "wheel": Solid("wheel", "stand", height=0.3, max_turn=25),
    "chevron": Solid("chevron", "extrude", height=0.5, max_turn=25, orients=True),
    "hat": Solid("hat", "revolve", rounding=0.0),
    "magnet": Solid("magnet", "extrude", height=0.5, max_turn=25, orients=True),
    "car": Solid("car", "stand", height=0.8, max_turn=25),
    "anchor": Solid("anchor", "stand", height=0.4, max_turn=25),
    "fish": Solid("fish", "stand", height=0.4, max_turn=25),
    "bird": Solid("bird", "stand", height=0.4, max_turn=25),
    "cat": Solid("cat", "stand", height=0.5, max_turn=25),
    "butterfly": Solid("butterfly", "stand", height=0.3, max_turn=25),
    "plane": Solid("plane", "extrude", height=0.45, max_turn=25, orients=True),
    "key": Solid("key", "stand", height=0.3, max_turn=25),
    "bone": Solid("bone", "stand", height=0.5, max_turn=25),
    "flag": Solid("flag", "stand", height=0.3, max_turn=25),
    "lock": Solid("lock", "stand", height=0.4, max_turn=25),
    "frame": Solid("frame", "stand", height=0.4, max_turn=25),
    "comb": Solid("comb", "stand", height=0.4, max_turn=25),
    "spiral": Solid("spiral", "stand", height=0.4, max_turn=25),
    "propeller": Solid("propeller", "stand", height=0.4, max_turn=25),
    "boat": Solid("boat", "stand", height=0.4, max_turn=25),
    "leaf": Solid("leaf", "stand", height=0.3, max_turn=25),
    "boot": Solid("boot", "stand", height=0.6, max_turn=25, orients=True, heading="rightward"),
    "chair": Solid("chair", "stand", height=0.9, max_turn=25, orients=True, heading="rightward"),
    "castle": Solid("castle", "stand", height=0.6, max_turn=25),
}

"""The outlines themselves: each function returns the polygons of one profile, x right, y down, in the unit circle.

The first polygon is filled, every further one lies inside it and is cut out. Most outlines are drawn in convenient
units and then brought into the unit circle by `_fitted`.
"""

from collections.abc import Sequence

import numpy as np

Polygons = list[np.ndarray]
Points = Sequence[tuple[float, float]] | np.ndarray

_ARC_STEPS = 48


def _arc(
    radius: float, start: float, stop: float, center: tuple[float, float] = (0.0, 0.0), steps: int = _ARC_STEPS
) -> np.ndarray:
    """Points [steps, 2] on an arc, angles in degrees from the x axis, clockwise on the screen."""
    angles = np.radians(np.linspace(start, stop, steps))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius + np.array(center)


def _regular(corners: int, radius: float, start: float) -> np.ndarray:
    angles = np.radians(start + 360 / corners * np.arange(corners))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius


def _disc(radius: float, center: tuple[float, float] = (0.0, 0.0), steps: int = 32) -> np.ndarray:
    return _regular(steps, radius, 0) + np.array(center)


def _box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _mirrored(*right: Points) -> np.ndarray:
    """The polygon that is its own mirror image, from its right half from top to bottom, given in pieces."""
    half = np.concatenate([np.asarray(piece, dtype=float).reshape(-1, 2) for piece in right])
    left = half[half[:, 0] > 1e-9][::-1] * [-1.0, 1.0]
    return np.concatenate([half, left])


def _turned(piece: Points, times: int) -> np.ndarray:
    """The polygon made of `times` copies of a piece, turned clockwise around the origin."""
    copies = []
    for angle in 2 * np.pi / times * np.arange(times):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        copies.append(np.asarray(piece, dtype=float) @ turn)
    return np.concatenate(copies)


def _fitted(*polygons: np.ndarray) -> Polygons:
    """Polygons moved and scaled so that the smallest circle around them is the unit circle.

    What is symmetric to the y axis stays so. The circle's centre is found by steps toward the farthest point
    (Badoiu and Clarkson 2003); the scale makes the farthest point lie on the circle.
    """
    points, center = polygons[0], polygons[0].mean(axis=0)
    symmetric = abs(points[:, 0].min() + points[:, 0].max()) < 1e-9
    for step in range(400):
        far = points[np.linalg.norm(points - center, axis=1).argmax()]
        center = center + (far - center) / (step + 2)
        if symmetric:
            center[0] = 0.0
    scale = np.linalg.norm(points - center, axis=1).max()
    return [(polygon - center) / scale for polygon in polygons]


def circle() -> Polygons:
    """A disc."""
    return [_arc(0.88, 0, 360)]


def square() -> Polygons:
    """A square on its side."""
    return [_regular(4, 1.0, 45)]


def triangle() -> Polygons:
    """An equilateral triangle, tip up."""
    return [_regular(3, 1.0, -90)]


def star() -> Polygons:
    """A star of five points."""
    points = np.empty((10, 2))
    points[::2], points[1::2] = _regular(5, 1.0, -90), _regular(5, 0.42, -54)
    return [points]


def cross() -> Polygons:
    """A Greek cross."""
    arm, reach = 0.28, 0.95
    quarter = np.array([[arm, -reach], [arm, -arm], [reach, -arm]])
    turn = np.array([[0, -1], [1, 0]])
    return [np.concatenate([quarter @ np.linalg.matrix_power(turn, n).T for n in range(4)])]


def heart() -> Polygons:
    """A heart, tip down."""
    t = np.linspace(0, 2 * np.pi, _ARC_STEPS, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return [np.stack([x, y - 2.5], axis=1) / 18.3]


def ring() -> Polygons:
    """A disc with a round hole."""
    return [_arc(0.92, 0, 360), _arc(0.5, 0, 360)]


def crescent() -> Polygons:
    """A disc of radius 0.95 without a disc of radius 0.8 that is moved to the right."""
    outer, inner, shift = 0.95, 0.8, 0.55
    x = (outer**2 - inner**2 + shift**2) / (2 * shift)
    y = np.sqrt(outer**2 - x**2)
    tip_outer, tip_inner = np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(y, x - shift))
    back = _arc(outer, tip_outer, 360 - tip_outer)
    front = _arc(inner, 360 - tip_inner, tip_inner, (shift, 0.0))
    return [np.concatenate([back, front])]


def diamond() -> Polygons:
    """A rhombus on its tip."""
    return [np.array([[0.0, -1.0], [0.58, 0.0], [0.0, 1.0], [-0.58, 0.0]])]


def arrow() -> Polygons:
    """An arrow, head up."""
    half = np.array([[0.0, -1.0], [0.75, -0.15], [0.27, -0.15], [0.27, 0.95]])
    return [np.concatenate([half, half[:0:-1] * [-1.0, 1.0]])]


def hourglass() -> Polygons:
    """Two triangles, tip to tip."""
    half = np.array([[0.7, -0.7], [0.1, 0.0], [0.7, 0.7]])
    return [np.concatenate([half, half[::-1] * [-1.0, 1.0]])]


def bar() -> Polygons:
    """A long rectangle."""
    return [np.array([[-0.95, -0.28], [0.95, -0.28], [0.95, 0.28], [-0.95, 0.28]])]


def tube() -> Polygons:
    """The cut through one side of a torus: a disc beside the axis."""
    return [_arc(0.27, 0, 360, (0.65, 0.0))]


def pill() -> Polygons:
    """A rectangle with half discs for ends."""
    return [np.concatenate([_arc(0.45, 180, 360, (0.0, -0.53)), _arc(0.45, 0, 180, (0.0, 0.53))])]


def dome() -> Polygons:
    """The upper half of a disc."""
    return _fitted(_arc(1.0, 180, 360))


def gear() -> Polygons:
    """A wheel with eight teeth and a hole."""
    tooth = np.concatenate([_arc(1.0, -11, 11, steps=3), _arc(0.72, 18, 27, steps=3)])
    return [_turned(tooth, 8), _disc(0.3)]


def house() -> Polygons:
    """A house with a gable and a door."""
    return _fitted(_mirrored([(0.0, -1.0), (1.0, -0.2), (0.75, -0.2), (0.75, 0.8)]), _box(-0.2, 0.2, 0.2, 0.75))


def chevron() -> Polygons:
    """A bent bar, tip up."""
    return _fitted(_mirrored([(0.0, -0.75), (0.95, 0.15), (0.95, 0.75), (0.0, -0.12)]))


def arch() -> Polygons:
    """A round arch, open below."""
    outer, inner = _arc(0.8, -90, 0, (0.0, -0.1), 16), _arc(0.38, 0, -90, (0.0, -0.1), 12)
    return _fitted(_mirrored(outer, [(0.8, 0.9), (0.38, 0.9)], inner))


def magnet() -> Polygons:
    """A horseshoe, open above."""
    outer, inner = _arc(0.85, 0, 90, (0.0, 0.0), 16), _arc(0.3, 90, 0, (0.0, 0.0), 12)
    return _fitted(_mirrored(inner, [(0.3, -0.9), (0.85, -0.9)], outer))


def comb() -> Polygons:
    """A bar with three teeth below."""
    return _fitted(_mirrored([(0.9, -0.75), (0.9, 0.75), (0.6, 0.75), (0.6, -0.15), (0.2, -0.15), (0.2, 0.75)]))


def key() -> Polygons:
    """A key, its bow to the left."""
    bow = _arc(0.45, 20, 340, (-0.55, 0.0), 28)
    shaft = [(1.0, -0.15), (1.0, 0.45), (0.78, 0.45), (0.78, 0.15), (0.6, 0.15), (0.6, 0.4), (0.38, 0.4), (0.38, 0.15)]
    return _fitted(np.concatenate([bow, shaft]), _disc(0.2, (-0.62, 0.0), 20))


def bone() -> Polygons:
    """A bone, lying."""
    knob = [_arc(0.3, 150, 345, (0.75, -0.28), 14), _arc(0.3, 15, 210, (0.75, 0.28), 14)]
    right = np.concatenate([knob[0], knob[1]])
    return _fitted(np.concatenate([right, -right]))


def fish() -> Polygons:
    """A fish that swims to the left."""
    body = [(-0.95, 0.0), (-0.6, -0.34), (-0.15, -0.48), (0.25, -0.32), (0.52, -0.1), (0.95, -0.55)]
    back = [(0.8, 0.0), (0.95, 0.55), (0.52, 0.1), (0.25, 0.32), (-0.15, 0.48), (-0.6, 0.34)]
    return _fitted(np.array(body + back), _disc(0.09, (-0.58, -0.1), 12))


def leaf() -> Polygons:
    """A pointed leaf with a stem, leaning to the right."""
    upright = _mirrored([(0.0, -0.8)], _arc(0.94, -56, 52, (-0.5, 0.0), 16), [(0.06, 1.2)])
    return _fitted(upright @ np.array([[1.0, 1.0], [-1.0, 1.0]]))


def mushroom() -> Polygons:
    """A half disc on a stem."""
    cap = _arc(0.8, -90, 0, (0.0, -0.2), 20)
    return _fitted(_mirrored(cap, [(0.8, -0.1), (0.26, -0.1), (0.26, 1.0)]))


def bell() -> Polygons:
    """A bell with a clapper."""
    half = [(0.0, -0.95), (0.3, -0.85), (0.48, -0.55), (0.52, 0.0), (0.62, 0.32), (0.9, 0.6), (0.22, 0.6)]
    return _fitted(_mirrored(half, _arc(0.22, 0, 90, (0.0, 0.66), 8)))


def crown() -> Polygons:
    """A crown with three points."""
    return _fitted(_mirrored([(0.0, -0.6), (0.35, 0.05), (0.9, -0.6), (0.75, 0.65)]))


def axe() -> Polygons:
    """An axe, its blade to the left."""
    blade = _arc(0.8, 142, 218, (0.1, -0.42), 12)
    handle = [(0.0, -0.62), (0.0, -1.0), (0.28, -1.0), (0.28, 1.0), (0.0, 1.0), (0.0, -0.22)]
    return _fitted(np.concatenate([blade, handle]))


def boat() -> Polygons:
    """A boat with one sail."""
    points = [(-0.06, -1.0), (0.62, 0.2), (0.06, 0.2), (0.06, 0.35), (0.95, 0.35), (0.6, 0.85), (-0.6, 0.85)]
    return _fitted(np.array([*points, (-0.95, 0.35), (-0.06, 0.35)]))


def tree() -> Polygons:
    """A fir with three tiers."""
    half = [(0.0, -1.0), (0.45, -0.4), (0.22, -0.4), (0.62, 0.12), (0.34, 0.12), (0.8, 0.68), (0.16, 0.68), (0.16, 1.0)]
    return _fitted(_mirrored(half))


def castle() -> Polygons:
    """A tower with battlements."""
    top = [(0.0, -0.65), (0.22, -0.65), (0.22, -0.95), (0.7, -0.95), (0.7, -0.25), (0.5, -0.25), (0.5, 0.6), (0.8, 0.6)]
    return _fitted(_mirrored(top, [(0.8, 0.95)]))


def staircase() -> Polygons:
    """Three steps that rise to the right."""
    steps = [(-0.85, 0.45), (-0.28, 0.45), (-0.28, -0.05), (0.28, -0.05), (0.28, -0.6), (0.85, -0.6), (0.85, 0.9)]
    return _fitted(np.array([*steps, (-0.85, 0.9)]))


def frame() -> Polygons:
    """A square with a square hole."""
    return [_regular(4, 1.0, 45), _regular(4, 0.55, 45)]


def wheel() -> Polygons:
    """A wheel with four spokes."""
    quarter = np.concatenate([_arc(0.68, 14, 76, steps=8), [(0.16, 0.16)]])
    return [_disc(0.95, steps=40), *(_turned(quarter, 4).reshape(4, -1, 2))]


def propeller() -> Polygons:
    """Three blades."""
    blade = [(0.14, 0.05), (0.45, -0.75), (0.3, -0.98), (-0.1, -0.98), (-0.25, -0.75)]
    return _fitted(_turned(blade[::-1], 3))


def spiral() -> Polygons:
    """One and three quarter turns of a spiral."""
    t = np.linspace(0.7 * np.pi, 4.2 * np.pi, 46)
    outward = np.stack([np.cos(t), np.sin(t)], axis=1)
    radius, width = 0.068 * t, 0.13
    return _fitted(np.concatenate([outward * (radius + width)[:, None], (outward * (radius - width)[:, None])[::-1]]))


def sun() -> Polygons:
    """A star of ten points with a hole."""
    return [_turned([(0.0, -1.0), (0.19, -0.6)], 10), _disc(0.3)]


def asterisk() -> Polygons:
    """Six arms."""
    arm = np.array([(0.17, -0.3), (0.17, -1.0), (-0.17, -1.0)])
    return _fitted(_turned(arm[::-1], 6))


def puzzle() -> Polygons:
    """A piece of a jigsaw puzzle."""
    knob = _arc(0.26, 150, 390, (0.0, -0.78), 14)
    top = np.concatenate([[(-0.62, -0.62)], knob, [(0.62, -0.62)]])
    return _fitted(np.concatenate([top, _arc(0.24, -60, -300, (0.5, 0.05), 14), [(0.62, 0.72), (-0.62, 0.72)]]))


def anchor() -> Polygons:
    """An anchor."""
    right = [
        (0.1, -0.52),
        (0.42, -0.52),
        (0.42, -0.3),
        (0.1, -0.3),
        (0.1, 0.62),
        (0.45, 0.48),
        (0.62, 0.25),
        (0.5, 0.2),
    ]
    tail = [(0.8, -0.08), (0.95, 0.3), (0.82, 0.28), (0.6, 0.68), (0.28, 0.9), (0.0, 1.0)]
    return _fitted(_mirrored(_arc(0.24, -90, 65, (0.0, -0.75), 12), right, tail), _disc(0.1, (0.0, -0.75), 12))


def lock() -> Polygons:
    """A padlock."""
    outer, inner = _arc(0.5, -90, 0, (0.0, -0.3), 10), _arc(0.26, 180, 360, (0.0, -0.3), 14)
    body = [(0.5, -0.05), (0.75, -0.05), (0.75, 0.95)]
    return _fitted(_mirrored(outer, body), np.concatenate([inner, [(0.26, -0.05), (-0.26, -0.05)]]))


def plane() -> Polygons:
    """An aeroplane from above, nose up."""
    half = [
        (0.0, -1.0),
        (0.13, -0.75),
        (0.14, -0.3),
        (0.95, 0.15),
        (0.95, 0.38),
        (0.14, 0.15),
        (0.1, 0.6),
        (0.42, 0.82),
    ]
    return _fitted(_mirrored(half, [(0.42, 0.98), (0.0, 0.88)]))


def car() -> Polygons:
    """A car from the side."""
    top = [(-0.98, -0.05), (-0.62, -0.1), (-0.38, -0.5), (0.3, -0.5), (0.6, -0.1), (0.98, 0.0), (0.98, 0.35)]
    wheels = np.concatenate([_arc(0.24, -10, 190, (0.52, 0.35), 12), _arc(0.24, -10, 190, (-0.52, 0.35), 12)])
    return _fitted(np.concatenate([top, wheels, [(-0.98, 0.35)]]))


def hat() -> Polygons:
    """A top hat."""
    return _fitted(_mirrored([(0.5, -0.65), (0.46, 0.2), (0.95, 0.25), (0.95, 0.55)]))


def boot() -> Polygons:
    """A boot, its toe to the right."""
    points = [(-0.55, -0.95), (0.1, -0.95), (0.1, 0.1), (0.65, 0.28), (0.85, 0.55), (0.85, 0.9), (-0.55, 0.9)]
    return _fitted(np.array(points))


def chair() -> Polygons:
    """A chair from the side, its back to the left."""
    back = [(-0.65, -1.0), (-0.35, -1.0), (-0.35, -0.05), (0.65, -0.05), (0.65, 0.95), (0.38, 0.95), (0.38, 0.28)]
    return _fitted(np.array([*back, (-0.38, 0.28), (-0.38, 0.95), (-0.65, 0.95)]))


def butterfly() -> Polygons:
    """A butterfly."""
    wing = [
        (0.08, -0.25),
        (0.45, -0.75),
        (0.9, -0.72),
        (0.88, -0.25),
        (0.5, 0.05),
        (0.72, 0.4),
        (0.5, 0.75),
        (0.2, 0.55),
    ]
    return _fitted(_mirrored([(0.0, -0.4)], wing, [(0.08, 0.3), (0.0, 0.6)]))


def bird() -> Polygons:
    """A bird that looks to the left."""
    points = [(-0.95, -0.35), (-0.7, -0.6), (-0.42, -0.55), (-0.2, -0.15), (0.35, -0.1), (0.95, -0.45), (0.75, 0.15)]
    return _fitted(np.array([*points, (0.3, 0.5), (-0.3, 0.5), (-0.62, 0.1), (-0.68, -0.25)]))


def flag() -> Polygons:
    """A pennant on a pole."""
    return _fitted(np.array([(-0.6, -1.0), (0.85, -0.5), (-0.38, 0.0), (-0.38, 1.0), (-0.6, 1.0)]))


def hook() -> Polygons:
    """A hook, open to the left."""
    outer, inner = _arc(0.62, 0, 180, (0.0, 0.3), 20), _arc(0.3, 180, 0, (0.0, 0.3), 14)
    return _fitted(np.concatenate([[(0.62, -0.95)], outer, inner, [(0.3, -0.95)]]))


def cat() -> Polygons:
    """The head of a cat."""
    face = _arc(0.72, -15, 90, (0.0, 0.2), 14)
    return _fitted(_mirrored([(0.0, -0.5), (0.28, -0.46), (0.72, -0.95)], face))


def pie() -> Polygons:
    """A disc without a quarter, open to the right."""
    return [np.concatenate([[(0.0, 0.0)], _arc(0.97, 35, 325, steps=36)])]


def goblet() -> Polygons:
    """A cup on a foot."""
    half = [(0.62, -0.95), (0.6, -0.5), (0.45, -0.15), (0.12, 0.08), (0.12, 0.68), (0.55, 0.85), (0.55, 0.98)]
    return _fitted(_mirrored(half))


def eye() -> Polygons:
    """A lens with a round hole."""
    lid = _arc(1.12, 213, 327, (0.0, 0.6), 18)
    return _fitted(np.concatenate([lid, -lid]), _disc(0.26, steps=20))


def trident() -> Polygons:
    """A fork with three prongs."""
    half = [
        (0.13, -0.95),
        (0.13, -0.2),
        (0.5, -0.2),
        (0.5, -0.95),
        (0.78, -0.95),
        (0.78, 0.1),
        (0.13, 0.1),
        (0.13, 0.95),
    ]
    return _fitted(_mirrored(half))


def pawn() -> Polygons:
    """A pawn of a game of chess."""
    head = _arc(0.36, -90, 50, (0.0, -0.62), 14)
    return _fitted(_mirrored(head, [(0.2, -0.2), (0.34, 0.5), (0.62, 0.68), (0.62, 0.98)]))


def bulb() -> Polygons:
    """A light bulb, socket down."""
    glass = _arc(0.68, -90, 48, (0.0, -0.3), 18)
    return _fitted(_mirrored(glass, [(0.3, 0.45), (0.3, 0.9), (0.14, 1.0)]))


def snake() -> Polygons:
    """A winding band."""
    t = np.linspace(-1, 1, 24)
    x, wide = 0.42 * np.sin(np.pi * t), 0.27
    return _fitted(np.concatenate([np.stack([x + wide, t], 1), np.stack([x - wide, t], 1)[::-1]]))

"""The one table of outlines: name -> polygons inside the unit circle, for the flat shapes and the solids alike.

To add an outline, write a function that returns polygons (each a float array [k, 2], x right, y down, its last point
joined to its first; the first polygon is filled, every further one lies inside it and is cut out) and add a line to
PROFILES. The flat style fills the polygons; the 3-D style samples their signed distance, which costs the same for any
outline.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

Polygons = list[np.ndarray]

SDF_REACH = 1.2  # signed distances are given on the square [-SDF_REACH, SDF_REACH]^2

_ARC_STEPS = 48


@dataclass(frozen=True)
class Profile:
    """One outline: a function that returns its polygons."""

    polygons: Callable[[], Polygons]


@lru_cache(maxsize=256)
def profile_sdf(name: str, size: int = 128) -> np.ndarray:
    """float32 [size, size]: exact signed distance to the outline `name`, negative inside; read-only.

    Entry [i, j] belongs to the point x = t_j, y = t_i with t = linspace(-SDF_REACH, SDF_REACH, size), y down.
    """
    ticks = np.linspace(-SDF_REACH, SDF_REACH, size)
    points = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    square, inside = np.full(len(points), np.inf), np.zeros(len(points), dtype=bool)
    for polygon in PROFILES[name].polygons():
        for a, b in zip(polygon, np.roll(polygon, -1, axis=0)):
            edge, to_point = b - a, points - a
            length = edge @ edge
            share = np.clip(to_point @ edge / length, 0, 1) if length else np.zeros(len(points))
            square = np.minimum(square, ((to_point - share[:, None] * edge) ** 2).sum(axis=1))
            if a[1] != b[1]:  # even-odd rule: count the edges to the right of the point
                crosses = (a[1] > points[:, 1]) != (b[1] > points[:, 1])
                inside ^= crosses & (points[:, 0] < a[0] + (points[:, 1] - a[1]) / (b[1] - a[1]) * edge[0])
    distance = np.where(inside, -np.sqrt(square), np.sqrt(square)).astype(np.float32).reshape(size, size)
    distance.setflags(write=False)
    return distance


def _arc(radius: float, start: float, stop: float, center: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Points on an arc, angles in degrees from the x axis, clockwise on the screen."""
    angles = np.radians(np.linspace(start, stop, _ARC_STEPS))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius + np.array(center)


def _regular(corners: int, radius: float, start: float) -> np.ndarray:
    angles = np.radians(start + 360 / corners * np.arange(corners))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius


def _mirrored(half: list[tuple[float, float]]) -> np.ndarray:
    """The polygon whose right half, from top to bottom, is given; points on the axis occur once."""
    right = np.array(half)
    left = right[right[:, 0] > 0][::-1] * [-1.0, 1.0]
    return np.concatenate([right, left])


def _circle() -> Polygons:
    return [_arc(0.88, 0, 360)]


def _square() -> Polygons:
    return [_regular(4, 1.0, 45)]


def _triangle() -> Polygons:
    return [_regular(3, 1.0, -90)]


def _star() -> Polygons:
    points = np.empty((10, 2))
    points[::2], points[1::2] = _regular(5, 1.0, -90), _regular(5, 0.42, -54)
    return [points]


def _cross() -> Polygons:
    arm, reach = 0.28, 0.95
    quarter = np.array([[arm, -reach], [arm, -arm], [reach, -arm]])
    turn = np.array([[0, -1], [1, 0]])
    return [np.concatenate([quarter @ np.linalg.matrix_power(turn, n).T for n in range(4)])]


def _heart() -> Polygons:
    t = np.linspace(0, 2 * np.pi, _ARC_STEPS, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return [np.stack([x, y - 2.5], axis=1) / 18.3]


def _ring() -> Polygons:
    return [_arc(0.92, 0, 360), _arc(0.5, 0, 360)]


def _crescent() -> Polygons:
    """A disc of radius 0.95 without a disc of radius 0.8 that is moved to the right."""
    outer, inner, shift = 0.95, 0.8, 0.55
    x = (outer**2 - inner**2 + shift**2) / (2 * shift)
    y = np.sqrt(outer**2 - x**2)
    tip_outer, tip_inner = np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(y, x - shift))
    back = _arc(outer, tip_outer, 360 - tip_outer)
    front = _arc(inner, 360 - tip_inner, tip_inner, (shift, 0.0))
    return [np.concatenate([back, front])]


def _diamond() -> Polygons:
    return [np.array([[0.0, -1.0], [0.58, 0.0], [0.0, 1.0], [-0.58, 0.0]])]


def _arrow() -> Polygons:
    half = np.array([[0.0, -1.0], [0.75, -0.15], [0.27, -0.15], [0.27, 0.95]])
    return [np.concatenate([half, half[:0:-1] * [-1.0, 1.0]])]


def _hourglass() -> Polygons:
    half = np.array([[0.7, -0.7], [0.1, 0.0], [0.7, 0.7]])
    return [np.concatenate([half, half[::-1] * [-1.0, 1.0]])]


def _bar() -> Polygons:
    return [np.array([[-0.95, -0.28], [0.95, -0.28], [0.95, 0.28], [-0.95, 0.28]])]


def _tube() -> Polygons:
    """The cut through one side of a torus: a disc beside the axis."""
    return [_arc(0.27, 0, 360, (0.65, 0.0))]


def _pill() -> Polygons:
    return [np.concatenate([_arc(0.45, 180, 360, (0.0, -0.53)), _arc(0.45, 0, 180, (0.0, 0.53))])]


PROFILES: dict[str, Profile] = {
    "circle": Profile(_circle),
    "square": Profile(_square),
    "triangle": Profile(_triangle),
    "star": Profile(_star),
    "cross": Profile(_cross),
    "heart": Profile(_heart),
    "ring": Profile(_ring),
    "crescent": Profile(_crescent),
    "diamond": Profile(_diamond),
    "arrow": Profile(_arrow),
    "hourglass": Profile(_hourglass),
    "bar": Profile(_bar),
    "tube": Profile(_tube),
    "pill": Profile(_pill),
}

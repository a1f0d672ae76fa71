"""The flat shapes, as one table: name -> polygons inside the unit circle and how far the shape may turn.

To add a shape, write a function that returns polygons (each a float array [k, 2], x right, y down; the first is
filled, every further one is cut out) and add a line to SHAPES. The turn is limited so that no turned shape looks like
another one. A config that asks for n shapes gets the first n.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Polygons = list[np.ndarray]

_ARC_STEPS = 48


@dataclass(frozen=True)
class Shape:
    """One shape: its polygons in the unit circle, and the largest angle, in degrees, by which it may be turned."""

    polygons: Callable[[], Polygons]
    max_turn: float


def _arc(radius: float, start: float, stop: float, center: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Points on an arc, angles in degrees from the x axis, clockwise on the screen."""
    angles = np.radians(np.linspace(start, stop, _ARC_STEPS))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius + np.array(center)


def _regular(corners: int, radius: float, start: float) -> np.ndarray:
    angles = np.radians(start + 360 / corners * np.arange(corners))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius


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


SHAPES: dict[str, Shape] = {
    "circle": Shape(_circle, 180),
    "square": Shape(_square, 15),
    "triangle": Shape(_triangle, 20),
    "star": Shape(_star, 36),
    "cross": Shape(_cross, 15),
    "heart": Shape(_heart, 20),
    "ring": Shape(_ring, 180),
    "crescent": Shape(_crescent, 30),
    "diamond": Shape(_diamond, 15),
    "arrow": Shape(_arrow, 30),
    "hourglass": Shape(_hourglass, 20),
    "bar": Shape(_bar, 30),
}

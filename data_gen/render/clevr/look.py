"""Camera and lights of a scene, from its jitter: CLEVR's camera and its key, fill and back light."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data_gen.config import ClevrConfig

SIDE = 6.0  # of the square on the ground on which objects stand; CLEVR's is 6 wide too
NUM_DRAWS = 16  # uniform numbers for each scene

_DISTANCE = 11.5  # of the camera from the square's middle
_ELEVATION = 39.0  # degrees above the ground
_FILL = 0.94  # share of the picture's width that the square's near edge takes

# Places, strengths at the origin, and radii as seen from there (as tangents) of the key, fill and back light.
_PLACES = np.array([[-4.6, 8.2, 4.4], [5.6, 7.4, 4.0], [-2.2, 7.6, -6.8]])
_STRENGTHS = np.array([0.92, 0.22, 0.3])
_SPREADS = np.array([0.1, 0.16, 0.14])
_PLACE_JITTER = 1.0
_STRENGTH_JITTER = 0.08


@dataclass(frozen=True)
class Look:
    """Cameras and lights of n scenes, float64.

    eye, forward, right, up: [n, 3], where right and up reach to the picture's borders at distance 1 along forward.
    places, strengths: of the three lights, [n, 3, 3] and [n, 3]; spreads: tangents of their radii, [3].
    """

    eye: np.ndarray
    forward: np.ndarray
    right: np.ndarray
    up: np.ndarray
    places: np.ndarray
    strengths: np.ndarray
    spreads: np.ndarray


def look_of(draws: np.ndarray, config: ClevrConfig, tallest: float) -> Look:
    """The look of scenes with these uniform draws [n, NUM_DRAWS]; `tallest` is the height of the tallest object."""
    signed = 2 * draws - 1
    eye, forward, right, up = _cameras(signed[:, :4] * config.camera_jitter, tallest)
    places = _PLACES + _PLACE_JITTER * config.light_jitter * signed[:, 4:13].reshape(-1, 3, 3)
    strengths = _STRENGTHS * (1 + _STRENGTH_JITTER * config.light_jitter * signed[:, 13:16])
    return Look(eye, forward, right, up, places, strengths, _SPREADS)


def _cameras(signed: np.ndarray, tallest: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cameras that move by `signed` [n, 4] in -1..1: sideways, up, away, and sideways with what they look at."""
    aim, zoom = _framing(tallest)
    elevation = math.radians(_ELEVATION)
    eye = np.array([0.0, _DISTANCE * math.sin(elevation), _DISTANCE * math.cos(elevation)])
    eye = eye + signed[:, :3] * [0.5, 0.4, 0.4]
    target = np.zeros_like(eye)
    target[:, 0], target[:, 2] = eye[:, 0] + 0.12 * signed[:, 3], aim
    forward = _unit(target - eye)
    right = _unit(np.cross(forward, [0.0, 1.0, 0.0]))
    return eye, forward, right * zoom, np.cross(right, forward) * zoom


@lru_cache(maxsize=32)
def _framing(tallest: float) -> tuple[float, float]:
    """Where on the ground's middle line the camera looks, and the tangent of half its field of view.

    The near edge of the square and the heads of the tallest objects at the far edge lie equally far from the
    picture's middle, and the near edge fills the share _FILL of the width.
    """
    elevation = math.radians(_ELEVATION)
    height, back = _DISTANCE * math.sin(elevation), _DISTANCE * math.cos(elevation)
    below = math.atan2(height, back - SIDE / 2)
    above = math.atan2(height - tallest, back + SIDE / 2)
    middle = (below + above) / 2
    aim = back - height / math.tan(middle)
    depth = (back - SIDE / 2) * math.cos(middle) + height * math.sin(middle)
    wide = SIDE / 2 / depth / _FILL
    high = math.tan((below - above) / 2) / _FILL
    return aim, max(wide, high)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

"""The one table of outlines: name -> polygons inside the unit circle, for the flat shapes and the solids alike.

To add an outline, write a function in `outlines` that returns polygons (each a float array [k, 2], x right, y down, its
last point joined to its first; the first polygon is filled, every further one lies inside it and is cut out) and add
it to PROFILES. The flat style fills the polygons; the 3-D style samples their signed distance, which costs the same
for any outline.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from data_gen.render import outlines
from data_gen.render.outlines import Polygons

SDF_REACH = 1.2  # signed distances are given on the square [-SDF_REACH, SDF_REACH]^2


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


_OUTLINES = (
    outlines.circle,
    outlines.square,
    outlines.triangle,
    outlines.star,
    outlines.cross,
    outlines.heart,
    outlines.ring,
    outlines.crescent,
    outlines.diamond,
    outlines.arrow,
    outlines.hourglass,
    outlines.bar,
    outlines.tube,
    outlines.pill,
    outlines.dome,
    outlines.gear,
    outlines.house,
    outlines.chevron,
    outlines.arch,
    outlines.magnet,
    outlines.comb,
    outlines.key,
    outlines.bone,
    outlines.fish,
    outlines.leaf,
    outlines.mushroom,
    outlines.bell,
    outlines.crown,
    outlines.axe,
    outlines.boat,
    outlines.tree,
    outlines.castle,
    outlines.staircase,
    outlines.frame,
    outlines.wheel,
    outlines.propeller,
    outlines.spiral,
    outlines.sun,
    outlines.asterisk,
    outlines.puzzle,
    outlines.anchor,
    outlines.lock,
    outlines.plane,
    outlines.car,
    outlines.hat,
    outlines.boot,
    outlines.chair,
    outlines.butterfly,
    outlines.bird,
    outlines.flag,
    outlines.hook,
    outlines.cat,
    outlines.pie,
    outlines.goblet,
    outlines.eye,
    outlines.trident,
    outlines.pawn,
    outlines.bulb,
    outlines.snake,
)

PROFILES: dict[str, Profile] = {outline.__name__: Profile(cache(outline)) for outline in _OUTLINES}

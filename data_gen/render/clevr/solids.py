"""Solids as numbers for the kernels: which distance function, in which unit, how high the middle stands."""

import math
from dataclasses import dataclass, fields

import numpy as np

from data_gen.render.clevr.world import GRID, KINDS
from data_gen.render.profiles import PROFILES, profile_sdf
from data_gen.render.shapes import SOLIDS, Solid

PROFILE_SIZE = 96  # cells of a profile's grid along a side


@dataclass(frozen=True)
class SolidNumbers:
    """One solid. Lengths are in units of `unit`, which is a share of the object's radius.

    kind: index into KINDS; profile: index into PROFILES; half: half its height, its tube's radius; top: share left at
    the top, half its width, radius of its ring; convex: 1 where it cannot shade itself but by turning away.
    lift: height of its middle above the ground; bound: radius of the sphere around the middle that holds it.
    max_turn: in degrees.
    """

    unit: float
    kind: int
    profile: int
    half: float
    rounding: float
    top: float
    convex: int
    lift: float
    bound: float
    max_turn: float


SOLID_DTYPE = np.dtype([(field.name, field.type) for field in fields(SolidNumbers)])


def solid_numbers(solid: Solid) -> SolidNumbers:
    """The numbers of a solid; spheres, boxes, cylinders, cones and tori have distance functions of their own."""
    polygons = PROFILES[solid.profile].polygons()
    outline = polygons[0]
    profile = list(PROFILES).index(solid.profile)
    reach = float(np.linalg.norm(outline, axis=1).max())
    half = solid.height / 2

    def numbers(kind: str, **values: float) -> SolidNumbers:
        base = dict(unit=1.0, half=half, rounding=solid.rounding, top=solid.top, convex=0, lift=half)
        base.update(bound=math.hypot(reach, half), max_turn=solid.max_turn)
        return SolidNumbers(kind=KINDS[kind], profile=profile, **{**base, **values})  # type: ignore[arg-type]

    if solid.profile == "circle" and solid.kind in ("revolve", "extrude", "taper"):
        scaled = half / reach
        if solid.kind == "revolve":
            return numbers("sphere", unit=reach, lift=1.0, bound=1.0, convex=1)
        inside = dict(unit=reach, half=scaled, rounding=solid.rounding / reach, lift=scaled, convex=1)
        if solid.kind == "extrude":
            return numbers("cylinder", **inside, bound=math.hypot(1.0, scaled))
        if solid.top == 0.0:
            return numbers("cone", **inside, bound=math.hypot(1.0, scaled))
    if solid.profile == "square" and solid.kind == "extrude":
        return numbers("box", top=float(outline[:, 0].max()), convex=1)
    if solid.profile == "tube" and solid.kind == "revolve":
        tube = np.ptp(outline[:, 1]) / 2
        ring = float(outline[:, 0].min() + np.ptp(outline[:, 0]) / 2)
        return numbers("torus", half=float(tube), top=ring, lift=float(tube), bound=ring + float(tube))
    convex = int(len(polygons) == 1 and _is_convex(outline))
    if solid.kind in ("stand", "revolve"):
        lift = float(outline[:, 1].max())
        if solid.kind == "revolve":
            return numbers("revolve", half=float(np.abs(outline[:, 1]).max()), lift=lift, bound=reach, convex=convex)
        return numbers("stand", lift=lift, convex=convex)
    return numbers(solid.kind, convex=convex)


def profile_table() -> np.ndarray:
    """float32 [P, PROFILE_SIZE, PROFILE_SIZE]: signed distances of all profiles that a general solid samples."""
    used = {solid.profile for solid in SOLIDS.values()}
    empty = np.full((PROFILE_SIZE, PROFILE_SIZE), GRID, dtype=np.float32)
    return np.stack([profile_sdf(name, PROFILE_SIZE) if name in used else empty for name in PROFILES])


def _is_convex(outline: np.ndarray) -> bool:
    edges = np.diff(outline, axis=0, append=outline[:1])
    turns = edges[:, 0] * np.roll(edges[:, 1], -1) - edges[:, 1] * np.roll(edges[:, 0], -1)
    return bool((turns >= -1e-9).all() or (turns <= 1e-9).all())

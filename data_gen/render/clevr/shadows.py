"""What objects take from a point: the share of a light that they keep off, and of the sky.

Soft shadows follow the closest approach of the ray to the light, relative to the light's angular size, from
https://iquilezles.org/articles/rmshadows/. Where an object takes nothing, the share is exactly 1, so that it has no
part in the pixel; each function says which objects do have one, as a set of bits.
"""

import warp as wp

from data_gen.render.clevr.geometry import distance, reciprocal, to_object
from data_gen.render.clevr.world import EXTRUDE, FAR, SPHERE, STAND, Thing, World


@wp.func
def lit(nearness: float):
    """Share of a round light that shows past an edge which is so many of its radii from its middle."""
    x = wp.clamp(nearness, -1.0, 1.0)
    return 1.0 - 0.25 * (1.0 - x) * (1.0 - x) * (2.0 + x)


@wp.func
def approach(
    profiles: wp.array3d(dtype=float),
    thing: Thing,
    o: wp.vec3,
    d: wp.vec3,
    start: float,
    stop: float,
    spread: float,
):
    """How near a solid comes to a ray between two points of it, in radii of the light as seen across that point.

    Distance to a convex solid is convex along a ray, and no steeper than 1: golden sections close in on its least
    value, until the ray is surely lit, surely dark, or near enough. Other solids are felt along step by step.
    """
    least = float(1.0)
    low, high = start + 0.381966 * (stop - start), start + 0.618034 * (stop - start)
    at_low = float(FAR)
    at = wp.where(thing.convex == 1, low, start)
    step = int(0)
    while at < stop:  # one place asks for the distance, since the code of it is copied there
        h = distance(profiles, thing, o + d * at)
        least = wp.min(least, h / (spread * at))
        if thing.convex == 0:
            at += wp.clamp(wp.abs(h), 0.08, 0.5)
        elif step == 0:
            at_low = h
            at = high
        else:
            # the new value is at `at`, the other inner point's is at_low
            at_high = h
            if at < high:
                at_high = at_low
                at_low = h
            if wp.min(at_low, at_high) - 0.4 * (stop - start) > spread * stop or step == 7:
                at = stop
            elif at_low < at_high:
                stop = high
                high = low
                low = start + 0.381966 * (stop - start)
                at = low
            else:
                start = low
                low = high
                at_low = at_high
                high = start + 0.618034 * (stop - start)
                at = high
        step += 1
        if least < -1.0:
            at = stop
    return least


@wp.func
def shadow(profiles: wp.array3d(dtype=float), thing: Thing, p: wp.vec3, ray: wp.vec3, spread: float, near: float):
    """Share of a round light in direction `ray`, of angular radius `spread`, that the solid leaves for point p."""
    offset = p - thing.center
    b = -wp.dot(offset, ray)
    away = wp.max(wp.dot(offset, offset) - b * b, 0.0)
    least = float(1.0)
    if thing.kind == SPHERE:
        if b > 0.0:
            least = (wp.sqrt(away) - thing.radius) / (spread * b)
    else:
        inverse = 1.0 / thing.radius
        reach = thing.bound + spread * wp.max(b, 0.0)
        root = wp.sqrt(wp.max(reach * reach - away, 0.0))
        o = to_object(thing, offset) * inverse
        d = to_object(thing, ray)
        start = wp.max(wp.max(b - root, near) * inverse, 0.01)
        stop = (b + root) * inverse
        if thing.kind >= EXTRUDE:
            # the part of the ray in the layer between the two ends, as thick as the penumbra reaches
            w, dw = o[1], d[1]
            if thing.kind == STAND:
                w, dw = o[2], d[2]
            half = thing.half + spread * stop
            turn = reciprocal(dw)
            start = wp.max(start, -w * turn - half * wp.abs(turn))
            stop = wp.min(stop, -w * turn + half * wp.abs(turn))
        if start < stop:
            least = approach(profiles, thing, o, d, start, stop, spread)
    return lit(least)


@wp.func
def left_over(world: World, b: int, p: wp.vec3, ray: wp.vec3, spread: float, objects: int, own: int):
    """Share of a round light that the set of bits `objects` leaves for p, exactly 1 for all of it, and which of them
    take any; p lies on object `own`."""
    share = float(1.0)
    touched = int(0)
    rest = int(objects)
    j = int(0)
    while rest != 0:
        if rest & 1:
            sphere = world.spheres[b, j]
            offset = p - wp.vec3(sphere[0], sphere[1], sphere[2])
            along = -wp.dot(offset, ray)
            reach = sphere[3] + spread * wp.max(along, 0.0)
            if along > -sphere[3] and wp.dot(offset, offset) - along * along < reach * reach:
                near = float(0.0)
                if j == own:
                    near = 0.1 * sphere[3]
                thing = world.things[b, j]
                left = 1.0 - thing.opacity * (1.0 - shadow(world.profiles, thing, p, ray, spread, near))
                if left < 1.0:
                    touched |= 1 << j
                    share *= left
        rest = rest >> 1
        j += 1
    return share, touched


@wp.func
def closeness(profiles: wp.array3d(dtype=float), thing: Thing, p: wp.vec3):
    """How much the solid closes the sky above point p: 1 in touch, 0 from one radius away."""
    d = distance(profiles, thing, to_object(thing, p - thing.center) / thing.radius)
    shut = 1.0 - wp.clamp(d, 0.0, 1.0)
    return shut * shut * shut


@wp.func
def opening(world: World, b: int, p: wp.vec3, objects: int, weight: float):
    """Share of the sky that the set of bits `objects` leaves open above p, exactly 1 for all, and which of them take
    any."""
    open = float(1.0)
    touched = int(0)
    rest = int(objects)
    j = int(0)
    while rest != 0:
        if rest & 1:
            sphere = world.spheres[b, j]
            offset = p - wp.vec3(sphere[0], sphere[1], sphere[2])
            reach = 2.0 * sphere[3]
            if wp.dot(offset, offset) < reach * reach:
                close = closeness(world.profiles, world.things[b, j], p)
                if close > 0.0:
                    touched |= 1 << j
                    open *= 1.0 - weight * close
        rest = rest >> 1
        j += 1
    return open, touched

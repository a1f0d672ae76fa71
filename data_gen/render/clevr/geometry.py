"""Solids as Warp functions: signed distances, where a ray enters, and normals.

All in object space, where distances are negative inside. Signed distances of boxes, cones and tori are the well-known
exact ones; general solids sample the signed distance of their outline, so that each outline costs the same.
"""

import warp as wp

from data_gen.render.clevr.world import (
    BOX,
    CONE,
    CYLINDER,
    EXTRUDE,
    FAR,
    GRID_HALF,
    REVOLVE,
    SPHERE,
    STAND,
    TAPER,
    TORUS,
    Thing,
)


@wp.func
def bilinear(table: wp.array3d(dtype=float), k: int, x: float, y: float):
    """Value of table k at column x and row y, which must lie inside."""
    i, j = int(y), int(x)
    fy, fx = y - float(i), x - float(j)
    a = table[k, i, j] + (table[k, i, j + 1] - table[k, i, j]) * fx
    b = table[k, i + 1, j] + (table[k, i + 1, j + 1] - table[k, i + 1, j]) * fx
    return a + (b - a) * fy


@wp.func
def profile_distance(profiles: wp.array3d(dtype=float), k: int, x: float, y: float):
    """Signed distance to profile k; outside its grid a lower bound, from the nearest point of the grid."""
    cx, cy = wp.clamp(x, -GRID_HALF, GRID_HALF), wp.clamp(y, -GRID_HALF, GRID_HALF)
    last = float(profiles.shape[1] - 1)
    scale = last / (2.0 * GRID_HALF)
    last -= 1.0e-3
    d = bilinear(profiles, k, wp.min((cx + GRID_HALF) * scale, last), wp.min((cy + GRID_HALF) * scale, last))
    beyond_x, beyond_y = x - cx, y - cy
    if beyond_x != 0.0 or beyond_y != 0.0:
        d = wp.sqrt(d * d + beyond_x * beyond_x + beyond_y * beyond_y)
    return d


@wp.func
def rounded(a: float, b: float, rounding: float):
    """Signed distance to the intersection of two slabs at right angles, with rounded edges."""
    a += rounding
    b += rounding
    return wp.min(wp.max(a, b), 0.0) + wp.sqrt(wp.max(a, 0.0) ** 2.0 + wp.max(b, 0.0) ** 2.0) - rounding


@wp.func
def distance(profiles: wp.array3d(dtype=float), thing: Thing, p: wp.vec3):
    """Signed distance, or a lower bound of it, from p to the solid, in object space."""
    d = float(0.0)
    if thing.kind == SPHERE:
        d = wp.length(p) - 1.0
    elif thing.kind == BOX:
        x = wp.abs(p[0]) - thing.top + thing.rounding
        y = wp.abs(p[1]) - thing.half + thing.rounding
        z = wp.abs(p[2]) - thing.top + thing.rounding
        mx, my, mz = wp.max(x, 0.0), wp.max(y, 0.0), wp.max(z, 0.0)
        d = wp.sqrt(mx * mx + my * my + mz * mz) + wp.min(wp.max(x, wp.max(y, z)), 0.0) - thing.rounding
    elif thing.kind == CYLINDER:
        d = rounded(wp.sqrt(p[0] * p[0] + p[2] * p[2]) - 1.0, wp.abs(p[1]) - thing.half, thing.rounding)
    elif thing.kind == CONE:
        d = cone_distance(wp.sqrt(p[0] * p[0] + p[2] * p[2]), p[1], thing.half - thing.rounding, thing.rounding)
    elif thing.kind == TORUS:
        ring = wp.sqrt(p[0] * p[0] + p[2] * p[2]) - thing.top
        d = wp.sqrt(ring * ring + p[1] * p[1]) - thing.half
    elif thing.kind == EXTRUDE:
        d = rounded(profile_distance(profiles, thing.profile, p[0], p[2]), wp.abs(p[1]) - thing.half, thing.rounding)
    elif thing.kind == REVOLVE:
        d = profile_distance(profiles, thing.profile, wp.sqrt(p[0] * p[0] + p[2] * p[2]), -p[1])
    elif thing.kind == TAPER:
        slope = (1.0 - thing.top) / (2.0 * thing.half)
        share = wp.clamp((p[1] + thing.half) / (2.0 * thing.half), -0.2, 1.2)
        scale = wp.max(1.0 + (thing.top - 1.0) * share, 0.03)
        side = scale * profile_distance(profiles, thing.profile, p[0] / scale, p[2] / scale)
        side = side / wp.sqrt(1.0 + slope * slope)
        d = rounded(side, wp.abs(p[1]) - thing.half, thing.rounding)
    else:
        d = rounded(profile_distance(profiles, thing.profile, p[0], -p[1]), wp.abs(p[2]) - thing.half, thing.rounding)
    return d


@wp.func
def cone_distance(r: float, y: float, half: float, rounding: float):
    """Signed distance in the half plane (r, y) to a cone of half height `half` and base radius 1 - rounding."""
    base = 1.0 - rounding
    # the point from the apex, and the slanted side from there to the rim of the base
    qx, qy = r, y - half
    sx, sy = base, -2.0 * half
    t = wp.clamp((qx * sx + qy * sy) / (sx * sx + sy * sy), 0.0, 1.0)
    ax, ay = qx - sx * t, qy - sy * t
    bx, by = qx - wp.min(qx, base), y + half
    squared = wp.min(ax * ax + ay * ay, bx * bx + by * by)
    outside = wp.max(-(qx * sy - qy * sx), -(y + half))
    return wp.sqrt(squared) * wp.sign(outside) - rounding


@wp.func
def to_object(thing: Thing, v: wp.vec3):
    """A direction of the world in object space."""
    return wp.vec3(thing.cos * v[0] + thing.sin * v[2], v[1], thing.cos * v[2] - thing.sin * v[0])


@wp.func
def to_world(thing: Thing, v: wp.vec3):
    """A direction of object space in the world."""
    return wp.vec3(thing.cos * v[0] - thing.sin * v[2], v[1], thing.sin * v[0] + thing.cos * v[2])


@wp.func
def reciprocal(x: float):
    """1 / x, of one sign's largest value where x is 0."""
    return 1.0 / wp.where(x < 0.0, wp.min(x, -1.0e-6), wp.max(x, 1.0e-6))


@wp.func
def hit_box(half: float, width: float, o: wp.vec3, d: wp.vec3):
    """Where a ray from outside enters a box, without its rounding, which only bends the normals."""
    ix, iy, iz = reciprocal(d[0]), reciprocal(d[1]), reciprocal(d[2])
    ax, ay, az = width * wp.abs(ix), half * wp.abs(iy), width * wp.abs(iz)
    enter = wp.max(wp.max(-o[0] * ix - ax, -o[1] * iy - ay), -o[2] * iz - az)
    leave = wp.min(wp.min(-o[0] * ix + ax, -o[1] * iy + ay), -o[2] * iz + az)
    return wp.where(enter < leave and enter > 0.0, enter, FAR)


@wp.func
def hit_slab(half: float, ou: float, ov: float, ow: float, du: float, dv: float, dw: float):
    """Where a ray enters and leaves the round slab u^2 + v^2 <= 1, |w| <= half; enters after it leaves if nowhere."""
    iw = reciprocal(dw)
    enter = -ow * iw - half * wp.abs(iw)
    leave = -ow * iw + half * wp.abs(iw)
    a = wp.max(du * du + dv * dv, 1.0e-9)
    b = ou * du + ov * dv
    under = b * b - a * (ou * ou + ov * ov - 1.0)
    if under > 0.0:
        root = wp.sqrt(under)
        enter = wp.max(enter, (-b - root) / a)
        leave = wp.min(leave, (-b + root) / a)
    else:
        enter = FAR
    return enter, leave


@wp.func
def hit_cone(half: float, o: wp.vec3, d: wp.vec3):
    """Where a ray from outside enters a cone of base radius 1 that stands on its base."""
    k = 0.25 / (half * half)
    y = half - o[1]
    a = d[0] * d[0] + d[2] * d[2] - k * d[1] * d[1]
    b = o[0] * d[0] + o[2] * d[2] + k * y * d[1]
    c = o[0] * o[0] + o[2] * o[2] - k * y * y
    under = b * b - a * c
    best = float(FAR)
    if under > 0.0:
        root = wp.sqrt(under)
        ia = reciprocal(a)
        for sign in range(2):
            t = (-b + root * float(2 * sign - 1)) * ia
            if t > 0.0 and t < best and wp.abs(o[1] + d[1] * t) <= half:
                best = t
    t = (-half - o[1]) * reciprocal(d[1])
    x, z = o[0] + d[0] * t, o[2] + d[2] * t
    if t > 0.0 and t < best and x * x + z * z < 1.0:
        best = t
    return best


@wp.func
def hit_prism(
    profiles: wp.array3d(dtype=float),
    thing: Thing,
    ou: float,
    ov: float,
    ow: float,
    du: float,
    dv: float,
    dw: float,
    cone: float,
):
    """Where a ray enters an outline in u and v that is thick along w, without its rounding."""
    s, leave = hit_slab(thing.half, ou, ov, ow, du, dv, dw)
    s = wp.max(s, 0.0)
    result = float(FAR)
    if s < leave:
        speed = 1.0 / wp.sqrt(wp.max(du * du + dv * dv, 1.0e-9))
        for _step in range(40):
            h = profile_distance(profiles, thing.profile, ou + du * s, ov + dv * s)
            if h < 0.25 * cone * s:
                result = s
                break
            s += h * speed
            if s > leave:
                break
    return result


@wp.func
def hit(profiles: wp.array3d(dtype=float), thing: Thing, origin: wp.vec3, ray: wp.vec3, cone: float):
    """Distance along the unit ray at which it meets the solid, FAR if it does not.

    cone: half the width of a pixel at distance 1, the precision that is asked for.
    """
    offset = origin - thing.center
    b = wp.dot(offset, ray)
    away = wp.dot(offset, offset) - b * b
    result = float(FAR)
    if thing.kind == SPHERE:
        under = thing.radius * thing.radius - away
        if under > 0.0 and -b - wp.sqrt(under) > 0.0:
            result = -b - wp.sqrt(under)
    else:
        root = wp.sqrt(wp.max(thing.bound * thing.bound - away, 0.0))
        o = to_object(thing, offset) / thing.radius
        d = to_object(thing, ray)
        s = float(FAR)
        if thing.kind == BOX:
            s = hit_box(thing.half, thing.top, o, d)
        elif thing.kind == CYLINDER:
            enter, leave = hit_slab(thing.half, o[0], o[2], o[1], d[0], d[2], d[1])
            if enter > 0.0 and enter < leave:
                s = enter
        elif thing.kind == CONE:
            s = hit_cone(thing.half, o, d)
        elif thing.kind == EXTRUDE:
            s = hit_prism(profiles, thing, o[0], o[2], o[1], d[0], d[2], d[1], cone)
        elif thing.kind == STAND:
            s = hit_prism(profiles, thing, o[0], -o[1], o[2], d[0], -d[1], d[2], cone)
        else:
            at = wp.max(-b - root, 0.0) / thing.radius
            last = (-b + root) / thing.radius
            if thing.kind == TAPER:
                at, last = hit_slab(thing.half, o[0], o[2], o[1], d[0], d[2], d[1])
                at = wp.max(at, 0.0)
                last = wp.max(last, at + 1.0e-3)
            for _step in range(40):
                h = distance(profiles, thing, o + d * at)
                if h < 0.25 * cone * at:
                    s = at
                    break
                at += h
                if at > last:
                    break
        if s < FAR:
            result = s * thing.radius
    return result


@wp.func
def slope_of(profiles: wp.array3d(dtype=float), k: int, x: float, y: float):
    """Unit gradient of a profile's distance, over about a cell of its grid."""
    e = float(0.02)
    dx = profile_distance(profiles, k, x + e, y) - profile_distance(profiles, k, x - e, y)
    dy = profile_distance(profiles, k, x, y + e) - profile_distance(profiles, k, x, y - e)
    return wp.normalize(wp.vec2(dx, dy))


@wp.func
def normal_at(profiles: wp.array3d(dtype=float), thing: Thing, p: wp.vec3):
    """Outward unit normal at p on the solid, in object space.

    Near an edge, within the rounding, the normal turns from one side's to the other's.
    """
    n = p
    ring = wp.sqrt(p[0] * p[0] + p[2] * p[2])
    out = 1.0 / wp.max(ring, 1.0e-6)
    edge = wp.max(thing.rounding, 1.0e-3)
    cap = wp.max(wp.abs(p[1]) - thing.half + edge, 0.0)
    if thing.kind == BOX:
        x = wp.max(wp.abs(p[0]) - thing.top + edge, 0.0)
        z = wp.max(wp.abs(p[2]) - thing.top + edge, 0.0)
        n = wp.vec3(x * wp.sign(p[0]), cap * wp.sign(p[1]), z * wp.sign(p[2]))
    elif thing.kind == CYLINDER:
        side = wp.max(ring - 1.0 + edge, 0.0) * out
        n = wp.vec3(p[0] * side, cap * wp.sign(p[1]), p[2] * side)
    elif thing.kind == CONE:
        low = wp.max(edge - p[1] - thing.half, 0.0)
        slant = 1.0 / wp.sqrt(1.0 + 4.0 * thing.half * thing.half)
        away = (ring - (thing.half - p[1]) / (2.0 * thing.half)) * 2.0 * thing.half * slant
        side = wp.max(away + edge, 0.0) * slant
        n = wp.vec3(p[0] * out * 2.0 * thing.half * side, side - low, p[2] * out * 2.0 * thing.half * side)
    elif thing.kind == TORUS:
        n = wp.vec3(p[0] - p[0] * out * thing.top, p[1], p[2] - p[2] * out * thing.top)
    elif thing.kind == EXTRUDE:
        side = wp.max(profile_distance(profiles, thing.profile, p[0], p[2]) + edge, 0.0)
        slope = wp.vec2(0.0, 0.0)
        if side > 0.0:
            slope = slope_of(profiles, thing.profile, p[0], p[2])
        n = wp.vec3(slope[0] * side, cap * wp.sign(p[1]), slope[1] * side)
    elif thing.kind == STAND:
        cap = wp.max(wp.abs(p[2]) - thing.half + edge, 0.0)
        side = wp.max(profile_distance(profiles, thing.profile, p[0], -p[1]) + edge, 0.0)
        slope = wp.vec2(0.0, 0.0)
        if side > 0.0:
            slope = slope_of(profiles, thing.profile, p[0], -p[1])
        n = wp.vec3(slope[0] * side, -slope[1] * side, cap * wp.sign(p[2]))
    elif thing.kind == REVOLVE:
        slope = slope_of(profiles, thing.profile, ring, -p[1])
        n = wp.vec3(p[0] * out * slope[0], -slope[1], p[2] * out * slope[0])
    elif thing.kind == TAPER:
        shrink = (thing.top - 1.0) / (2.0 * thing.half)
        scale = wp.max(1.0 + shrink * (p[1] + thing.half), 0.03)
        x, z = p[0] / scale, p[2] / scale
        d = profile_distance(profiles, thing.profile, x, z)
        slant = 1.0 / wp.sqrt(1.0 + shrink * shrink)
        side = wp.max(d * scale * slant + edge, 0.0) * slant
        slope = slope_of(profiles, thing.profile, x, z)
        rise = shrink * (d - slope[0] * x - slope[1] * z)
        n = wp.vec3(slope[0] * side, rise * side + cap * wp.sign(p[1]), slope[1] * side)
    return wp.normalize(n)

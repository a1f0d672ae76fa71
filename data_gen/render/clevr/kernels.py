"""The ray caster: Warp kernels that draw a batch of scenes, the same source for CPU and CUDA.

World: x to the right, y up, z toward the viewer; the ground is y = 0. Object space: the solid's own frame, in which its
outline has radius 1, turned by the yaw about the vertical axis. Distances in object space are signed, negative inside.

A picture is drawn in three launches: `find_tiles` asks for every tile of 8 x 8 pixels which objects and which of their
shadows can touch it; `cast` draws one sample through the middle of each pixel; `refine` draws the other samples of a
grid where neighbours differ in object, normal or colour, and writes bytes. Every thread writes its own pixel and reads
nothing that another thread of its launch writes, so pixels do not depend on the batch.

Soft shadows follow the closest approach of the ray to the light, relative to the light's angular size, from
https://iquilezles.org/articles/rmshadows/ ; signed distances of boxes, cones and tori are the well-known exact ones.
"""

import warp as wp

wp.set_module_options({"enable_backward": False, "max_unroll": 1})

TILE_SIZE = 8
TILE = wp.constant(TILE_SIZE)
GROUND = wp.constant(-1)
FAR = wp.constant(1.0e6)
GRID = 1.2  # profiles are known on [-GRID, GRID]^2
GRID_HALF = wp.constant(GRID)

SPHERE = wp.constant(0)
BOX = wp.constant(1)
CYLINDER = wp.constant(2)
CONE = wp.constant(3)
TORUS = wp.constant(4)
EXTRUDE = wp.constant(5)
REVOLVE = wp.constant(6)
TAPER = wp.constant(7)
STAND = wp.constant(8)
KINDS = {
    "sphere": 0,
    "box": 1,
    "cylinder": 2,
    "cone": 3,
    "torus": 4,
    "extrude": 5,
    "revolve": 6,
    "taper": 7,
    "stand": 8,
}


@wp.struct
class Camera:
    """A perspective camera: a ray goes along forward + u * right + v * up, u and v in -1..1 across the picture."""

    eye: wp.vec3
    forward: wp.vec3
    right: wp.vec3
    up: wp.vec3


@wp.struct
class Light:
    """A round white area light: its place, its strength at distance 1, the tangent of its radius."""

    place: wp.vec3
    strength: float
    spread: float


@wp.struct
class Thing:
    """An object of a scene: where it stands, its solid, what it is made of. Colours are linear."""

    center: wp.vec3
    radius: float
    bound: float
    cos: float
    sin: float
    kind: int
    profile: int
    half: float
    rounding: float
    top: float
    convex: int
    color: wp.vec3
    second: wp.vec3
    pattern: int
    material: int
    opacity: float


@wp.struct
class Surface:
    """A row of the table of materials; see data_gen/render/materials.py."""

    diffuse: float
    gloss: float
    roughness: float
    coat: float
    mirror: float
    transmission: float


@wp.struct
class World:
    """Everything that a ray may meet; `spheres` are the things' middles and bounds, which most tests end with."""

    cameras: wp.array(dtype=Camera)
    lights: wp.array2d(dtype=Light)
    spheres: wp.array2d(dtype=wp.vec4)
    things: wp.array2d(dtype=Thing)
    surfaces: wp.array(dtype=Surface)
    profiles: wp.array3d(dtype=float)
    patterns: wp.array3d(dtype=float)
    num_lights: int
    ambient: float
    ground: float
    backdrop: float


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


@wp.func
def sky(world: World, b: int, ray: wp.vec3, blur: float):
    """What a ray that leaves the scene upward sees: a room, light at the horizon, and its three lights."""
    level = world.backdrop * (0.85 - 0.6 * wp.sqrt(wp.max(ray[1], 0.0)))
    for k in range(world.num_lights):
        light = world.lights[b, k]
        squared = wp.dot(light.place, light.place)
        c = wp.dot(light.place, ray) / wp.sqrt(squared)
        edge = 1.0 - 0.9 * light.spread * light.spread
        share = wp.clamp((c - edge + blur) / (2.0 * blur), 0.0, 1.0)
        level += light.strength / squared * (share * share * (3.0 - 2.0 * share) * 1.6)
    return level


@wp.func
def fade(p: wp.vec3):
    """Share of the ground's own light at p; the rest is the backdrop, into which the ground passes far away."""
    away = wp.clamp((wp.length(p) - 5.0) / 12.0, 0.0, 1.0)
    return 1.0 - away * away * (3.0 - 2.0 * away)


@wp.func
def open_ground(world: World, b: int, p: wp.vec3):
    """Light that the ground sends back at p where nothing stands in the way."""
    total = float(world.ambient)
    for k in range(world.num_lights):
        light = world.lights[b, k]
        to_light = light.place - p
        squared = wp.dot(to_light, to_light)
        total += light.strength * to_light[1] / (squared * wp.sqrt(squared))
    keep = fade(p)
    return total * world.ground * keep + world.backdrop * (1.0 - keep)


@wp.func
def taken(world: World, b: int, p: wp.vec3, near: int, shaded: wp.vec3i):
    """Light that objects take from the ground at p, exactly 0 where none does, and which objects do.

    Only those of the set of bits `near` can be close, only those of `shaded[k]` can keep light k off.
    """
    open, touched = opening(world, b, p, near, 0.75)
    loss = world.ambient * (1.0 - open)
    for k in range(world.num_lights):
        if shaded[k] != 0 or open < 1.0:
            light = world.lights[b, k]
            to_light = light.place - p
            squared = wp.dot(to_light, to_light)
            ray = to_light / wp.sqrt(squared)
            share, more = left_over(world, b, p, ray, light.spread, shaded[k], -1)
            touched |= more
            loss += light.strength / squared * ray[1] * (1.0 - share * (0.55 + 0.45 * open))
    if touched != 0:
        loss *= world.ground * fade(p)
    else:
        loss = 0.0
    return loss, touched


@wp.func
def paint(world: World, thing: Thing, p: wp.vec3, n: wp.vec3):
    """The object's colour at p with normal n, both in object space."""
    color = thing.color
    if thing.pattern > 0:
        u, v = p[0], p[1]
        ax, ay, az = wp.abs(n[0]), wp.abs(n[1]), wp.abs(n[2])
        round_kind = thing.kind == SPHERE or (thing.kind >= CYLINDER and thing.kind <= TORUS) or thing.kind == REVOLVE
        if ay > 0.8 * wp.max(ax, az) and not (thing.kind == SPHERE and ay < 0.9):
            u, v = p[0], p[2]
        elif round_kind:
            u = wp.atan2(p[0], p[2])
        elif ax > az:
            u = p[2]
        size = float(world.patterns.shape[1] - 1)
        x = u * 0.5 + 16.0
        y = -v * 0.5 + 16.0
        share = bilinear(world.patterns, thing.pattern, (x - float(int(x))) * size, (y - float(int(y))) * size)
        color = color * share + thing.second * (1.0 - share)
    return color


@wp.func
def nearest(world: World, b: int, origin: wp.vec3, ray: wp.vec3, objects: int, skip: int, cone: float):
    """The first object of the set of bits `objects` that a ray meets, GROUND if none, and the distance to it."""
    best = float(FAR)
    found = int(GROUND)
    rest = int(objects)
    j = int(0)
    while rest != 0:
        if (rest & 1) != 0 and j != skip:
            sphere = world.spheres[b, j]
            offset = origin - wp.vec3(sphere[0], sphere[1], sphere[2])
            along = -wp.dot(offset, ray)
            under = along * along - wp.dot(offset, offset) + sphere[3] * sphere[3]
            if under > 0.0 and along + sphere[3] > 0.0 and along - sphere[3] < best:
                t = hit(world.profiles, world.things[b, j], origin, ray, cone)
                if t < best:
                    best = t
                    found = j
        rest = rest >> 1
        j += 1
    return found, best


@wp.func
def plain_light(world: World, b: int, p: wp.vec3, n: wp.vec3):
    """Light on a surface seen in a mirror: no shadows but its own side's."""
    total = world.ambient * (0.65 + 0.35 * n[1])
    for k in range(world.num_lights):
        light = world.lights[b, k]
        to_light = light.place - p
        squared = wp.dot(to_light, to_light)
        total += light.strength * wp.max(wp.dot(to_light, n), 0.0) / (squared * wp.sqrt(squared))
    return total


@wp.func
def taken_roughly(world: World, b: int, p: wp.vec3, objects: int):
    """As `taken`, of ground that is seen in a mirror or through glass: objects as balls, and the first light alone."""
    touched = int(0)
    loss = float(0.0)
    light = world.lights[b, 0]
    to_light = light.place - p
    squared = wp.dot(to_light, to_light)
    ray = to_light / wp.sqrt(squared)
    strength = light.strength / squared * ray[1]
    rest = int(objects)
    j = int(0)
    while rest != 0:
        if rest & 1:
            sphere = world.spheres[b, j]
            offset = p - wp.vec3(sphere[0], sphere[1], sphere[2])
            away = wp.dot(offset, offset)
            along = -wp.dot(offset, ray)
            shut = 1.0 - wp.clamp(wp.sqrt(away) / (0.9 * sphere[3]) - 1.0, 0.0, 1.0)
            dark = float(0.0)
            if along > 0.0:
                side = wp.sqrt(wp.max(away - along * along, 0.0))
                dark = 1.0 - lit((side - 0.8 * sphere[3]) / (light.spread * along + 0.1 * sphere[3]))
            if shut > 0.0 or dark > 0.0:
                touched |= 1 << j
                loss += (world.ambient + 0.4 * strength) * (0.75 * shut * shut)
                loss += strength * dark * world.things[b, j].opacity
        rest = rest >> 1
        j += 1
    loss = wp.min(loss, world.ambient + strength)
    return loss * world.ground * fade(p), touched


@wp.func
def beyond(world: World, b: int, origin: wp.vec3, ray: wp.vec3, objects: int, skip: int, blur: float):
    """What a second ray, mirrored or let through, sees, and the objects that this depends on."""
    touched = int(0)
    color = wp.vec3(0.0, 0.0, 0.0)
    found, t = nearest(world, b, origin, ray, objects, skip, 0.01)
    if found >= 0:
        thing = world.things[b, found]
        touched = 1 << found
        p = origin + ray * t
        q = to_object(thing, p - thing.center) / thing.radius
        n = normal_at(world.profiles, thing, q)
        surface = world.surfaces[thing.material]
        dim = 1.0 - 0.45 * (surface.mirror + surface.transmission)
        color = paint(world, thing, q, n) * (plain_light(world, b, p, to_world(thing, n)) * dim)
    else:
        level = float(world.backdrop)
        if ray[1] < -1.0e-3:
            p = origin - ray * (origin[1] / ray[1])
            if wp.length(p) < 20.0:
                loss, touched = taken_roughly(world, b, p, objects)
                level = open_ground(world, b, p) - loss
        else:
            level = sky(world, b, ray, blur)
        color = wp.vec3(level, level, level)
    return color, touched


@wp.func
def object_light(world: World, b: int, found: int, p: wp.vec3, local: wp.vec3, ray: wp.vec3, objects: int):
    """Light that object `found` sends from p, where its normal is `local` in object space, against the ray, and the
    objects that this depends on."""
    thing = world.things[b, found]
    surface = world.surfaces[thing.material]
    q = to_object(thing, p - thing.center) / thing.radius
    n = to_world(thing, local)
    base = paint(world, thing, q, local)
    others = objects & ~(1 << found)
    touched = 1 << found
    open = 0.55 + 0.45 * wp.min(p[1] / (0.8 * thing.radius), 1.0)
    if thing.convex == 0:
        d = distance(world.profiles, thing, q + local * 0.25)
        open *= 0.4 + 0.6 * wp.clamp(d / 0.25, 0.0, 1.0)
    apart, more = opening(world, b, p, others, 0.5)
    open *= apart
    touched |= more
    scattered = world.ambient * open * (0.75 + 0.25 * n[1])
    shine = float(0.0)
    rough = surface.roughness * surface.roughness
    casters = objects
    if thing.convex == 1:
        casters = others
    for k in range(world.num_lights):
        light = world.lights[b, k]
        to_light = light.place - p
        facing = wp.dot(to_light, n)
        if facing > 0.0:
            squared = wp.dot(to_light, to_light)
            length = wp.sqrt(squared)
            direction = to_light / length
            strength = light.strength * facing / (squared * length)
            share, shading = left_over(world, b, p, direction, light.spread, casters, found)
            touched |= shading
            strength *= share
            scattered += strength
            middle = direction - ray
            c = wp.max(wp.dot(middle, n), 0.0)
            lobe = rough / (c * c / wp.dot(middle, middle) * (rough * rough - 1.0) + 1.0)
            shine += strength * 0.25 * lobe * lobe
    white = wp.vec3(1.0, 1.0, 1.0)
    shine *= surface.gloss
    shown = white * (shine * (1.0 - surface.mirror)) + base * (scattered * surface.diffuse + shine * surface.mirror)
    facing_eye = wp.max(-wp.dot(ray, n), 0.0)
    graze = (1.0 - facing_eye) * (1.0 - facing_eye)
    graze = graze * graze * (1.0 - facing_eye)
    mirrored = ray + n * (2.0 * facing_eye)
    if surface.coat > 0.0:
        share = surface.coat + (1.0 - surface.coat) * graze
        level = float(world.ground)
        if mirrored[1] > 0.0:
            level = sky(world, b, mirrored, 0.02)
        shown = shown * (1.0 - share) + white * (level * share)
    if surface.mirror + surface.transmission > 0.0:
        onward = mirrored
        filter = wp.vec3(0.0, 0.0, 0.0)
        if surface.mirror > 0.0:
            strength = surface.mirror * (1.0 - 0.6 * graze)
            filter = base * (0.92 * strength) + white * (0.08 * strength + 0.6 * graze * surface.mirror)
        else:
            onward = wp.normalize(ray - n * (0.3 * facing_eye))
            strength = surface.transmission * (0.6 + 0.4 * facing_eye)
            filter = (wp.vec3(wp.sqrt(base[0]), wp.sqrt(base[1]), wp.sqrt(base[2])) * 0.9 + white * 0.1) * strength
        seen, mirrored_of = beyond(world, b, p + onward * 0.01, onward, objects, found, 0.06)
        touched |= mirrored_of
        shown += wp.cw_mul(filter, seen)
    return wp.vec3(wp.min(shown[0], 1.0), wp.min(shown[1], 1.0), wp.min(shown[2], 1.0)), touched


@wp.func
def normal_of(world: World, b: int, found: int, p: wp.vec3):
    """Outward unit normal of an object at p, in object space."""
    thing = world.things[b, found]
    return normal_at(world.profiles, thing, to_object(thing, p - thing.center) / thing.radius)


@wp.func
def view_ray(camera: Camera, x: float, y: float, size: float):
    """The unit ray through the point (x, y) of the picture, in pixels from its upper left corner."""
    u = 2.0 * x / size - 1.0
    v = 1.0 - 2.0 * y / size
    return wp.normalize(camera.forward + camera.right * u + camera.up * v)


@wp.func
def open_light(lights: wp.array3d(dtype=float), b: int, x: float, y: float):
    """Light of the open ground at a point of the picture, in pixels, between the corners of its tile."""
    row, column = int(y) // TILE, int(x) // TILE
    fy, fx = y / float(TILE) - float(row), x / float(TILE) - float(column)
    top = lights[b, row, column] + (lights[b, row, column + 1] - lights[b, row, column]) * fx
    low = lights[b, row + 1, column] + (lights[b, row + 1, column + 1] - lights[b, row + 1, column]) * fx
    return top + (low - top) * fy


@wp.func
def ground_light(world: World, b: int, ray: wp.vec3, open: float, near: int, shaded: wp.vec3i):
    """Light of the ground along a ray of the camera, and the objects that this depends on."""
    level = float(open)
    touched = int(0)
    if (near | shaded[0] | shaded[1] | shaded[2]) != 0 and ray[1] < -1.0e-3:
        eye = world.cameras[b].eye
        loss, touched = taken(world, b, eye - ray * (eye[1] / ray[1]), near, shaded)
        level -= loss
    return wp.vec3(level, level, level), touched


@wp.kernel
def light_ground(world: World, size: int, lights: wp.array3d(dtype=float)):
    """Light of the open ground at the corners of the tiles, float [B, T + 1, T + 1]."""
    b, row, column = wp.tid()
    camera = world.cameras[b]
    ray = view_ray(camera, float(column * TILE), float(row * TILE), float(size))
    level = float(world.backdrop)
    if ray[1] < -1.0e-3:
        level = open_ground(world, b, camera.eye - ray * (camera.eye[1] / ray[1]))
    lights[b, row, column] = level


@wp.kernel
def find_tiles(world: World, counts: wp.array(dtype=int), size: int, tiles: wp.array4d(dtype=int)):
    """For each tile the sets of bits: objects seen, objects near its ground, objects whose shadow of light k is there.

    tiles: int [B, T, T, 5].
    """
    b, row, column = wp.tid()
    camera = world.cameras[b]
    half = 0.5 * float(TILE)
    x = (float(column) + 0.5) * float(TILE)
    y = (float(row) + 0.5) * float(TILE)
    middle = view_ray(camera, x, y, float(size))
    corner = view_ray(camera, x - half, y - half, float(size))
    other = view_ray(camera, x + half, y - half, float(size))
    third = view_ray(camera, x - half, y + half, float(size))
    fourth = view_ray(camera, x + half, y + half, float(size))
    least = wp.min(
        wp.min(wp.dot(middle, corner), wp.dot(middle, other)), wp.min(wp.dot(middle, third), wp.dot(middle, fourth))
    )
    # sine of the angle between the middle and the farthest corner
    width = wp.sqrt(wp.max(1.0 - least * least, 0.0))
    grounded = corner[1] < -1.0e-2 and other[1] < -1.0e-2
    spot = camera.eye - middle * (camera.eye[1] / wp.min(middle[1], -1.0e-2))
    spot_radius = float(0.0)
    if grounded:
        for k in range(4):
            ray = corner
            if k == 1:
                ray = other
            elif k == 2:
                ray = third
            elif k == 3:
                ray = fourth
            at = camera.eye - ray * (camera.eye[1] / ray[1])
            spot_radius = wp.max(spot_radius, wp.length(at - spot))
    seen, near = int(0), int(0)
    shaded = wp.vec3i(0, 0, 0)
    for j in range(counts[b]):
        thing = world.things[b, j]
        offset = thing.center - camera.eye
        along = wp.dot(offset, middle)
        away = wp.sqrt(wp.max(wp.dot(offset, offset) - along * along, 0.0))
        if away <= thing.bound * 1.02 + width * wp.length(offset) * 1.05:
            seen |= 1 << j
        if not grounded:
            near |= 1 << j
            shaded = wp.vec3i(shaded[0] | (1 << j), shaded[1] | (1 << j), shaded[2] | (1 << j))
        else:
            gap = wp.length(spot - thing.center)
            if gap <= thing.bound + thing.radius + spot_radius:
                near |= 1 << j
            for k in range(world.num_lights):
                light = world.lights[b, k]
                ray = wp.normalize(light.place - spot)
                ahead = wp.dot(thing.center - spot, ray)
                side = wp.sqrt(wp.max(gap * gap - ahead * ahead, 0.0))
                reach = thing.bound + light.spread * wp.max(ahead + spot_radius, 0.0)
                if ahead > -thing.bound - spot_radius and side <= reach + spot_radius * 1.3:
                    shaded[k] = shaded[k] | (1 << j)
    tiles[b, row, column, 0] = seen
    tiles[b, row, column, 1] = near
    for k in range(3):
        tiles[b, row, column, 2 + k] = shaded[k]


@wp.func
def put(codes: wp.array(dtype=wp.uint8), pixels: wp.array4d(dtype=wp.uint8), b: int, y: int, x: int, color: wp.vec3):
    """Writes linear light, at most 1, as sRGB bytes."""
    last = codes.shape[0] - 1
    for k in range(3):
        pixels[b, y, x, k] = codes[wp.clamp(int(color[k] * float(last) + 0.5), 0, last)]


@wp.kernel
def cast(
    world: World,
    counts: wp.array(dtype=int),
    tiles: wp.array4d(dtype=int),
    lights: wp.array3d(dtype=float),
    codes: wp.array(dtype=wp.uint8),
    size: int,
    ids: wp.array3d(dtype=wp.int8),
    colors: wp.array3d(dtype=wp.vec3),
    normals: wp.array3d(dtype=wp.vec3),
    touched: wp.array3d(dtype=int),
    pixels: wp.array4d(dtype=wp.uint8),
):
    """One sample through the middle of each pixel; a thread draws a tile. Normals are written of objects only."""
    b, row, column = wp.tid()
    camera = world.cameras[b]
    cone = wp.length(camera.right) / float(size)
    objects = (1 << counts[b]) - 1
    seen, near = tiles[b, row, column, 0], tiles[b, row, column, 1]
    shaded = wp.vec3i(tiles[b, row, column, 2], tiles[b, row, column, 3], tiles[b, row, column, 4])
    busy = seen | near | shaded[0] | shaded[1] | shaded[2]
    for y in range(row * TILE, wp.min(row * TILE + TILE, size)):
        for x in range(column * TILE, wp.min(column * TILE + TILE, size)):
            px, py = float(x) + 0.5, float(y) + 0.5
            open = open_light(lights, b, px, py)
            color = wp.vec3(open, open, open)
            found = int(GROUND)
            touch = int(0)
            if busy != 0:
                ray = view_ray(camera, px, py, float(size))
                if seen != 0:
                    found, t = nearest(world, b, camera.eye, ray, seen, -2, cone)
                    if found >= 0:
                        p = camera.eye + ray * t
                        local = normal_of(world, b, found, p)
                        color, touch = object_light(world, b, found, p, local, ray, objects)
                        normals[b, y, x] = local
                if found < 0:
                    color, touch = ground_light(world, b, ray, open, near, shaded)
            ids[b, y, x] = wp.int8(found)
            colors[b, y, x] = color
            touched[b, y, x] = touch
            put(codes, pixels, b, y, x, color)


@wp.func
def differs(first: wp.vec3, second: wp.vec3):
    """Whether two colours differ so much that an edge must run between them."""
    edge = int(0)
    for k in range(3):
        if wp.abs(first[k] - second[k]) > 0.28 * (first[k] + second[k]) + 0.02:
            edge = 1
    return edge


@wp.func
def neighbour(y: int, x: int, k: int, size: int):
    """The k-th of a pixel itself and its four neighbours; a pixel at the border is its own neighbour there."""
    v, u = int(y), int(x)
    if k == 1:
        v = wp.max(y - 1, 0)
    elif k == 2:
        v = wp.min(y + 1, size - 1)
    elif k == 3:
        u = wp.max(x - 1, 0)
    elif k == 4:
        u = wp.min(x + 1, size - 1)
    return v, u


@wp.kernel
def refine(
    world: World,
    counts: wp.array(dtype=int),
    tiles: wp.array4d(dtype=int),
    lights: wp.array3d(dtype=float),
    codes: wp.array(dtype=wp.uint8),
    size: int,
    side: int,
    everywhere: int,
    ids: wp.array3d(dtype=wp.int8),
    colors: wp.array3d(dtype=wp.vec3),
    normals: wp.array3d(dtype=wp.vec3),
    touched: wp.array3d(dtype=int),
    pixels: wp.array4d(dtype=wp.uint8),
):
    """Draws again the pixels at edges, as the mean of a grid of side x side samples; a thread draws a tile.

    Neighbours in another object, or in another side or colour of the same, make an edge. At the border of an object
    each sample only asks which object is there, and takes the colour of the pixel, or of a neighbour, that shows it;
    inside an object, of the one that faces the same way. Where colours differ for another reason, and where no
    neighbour fits, the sample is drawn in full.

    everywhere: 1 draws every sample of every pixel in full: the reference that this choice is measured against.
    touched: of a pixel that is drawn again, the objects that its further samples depend on.
    """
    b, row, column = wp.tid()
    camera = world.cameras[b]
    cone = wp.length(camera.right) / float(size)
    objects = (1 << counts[b]) - 1
    seen, near = tiles[b, row, column, 0], tiles[b, row, column, 1]
    shaded = wp.vec3i(tiles[b, row, column, 2], tiles[b, row, column, 3], tiles[b, row, column, 4])
    around = seen | everywhere
    for k in range(1, 5):
        v, u = neighbour(row, column, k, tiles.shape[1])
        around |= tiles[b, v, u, 0]
    last = wp.where(around != 0, wp.min(row * TILE + TILE, size), 0)
    for y in range(row * TILE, last):
        for x in range(column * TILE, wp.min(column * TILE + TILE, size)):
            own = int(ids[b, y, x])
            border, inner, full = int(0), int(0), int(everywhere)
            for k in range(1, 5):
                v, u = neighbour(y, x, k, size)
                if int(ids[b, v, u]) != own:
                    border = 1
                elif own >= 0:
                    if wp.dot(normals[b, y, x], normals[b, v, u]) < 0.9:
                        inner = 1
                    elif differs(colors[b, y, x], colors[b, v, u]) != 0:
                        full = 1
            if border + inner + full > 0:
                total = wp.vec3(0.0, 0.0, 0.0)
                touch = int(0)
                for k in range(side * side):
                    color = colors[b, y, x]
                    if 2 * k + 1 != side * side or side % 2 == 0:
                        px = float(x) + (float(k % side) + 0.5) / float(side)
                        py = float(y) + (float(k // side) + 0.5) / float(side)
                        ray = view_ray(camera, px, py, float(size))
                        found, t = nearest(world, b, camera.eye, ray, seen, -2, cone)
                        p = camera.eye + ray * t
                        shown = int(0)
                        for i in range(5):
                            v, u = neighbour(y, x, i, size)
                            if int(ids[b, v, u]) == found:
                                shown = 1
                        local = wp.vec3(0.0, 0.0, 0.0)
                        if found >= 0 and (inner + full > 0 or shown == 0):
                            local = normal_of(world, b, found, p)
                        best = float(-1.0)
                        if inner != 0 and found >= 0:
                            best = 0.9
                        known = int(0)
                        if full == 0 and shown != 0:
                            for i in range(5):
                                v, u = neighbour(y, x, i, size)
                                if int(ids[b, v, u]) == found:
                                    like = float(0.0)
                                    if inner != 0 and found >= 0:
                                        like = wp.dot(local, normals[b, v, u])
                                    if like > best:
                                        best = like
                                        color = colors[b, v, u]
                                        known = 1
                        if known == 0:
                            more = int(0)
                            if found >= 0:
                                color, more = object_light(world, b, found, p, local, ray, objects)
                            else:
                                color, more = ground_light(world, b, ray, open_light(lights, b, px, py), near, shaded)
                            touch |= more
                    total += color
                put(codes, pixels, b, y, x, total / float(side * side))
                touched[b, y, x] = touch


@wp.kernel
def find(world: World, tiles: wp.array4d(dtype=int), size: int, ids: wp.array3d(dtype=wp.int8)):
    """The object in the middle of each pixel, as `cast` finds it, without any light; a thread does a tile."""
    b, row, column = wp.tid()
    camera = world.cameras[b]
    cone = wp.length(camera.right) / float(size)
    seen = tiles[b, row, column, 0]
    for y in range(row * TILE, wp.min(row * TILE + TILE, size)):
        for x in range(column * TILE, wp.min(column * TILE + TILE, size)):
            found = int(GROUND)
            if seen != 0:
                ray = view_ray(camera, float(x) + 0.5, float(y) + 0.5, float(size))
                found, _t = nearest(world, b, camera.eye, ray, seen, -2, cone)
            ids[b, y, x] = wp.int8(found)

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

wp.set_module_options({"enable_backward": False})

TILE = wp.constant(8)
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
    """A round area light: its place, its strength at the origin, the squared distance to there, tan of its radius."""

    place: wp.vec3
    color: wp.vec3
    reference: float
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
    """Everything that a ray may meet."""

    cameras: wp.array(dtype=Camera)
    lights: wp.array2d(dtype=Light)
    things: wp.array2d(dtype=Thing)
    surfaces: wp.array(dtype=Surface)
    profiles: wp.array3d(dtype=float)
    patterns: wp.array3d(dtype=float)
    num_lights: int
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
def hit(profiles: wp.array3d(dtype=float), thing: Thing, origin: wp.vec3, ray: wp.vec3, limit: float, cone: float):
    """Distance along the unit ray at which it meets the solid, FAR if it does not before `limit`.

    cone: half the width of a pixel at distance 1, the precision that is asked for.
    """
    offset = origin - thing.center
    b = wp.dot(offset, ray)
    c = wp.dot(offset, offset) - thing.bound * thing.bound
    under = b * b - c
    result = float(FAR)
    if under > 0.0:
        root = wp.sqrt(under)
        t = wp.max(-b - root, 0.0)
        stop = wp.min(-b + root, limit)
        if t < stop:
            if thing.kind == SPHERE:
                if -b - root > 0.0:
                    result = t
            else:
                inverse = 1.0 / thing.radius
                p = to_object(thing, offset) * inverse
                d = to_object(thing, ray)
                s = t * inverse
                last = stop * inverse
                for _step in range(40):
                    h = distance(profiles, thing, p + d * s)
                    if h < 0.25 * cone * s:
                        result = s * thing.radius
                        break
                    s += h
                    if s > last:
                        break
    return result


@wp.func
def normal_at(profiles: wp.array3d(dtype=float), thing: Thing, p: wp.vec3):
    """Outward unit normal at p on the solid, in object space."""
    n = p
    if thing.kind != SPHERE:
        e = float(0.004)
        if thing.kind >= EXTRUDE:
            e = 0.02  # about a cell of the profile's grid
        a = distance(profiles, thing, p + wp.vec3(e, -e, -e))
        b = distance(profiles, thing, p + wp.vec3(-e, -e, e))
        c = distance(profiles, thing, p + wp.vec3(-e, e, -e))
        d = distance(profiles, thing, p + wp.vec3(e, e, e))
        n = wp.vec3(a - b - c + d, c + d - a - b, b + d - a - c)
    return wp.normalize(n)


@wp.func
def shadow(profiles: wp.array3d(dtype=float), thing: Thing, p: wp.vec3, ray: wp.vec3, spread: float, near: float):
    """Share of a round light in direction `ray`, of angular radius `spread`, that the solid leaves for point p."""
    offset = p - thing.center
    b = -wp.dot(offset, ray)
    result = float(1.0)
    if b > -thing.bound:
        reach = thing.bound + spread * wp.max(b, 0.0) + spread * thing.bound
        under = reach * reach - (wp.dot(offset, offset) - b * b)
        if under > 0.0:
            least = float(1.0)
            if thing.kind == SPHERE:
                if b > 0.0:
                    away = wp.sqrt(wp.max(wp.dot(offset, offset) - b * b, 0.0))
                    least = (away - thing.radius) / (spread * b)
            else:
                inverse = 1.0 / thing.radius
                root = wp.sqrt(under)
                o = to_object(thing, offset) * inverse
                d = to_object(thing, ray)
                s = wp.max(b - root, near) * inverse
                last = (b + root) * inverse
                for _step in range(24):
                    h = distance(profiles, thing, o + d * s)
                    least = wp.min(least, h / (spread * s))
                    if least < -0.99:
                        break
                    s += wp.clamp(wp.abs(h), 0.04, 0.5)
                    if s > last:
                        break
            least = wp.clamp(least, -1.0, 1.0)
            result = 1.0 - 0.25 * (1.0 - least) * (1.0 - least) * (2.0 + least)
    return result


@wp.func
def closeness(profiles: wp.array3d(dtype=float), thing: Thing, p: wp.vec3):
    """How much the solid closes the sky above point p: 1 in touch, 0 from one radius away."""
    offset = p - thing.center
    result = float(0.0)
    reach = thing.bound + thing.radius
    if wp.dot(offset, offset) < reach * reach:
        d = distance(profiles, thing, to_object(thing, offset) / thing.radius)
        open = wp.clamp(d, 0.0, 1.0)
        result = (1.0 - open) * (1.0 - open) * (1.0 - open)
    return result


@wp.func
def sky(world: World, b: int, ray: wp.vec3, blur: float):
    """What a ray that leaves the scene upward sees: a room, light at the horizon, and its three lights."""
    up = wp.max(ray[1], 0.0)
    level = world.backdrop * (0.85 - 0.6 * wp.sqrt(up))
    color = wp.vec3(level, level, level)
    for k in range(world.num_lights):
        light = world.lights[b, k]
        c = wp.dot(wp.normalize(light.place), ray)
        edge = 1.0 - 0.9 * light.spread * light.spread
        share = wp.clamp((c - edge + blur) / (2.0 * blur), 0.0, 1.0)
        color += light.color * (share * share * (3.0 - 2.0 * share) * 1.6)
    return color


@wp.func
def fade(world: World, p: wp.vec3, color: wp.vec3):
    """The ground passing over into the backdrop with the distance from the origin."""
    away = wp.clamp((wp.length(p) - 5.0) / 12.0, 0.0, 1.0)
    share = away * away * (3.0 - 2.0 * away)
    return color * (1.0 - share) + wp.vec3(world.backdrop, world.backdrop, world.backdrop) * share


@wp.func
def ground_light(world: World, b: int, p: wp.vec3, near: int, shaded: wp.vec3i):
    """Light that the ground sends back at p, and which objects it depends on: those of `near` that are close, and
    those of `shaded` (one set of bits for each light) whose shadow falls there."""
    touched = int(0)
    open = float(1.0)
    rest = near
    j = int(0)
    while rest != 0:
        if rest & 1:
            close = closeness(world.profiles, world.things[b, j], p)
            if close > 0.0:
                touched |= 1 << j
                open *= 1.0 - 0.75 * close
        rest = rest >> 1
        j += 1
    ambient = 0.28 * open
    light_sum = wp.vec3(ambient, ambient, ambient)
    for k in range(world.num_lights):
        light = world.lights[b, k]
        to_light = light.place - p
        squared = wp.dot(to_light, to_light)
        ray = to_light / wp.sqrt(squared)
        strength = light.reference / squared * ray[1] * (0.55 + 0.45 * open)
        rest = shaded[k]
        j = int(0)
        while rest != 0:
            if rest & 1:
                share = shadow(world.profiles, world.things[b, j], p, ray, light.spread, 0.02)
                if share < 1.0:
                    touched |= 1 << j
                    strength *= share
            rest = rest >> 1
            j += 1
        light_sum += light.color * strength
    return fade(world, p, light_sum * world.ground), touched


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
    rest = objects
    j = int(0)
    while rest != 0:
        if (rest & 1) != 0 and j != skip:
            t = hit(world.profiles, world.things[b, j], origin, ray, best, cone)
            if t < best:
                best = t
                found = j
        rest = rest >> 1
        j += 1
    return found, best


@wp.func
def diffuse_light(world: World, b: int, p: wp.vec3, n: wp.vec3):
    """Light on a surface seen in a mirror: no shadows but its own side's."""
    level = 0.28 * (0.65 + 0.35 * n[1])
    total = wp.vec3(level, level, level)
    for k in range(world.num_lights):
        light = world.lights[b, k]
        to_light = light.place - p
        squared = wp.dot(to_light, to_light)
        total += light.color * (light.reference / squared * wp.max(wp.dot(to_light, n), 0.0) / wp.sqrt(squared))
    return total


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
        color = wp.cw_mul(paint(world, thing, q, n), diffuse_light(world, b, p, to_world(thing, n)))
        surface = world.surfaces[thing.material]
        color = color * (1.0 - 0.45 * (surface.mirror + surface.transmission))
    elif ray[1] < -1.0e-3:
        p = origin - ray * (origin[1] / ray[1])
        if wp.length(p) < 20.0:
            color, touched = ground_light(world, b, p, objects, wp.vec3i(objects, 0, 0))
        else:
            color = wp.vec3(world.backdrop, world.backdrop, world.backdrop)
    else:
        color = sky(world, b, ray, blur)
    return color, touched


@wp.func
def object_light(world: World, b: int, found: int, p: wp.vec3, ray: wp.vec3, objects: int):
    """Light that object `found` sends from p against the ray, its normal, and the objects that this depends on."""
    thing = world.things[b, found]
    surface = world.surfaces[thing.material]
    q = to_object(thing, p - thing.center) / thing.radius
    local = normal_at(world.profiles, thing, q)
    n = to_world(thing, local)
    base = paint(world, thing, q, local)
    others = objects & ~(1 << found)
    touched = 1 << found
    open = 0.55 + 0.45 * wp.min(p[1] / (0.8 * thing.radius), 1.0)
    if thing.convex == 0:
        d = distance(world.profiles, thing, q + local * 0.25)
        open *= 0.4 + 0.6 * wp.clamp(d / 0.25, 0.0, 1.0)
    rest = others
    j = int(0)
    while rest != 0:
        if rest & 1:
            close = closeness(world.profiles, world.things[b, j], p)
            if close > 0.0:
                touched |= 1 << j
                open *= 1.0 - 0.5 * close
        rest = rest >> 1
        j += 1
    ambient = 0.28 * open * (0.75 + 0.25 * n[1])
    scattered = wp.vec3(ambient, ambient, ambient)
    shine = wp.vec3(0.0, 0.0, 0.0)
    rough = surface.roughness * surface.roughness
    for k in range(world.num_lights):
        light = world.lights[b, k]
        to_light = light.place - p
        squared = wp.dot(to_light, to_light)
        direction = to_light / wp.sqrt(squared)
        facing = wp.dot(direction, n)
        if facing > 0.0:
            strength = light.reference / squared * facing
            rest = objects
            if thing.convex == 1:
                rest = others
            j = int(0)
            while rest != 0:
                if rest & 1:
                    near = float(0.0)
                    if j == found:
                        near = 0.12 * thing.radius
                    share = shadow(world.profiles, world.things[b, j], p, direction, light.spread, near)
                    if share < 1.0:
                        touched |= 1 << j
                        strength *= share
                rest = rest >> 1
                j += 1
            scattered += light.color * strength
            middle = wp.normalize(direction - ray)
            c = wp.max(wp.dot(middle, n), 0.0)
            lobe = rough / (c * c * (rough * rough - 1.0) + 1.0)
            shine += light.color * (strength * 0.25 * lobe * lobe)
    white = wp.vec3(1.0, 1.0, 1.0)
    tint = white * (1.0 - surface.mirror) + base * surface.mirror
    color = wp.cw_mul(base, scattered) * surface.diffuse + wp.cw_mul(tint, shine) * surface.gloss
    facing_eye = wp.max(-wp.dot(ray, n), 0.0)
    graze = (1.0 - facing_eye) * (1.0 - facing_eye)
    graze = graze * graze * (1.0 - facing_eye)
    if surface.mirror > 0.0:
        mirrored = ray + n * (2.0 * facing_eye)
        seen, more = beyond(world, b, p + n * 0.01, mirrored, objects, found, 0.06)
        touched |= more
        metal = base * 0.92 + white * 0.08
        metal = metal * (1.0 - 0.6 * graze) + white * (0.6 * graze)
        color += wp.cw_mul(metal, seen) * surface.mirror
    if surface.coat > 0.0:
        mirrored = ray + n * (2.0 * facing_eye)
        share = surface.coat + (1.0 - surface.coat) * graze
        seen = wp.vec3(world.ground, world.ground, world.ground)
        if mirrored[1] > 0.0:
            seen = sky(world, b, mirrored, 0.02)
        color = color * (1.0 - share) + seen * share
    if surface.transmission > 0.0:
        bent = wp.normalize(ray - n * (0.35 * facing_eye))
        seen, more = beyond(world, b, p, bent, objects, found, 0.06)
        touched |= more
        glass = wp.vec3(wp.sqrt(base[0]), wp.sqrt(base[1]), wp.sqrt(base[2]))
        thick = 1.0 - 0.45 * (1.0 - facing_eye)
        color += wp.cw_mul(glass, seen) * (surface.transmission * thick)
    return color, n, touched


@wp.func
def encoded(x: float):
    """sRGB, 0..1, of a linear value."""
    x = wp.clamp(x, 0.0, 1.0)
    result = 12.92 * x
    if x > 0.0031308:
        result = 1.055 * wp.pow(x, 1.0 / 2.4) - 0.055
    return result


@wp.func
def view_ray(camera: Camera, x: float, y: float, size: float):
    """The unit ray through the point (x, y) of the picture, in pixels from its upper left corner."""
    u = 2.0 * x / size - 1.0
    v = 1.0 - 2.0 * y / size
    return wp.normalize(camera.forward + camera.right * u + camera.up * v)


@wp.func
def trace(world: World, b: int, ray: wp.vec3, seen: int, near: int, shaded: wp.vec3i, objects: int, cone: float):
    """One sample: the object met or GROUND, the light from there, its normal, and the objects that all depends on."""
    origin = world.cameras[b].eye
    found, t = nearest(world, b, origin, ray, seen, -2, cone)
    color = wp.vec3(world.backdrop, world.backdrop, world.backdrop)
    n = wp.vec3(0.0, 1.0, 0.0)
    touched = int(0)
    if found >= 0:
        color, n, touched = object_light(world, b, found, origin + ray * t, ray, objects)
    elif ray[1] < -1.0e-3:
        color, touched = ground_light(world, b, origin - ray * (origin[1] / ray[1]), near, shaded)
    return found, color, n, touched


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
                reach = thing.bound * (1.0 + 2.0 * light.spread) + light.spread * wp.max(ahead, 0.0)
                if ahead > -thing.bound - spot_radius and side <= reach + spot_radius * 1.3:
                    shaded[k] = shaded[k] | (1 << j)
    tiles[b, row, column, 0] = seen
    tiles[b, row, column, 1] = near
    for k in range(3):
        tiles[b, row, column, 2 + k] = shaded[k]


@wp.kernel
def cast(
    world: World,
    counts: wp.array(dtype=int),
    tiles: wp.array4d(dtype=int),
    size: int,
    cone: float,
    ids: wp.array3d(dtype=wp.int8),
    colors: wp.array3d(dtype=wp.vec3),
    normals: wp.array3d(dtype=wp.vec3),
    touched: wp.array3d(dtype=int),
):
    """One sample through the middle of each pixel."""
    b, y, x = wp.tid()
    row, column = y // TILE, x // TILE
    ray = view_ray(world.cameras[b], float(x) + 0.5, float(y) + 0.5, float(size))
    shaded = wp.vec3i(tiles[b, row, column, 2], tiles[b, row, column, 3], tiles[b, row, column, 4])
    objects = (1 << counts[b]) - 1
    found, color, n, touch = trace(
        world, b, ray, tiles[b, row, column, 0], tiles[b, row, column, 1], shaded, objects, cone
    )
    ids[b, y, x] = wp.int8(found)
    colors[b, y, x] = color
    normals[b, y, x] = n
    touched[b, y, x] = touch


@wp.func
def differs(
    ids: wp.array3d(dtype=wp.int8),
    colors: wp.array3d(dtype=wp.vec3),
    normals: wp.array3d(dtype=wp.vec3),
    b: int,
    y: int,
    x: int,
    v: int,
    u: int,
):
    """Whether an edge runs between two pixels: another object, another side of it, another colour."""
    edge = int(0)
    if v >= 0 and u >= 0 and v < ids.shape[1] and u < ids.shape[2]:
        if ids[b, y, x] != ids[b, v, u]:
            edge = 1
        else:
            if wp.dot(normals[b, y, x], normals[b, v, u]) < 0.9:
                edge = 1
            first, second = colors[b, y, x], colors[b, v, u]
            for k in range(3):
                one, two = wp.min(first[k], 1.0), wp.min(second[k], 1.0)
                if wp.abs(one - two) > 0.12 * (one + two) + 0.01:
                    edge = 1
    return edge


@wp.kernel
def refine(
    world: World,
    counts: wp.array(dtype=int),
    tiles: wp.array4d(dtype=int),
    size: int,
    side: int,
    everywhere: int,
    cone: float,
    ids: wp.array3d(dtype=wp.int8),
    colors: wp.array3d(dtype=wp.vec3),
    normals: wp.array3d(dtype=wp.vec3),
    touched: wp.array3d(dtype=int),
    influence: wp.array3d(dtype=int),
    pixels: wp.array4d(dtype=wp.uint8),
):
    """Pixels as bytes: the mean of a grid of side x side samples where an edge is near, else the one sample.

    everywhere: 1 for the grid in each pixel, the reference that the edges' choice is measured against.
    influence: the objects that a pixel depends on, its neighbours' samples included, as bits.
    """
    b, y, x = wp.tid()
    color = colors[b, y, x]
    touch = touched[b, y, x]
    for k in range(4):
        v, u = y, x
        if k == 0:
            v = y - 1
        elif k == 1:
            v = y + 1
        elif k == 2:
            u = x - 1
        else:
            u = x + 1
        if v >= 0 and u >= 0 and v < size and u < size:
            touch |= touched[b, v, u]
    edge = everywhere
    if side > 1 and edge == 0:
        edge = (
            differs(ids, colors, normals, b, y, x, y - 1, x)
            + differs(ids, colors, normals, b, y, x, y + 1, x)
            + differs(ids, colors, normals, b, y, x, y, x - 1)
            + differs(ids, colors, normals, b, y, x, y, x + 1)
        )
    total = wp.vec3(wp.min(color[0], 1.0), wp.min(color[1], 1.0), wp.min(color[2], 1.0))
    if edge > 0:
        row, column = y // TILE, x // TILE
        shaded = wp.vec3i(tiles[b, row, column, 2], tiles[b, row, column, 3], tiles[b, row, column, 4])
        objects = (1 << counts[b]) - 1
        total = wp.vec3(0.0, 0.0, 0.0)
        for k in range(side * side):
            fy = (float(k // side) + 0.5) / float(side)
            fx = (float(k % side) + 0.5) / float(side)
            ray = view_ray(world.cameras[b], float(x) + fx, float(y) + fy, float(size))
            _found, sample, _n, more = trace(
                world, b, ray, tiles[b, row, column, 0], tiles[b, row, column, 1], shaded, objects, cone
            )
            total += wp.vec3(wp.min(sample[0], 1.0), wp.min(sample[1], 1.0), wp.min(sample[2], 1.0))
            touch |= more
        total = total / float(side * side)
    influence[b, y, x] = touch
    for k in range(3):
        pixels[b, y, x, k] = wp.uint8(encoded(total[k]) * 255.0 + 0.5)

"""Light that ground, objects and the room send along a ray, and on which objects it depends, as a set of bits."""

import warp as wp

from data_gen.render.clevr.geometry import bilinear, distance, hit, normal_at, to_object, to_world
from data_gen.render.clevr.shadows import left_over, lit, opening
from data_gen.render.clevr.world import CYLINDER, FAR, GROUND, REVOLVE, SPHERE, TORUS, Thing, World

BOUNCE = wp.constant(1.2)  # light on the ground near an object, its shadow included; fitted to Blender's pictures
SHEEN = wp.constant(3.0)  # times as much more of the surroundings a rough surface mirrors at grazing angles


@wp.func
def room(world: World, ray: wp.vec3):
    """What a ray that leaves the scene upward sees beside the lights: a room, light at the horizon."""
    return world.backdrop * (0.85 - 0.6 * wp.sqrt(wp.max(ray[1], 0.0)))


@wp.func
def sky(world: World, b: int, ray: wp.vec3, blur: float):
    """What a ray that leaves the scene upward sees: the room and its three lights."""
    level = room(world, ray)
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
def around(world: World, up: float):
    """Light of the surroundings on a surface whose normal has this upward part: from the room, and off the ground."""
    return world.ambient * (0.5 + 0.5 * up) + world.ground * BOUNCE * (0.5 - 0.5 * up)


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
    total = around(world, n[1])
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
def beyond(world: World, b: int, origin: wp.vec3, ray: wp.vec3, objects: int, skip: int):
    """What a second ray, mirrored or let through, sees but the lights, and the objects that this depends on."""
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
            level = room(world, ray)
        color = wp.vec3(level, level, level)
    return color, touched


@wp.func
def lamps(
    world: World, b: int, found: int, p: wp.vec3, n: wp.vec3, ray: wp.vec3, rough: float, casters: int, other: float
):
    """Light at p on object `found`, normal n, of the three lights: what is scattered, with what `other` light there is;
    what shines back along the ray from a surface of this roughness, squared; and which of `casters` take any of it."""
    touched = int(0)
    scattered, shine = float(other), float(0.0)
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
    return scattered, shine, touched


@wp.func
def sky_open(world: World, b: int, found: int, p: wp.vec3, q: wp.vec3, local: wp.vec3, others: int):
    """Share of the surroundings that lights p on object `found` (q and the normal `local` in object space), and which
    of `others` take any."""
    thing = world.things[b, found]
    open = 0.55 + 0.45 * wp.min(p[1] / (0.8 * thing.radius), 1.0)
    if thing.convex == 0:
        d = distance(world.profiles, thing, q + local * 0.25)
        open *= 0.4 + 0.6 * wp.clamp(d / 0.25, 0.0, 1.0)
    apart, touched = opening(world, b, p, others, 0.5)
    return open * apart, touched


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
    open, touched = sky_open(world, b, found, p, q, local, others)
    touched |= 1 << found
    surroundings = open * around(world, n[1])
    rough = surface.roughness * surface.roughness
    casters = wp.where(thing.convex == 1, others, objects)
    scattered, shine, shading = lamps(world, b, found, p, n, ray, rough, casters, surroundings)
    touched |= shading
    facing_eye = wp.max(-wp.dot(ray, n), 0.0)
    graze = (1.0 - facing_eye) * (1.0 - facing_eye)
    graze = graze * graze * (1.0 - facing_eye)
    shine += surroundings * rough * (1.0 + SHEEN * graze)
    white = wp.vec3(1.0, 1.0, 1.0)
    tint = white
    if surface.mirror > 0.0:
        tint = base * (1.0 - graze) + white * graze
    shown = tint * (shine * surface.gloss) + base * (scattered * surface.diffuse)
    mirrored = ray + n * (2.0 * facing_eye)
    if surface.coat > 0.0:
        share = surface.coat + (1.0 - surface.coat) * graze
        level = float(world.ground)
        if mirrored[1] > 0.0:
            level = sky(world, b, mirrored, 0.02)
        shown = shown * (1.0 - share) + white * (level * share)
    if surface.mirror + surface.transmission > 0.0:
        onward = mirrored
        filter = tint * surface.mirror
        if surface.mirror == 0.0:
            onward = wp.normalize(ray - n * (0.3 * facing_eye))
            strength = surface.transmission * (0.6 + 0.4 * facing_eye)
            filter = (wp.vec3(wp.sqrt(base[0]), wp.sqrt(base[1]), wp.sqrt(base[2])) * 0.9 + white * 0.1) * strength
        seen, mirrored_of = beyond(world, b, p + onward * 0.01, onward, objects, found)
        touched |= mirrored_of
        shown += wp.cw_mul(filter, seen)
    return wp.vec3(wp.min(shown[0], 1.0), wp.min(shown[1], 1.0), wp.min(shown[2], 1.0)), touched


@wp.func
def normal_of(world: World, b: int, found: int, p: wp.vec3):
    """Outward unit normal of an object at p, in object space."""
    thing = world.things[b, found]
    return normal_at(world.profiles, thing, to_object(thing, p - thing.center) / thing.radius)


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

"""The ray caster: Warp kernels that draw a batch of scenes, the same source for CPU and CUDA.

`find_tiles` asks for every tile of 8 x 8 pixels which objects and which of their shadows can touch it, `light_ground`
what light the open ground has at the tiles' corners; `cast` draws one sample through the middle of each pixel; `refine`
draws the other samples of a grid where neighbours differ in object, normal or colour. Every thread writes its own tile
and reads nothing that another thread of its launch writes, so pixels do not depend on the batch.

Warp changes a variable in place where a loop assigns to it, and with it what it was copied from: int(x) and float(x)
make the copies that are changed.
"""

import warp as wp

from data_gen.render.clevr.light import ground_light, nearest, normal_of, object_light, open_ground
from data_gen.render.clevr.world import GROUND, TILE, Camera, World

wp.set_module_options({"enable_backward": False, "max_unroll": 1})


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


@wp.func
def tile_view(camera: Camera, row: int, column: int, size: float):
    """What the camera sees of a tile: its middle ray, the sine of the angle to its farthest corner, whether it shows
    ground alone, and if so the spot where the middle ray meets it and the spot's radius."""
    x, y = float(column * TILE), float(row * TILE)
    middle = view_ray(camera, x + 0.5 * float(TILE), y + 0.5 * float(TILE), size)
    spot = camera.eye - middle * (camera.eye[1] / wp.min(middle[1], -1.0e-2))
    least, spot_radius = float(1.0), float(0.0)
    grounded = int(1)
    for k in range(4):
        ray = view_ray(camera, x + float(k % 2 * TILE), y + float(k // 2 * TILE), size)
        least = wp.min(least, wp.dot(middle, ray))
        if ray[1] >= -1.0e-2:
            grounded = 0
        else:
            at = camera.eye - ray * (camera.eye[1] / ray[1])
            spot_radius = wp.max(spot_radius, wp.length(at - spot))
    return middle, wp.sqrt(wp.max(1.0 - least * least, 0.0)), grounded, spot, spot_radius


@wp.kernel
def find_tiles(world: World, counts: wp.array(dtype=int), size: int, tiles: wp.array4d(dtype=int)):
    """For each tile the sets of bits: objects seen, objects near its ground, objects whose shadow of light k is there.

    tiles: int [B, T, T, 5].
    """
    b, row, column = wp.tid()
    camera = world.cameras[b]
    middle, width, grounded, spot, spot_radius = tile_view(camera, row, column, float(size))
    seen, near = int(0), int(0)
    shaded = wp.vec3i(0, 0, 0)
    for j in range(counts[b]):
        thing = world.things[b, j]
        offset = thing.center - camera.eye
        along = wp.dot(offset, middle)
        away = wp.sqrt(wp.max(wp.dot(offset, offset) - along * along, 0.0))
        if away <= thing.bound * 1.02 + width * wp.length(offset) * 1.05:
            seen |= 1 << j
        gap = wp.length(spot - thing.center)
        if grounded == 0 or gap <= thing.bound + thing.radius + spot_radius:
            near |= 1 << j
        for k in range(world.num_lights):
            light = world.lights[b, k]
            ray = wp.normalize(light.place - spot)
            ahead = wp.dot(thing.center - spot, ray)
            side = wp.sqrt(wp.max(gap * gap - ahead * ahead, 0.0))
            reach = thing.bound + light.spread * wp.max(ahead + spot_radius, 0.0)
            if grounded == 0 or (ahead > -thing.bound - spot_radius and side <= reach + spot_radius * 1.3):
                shaded[k] = shaded[k] | (1 << j)
    tiles[b, row, column, 0] = seen
    tiles[b, row, column, 1] = near
    for k in range(3):
        tiles[b, row, column, 2 + k] = shaded[k]


@wp.func
def tile_sets(tiles: wp.array4d(dtype=int), b: int, row: int, column: int):
    """What `find_tiles` says of a tile: objects seen, near, and shading by light."""
    shaded = wp.vec3i(tiles[b, row, column, 2], tiles[b, row, column, 3], tiles[b, row, column, 4])
    return tiles[b, row, column, 0], tiles[b, row, column, 1], shaded


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
    seen, near, shaded = tile_sets(tiles, b, row, column)
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


@wp.func
def edges(
    ids: wp.array3d(dtype=wp.int8),
    colors: wp.array3d(dtype=wp.vec3),
    normals: wp.array3d(dtype=wp.vec3),
    b: int,
    y: int,
    x: int,
    size: int,
):
    """Which edges run between a pixel and its neighbours: to another object, to another side or colour of its own."""
    own = int(ids[b, y, x])
    border, inner, full = int(0), int(0), int(0)
    for k in range(1, 5):
        v, u = neighbour(y, x, k, size)
        if int(ids[b, v, u]) != own:
            border = 1
        elif own >= 0:
            if wp.dot(normals[b, y, x], normals[b, v, u]) < 0.9:
                inner = 1
            elif differs(colors[b, y, x], colors[b, v, u]) != 0:
                full = 1
    return border, inner, full


@wp.func
def shown_nearby(ids: wp.array3d(dtype=wp.int8), b: int, y: int, x: int, size: int, found: int):
    """Whether a pixel or a neighbour shows the object `found`."""
    shown = int(0)
    for k in range(5):
        v, u = neighbour(y, x, k, size)
        if int(ids[b, v, u]) == found:
            shown = 1
    return shown


@wp.func
def known_color(
    ids: wp.array3d(dtype=wp.int8),
    colors: wp.array3d(dtype=wp.vec3),
    normals: wp.array3d(dtype=wp.vec3),
    b: int,
    y: int,
    x: int,
    size: int,
    found: int,
    by_side: int,
    local: wp.vec3,
):
    """The colour of the pixel, or of a neighbour, that shows the object `found`; `by_side`: with most nearly the normal
    `local`, and none where no normal is near it. And whether there is one."""
    best = wp.where(by_side != 0, float(0.9), float(-1.0))
    known = int(0)
    color = wp.vec3(0.0, 0.0, 0.0)
    for k in range(5):
        v, u = neighbour(y, x, k, size)
        if int(ids[b, v, u]) == found:
            like = float(0.0)
            if by_side != 0:
                like = wp.dot(local, normals[b, v, u])
            if like > best:
                best = like
                color = colors[b, v, u]
                known = 1
    return known, color


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
    seen, near, shaded = tile_sets(tiles, b, row, column)
    around = seen | everywhere
    for k in range(1, 5):
        v, u = neighbour(row, column, k, tiles.shape[1])
        around |= tiles[b, v, u, 0]
    last = wp.where(around != 0, wp.min(row * TILE + TILE, size), 0)
    for y in range(row * TILE, last):
        for x in range(column * TILE, wp.min(column * TILE + TILE, size)):
            border, inner, full = edges(ids, colors, normals, b, y, x, size)
            full |= everywhere
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
                        shown = shown_nearby(ids, b, y, x, size, found)
                        local = wp.vec3(0.0, 0.0, 0.0)
                        if found >= 0 and (inner + full > 0 or shown == 0):
                            local = normal_of(world, b, found, p)
                        known = int(0)
                        if full == 0 and shown != 0:
                            by_side = wp.where(found >= 0, inner, 0)
                            known, color = known_color(ids, colors, normals, b, y, x, size, found, by_side, local)
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

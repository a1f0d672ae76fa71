"""Draws a scene description (see blender_scene.py) with Blender Cycles; run by an interpreter that has `bpy`.

    python -I blender_draw.py SCENES.json FOLDER SAMPLES

writes FOLDER/0000.png, ... and FOLDER/seconds.json: Blender's version, the samples of a pixel, and the seconds of one
core that each picture took, from the call that renders the built scene to the written file. This script imports nothing
of the project, so that Blender's environment needs `bpy` and `numpy` only. Written for bpy 5.

As in CLEVR: Cycles with every sample drawn and no denoising, up to 8 bounces. The camera, the lights, the ground, the
places and the outlines are those of the description; highlights, reflections, refraction and the light that surfaces
throw on each other are Blender's. Patterns are not drawn.

World of Blender: x to the right, y away from the viewer, z up.
"""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

STEPS = 96  # around a solid of revolution
BOUNCES = 8  # CLEVR's
SHARP = math.radians(35)  # edges that are blunter than this are smooth
GROUND_SIDE = 400.0
POINT = 1e-3  # a radius that is as good as none

Points = np.ndarray | list[list[float]]
Mesh = tuple[np.ndarray, list[list[int]]]

# Inputs of Blender's Principled BSDF. Rubber and metal are those of Kubric (github.com/google-research/kubric), which
# rebuilt CLEVR's; ceramic and glass have the usual index of refraction of a glaze and of window glass.
SURFACES = {
    "rubber": {"Roughness": 0.7, "IOR": 1.25, "Specular IOR Level": 0.33},
    "metal": {"Metallic": 1.0, "Roughness": 0.2, "IOR": 2.5},
    "ceramic": {"Roughness": 0.1, "IOR": 1.6},
    "glass": {"Transmission Weight": 1.0, "Roughness": 0.0, "IOR": 1.45},
}


def revolved(polygon: Points, steps: int = STEPS) -> Mesh:
    """The right half of an outline [k, 2] (x right, y down), turned around the vertical axis.

    Returns vertices float64 [n, 3] (z up), and faces as lists of vertex numbers, which face outward. A tip on the axis
    is a ring too, as good as a point, so that its normals are those of the sides.
    """
    points = right_half(np.asarray(polygon, dtype=np.float64))
    if signed_area(points) < 0:
        points = points[::-1]
    angles = 2 * np.pi * np.arange(steps) / steps
    radius = np.maximum(points[:, :1], POINT)
    height = np.broadcast_to(-points[:, 1:], (len(points), steps))
    vertices = np.stack([radius * np.cos(angles), radius * np.sin(angles), height], axis=-1).reshape(-1, 3)
    faces = []
    for here in range(len(points)):
        there = (here + 1) % len(points)
        if max(points[here, 0], points[there, 0]) > POINT:
            for k in range(steps):
                k_next = (k + 1) % steps
                faces.append([here * steps + k, there * steps + k, there * steps + k_next, here * steps + k_next])
    return vertices, faces


def right_half(points: np.ndarray) -> np.ndarray:
    """The part of a polygon [k, 2] with x >= 0."""
    kept = []
    for a, b in zip(points, np.roll(points, -1, axis=0)):
        if a[0] >= 0:
            kept.append(a)
        if (a[0] < 0) != (b[0] < 0):
            share = a[0] / (a[0] - b[0])
            kept.append(np.array([0.0, a[1] + share * (b[1] - a[1])]))
    different = [p for p, q in zip(kept, kept[1:] + kept[:1]) if np.abs(p - q).max() > 1e-9]
    return np.array(different)


def signed_area(points: np.ndarray) -> float:
    """Area of a polygon [k, 2] with y down: positive where it runs clockwise on the screen."""
    x, y = points.T
    return float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2)


def tapered(polygon: Points, height: float, top: float) -> Mesh:
    """An outline [k, 2] (x right, y down) that rises by `height`, centred, and shrinks to the share `top`.

    Returns vertices float64 [n, 3] (z up), and faces as lists of vertex numbers, which face outward.
    """
    points = np.asarray(polygon, dtype=np.float64)
    points = points[np.abs(points - np.roll(points, 1, axis=0)).max(axis=1) > 1e-9] * [1.0, -1.0]
    if signed_area(points) < 0:  # counterclockwise seen from above, now that y goes away from the viewer
        points = points[::-1]
    k = len(points)
    base = np.column_stack([points, np.full(k, -height / 2)])
    lid = np.column_stack([points * max(top, POINT), np.full(k, height / 2)])
    sides = [[i, (i + 1) % k, k + (i + 1) % k, k + i] for i in range(k)]
    return np.vstack([base, lid]), [list(range(k))[::-1], *sides, list(range(k, 2 * k))]


def to_blender(vector: list[float]) -> tuple[float, float, float]:
    """A vector of the description in Blender's world."""
    x, y, z = vector
    return (x, -z, y)


def draw(description: dict[str, Any], folder: Path, samples: int) -> dict[str, Any]:
    """Draws all scenes and returns what seconds.json says. How far it is goes to stderr."""
    import bpy

    seconds = []
    number = len(description["scenes"])
    for i, scene in enumerate(description["scenes"]):
        bpy.ops.wm.read_factory_settings(use_empty=True)
        build(bpy, description, scene)
        unfinished = folder / f"unfinished-{i:04d}.png"
        set_up_cycles(bpy.context.scene, description["size"], samples, unfinished)
        start = time.process_time()
        bpy.ops.render.render(write_still=True)
        seconds.append(time.process_time() - start)
        os.replace(unfinished, folder / f"{i:04d}.png")
        print(f"Blender: {i + 1} of {number} pictures, {np.mean(seconds):.1f} s each", file=sys.stderr, flush=True)
    return {"blender": bpy.app.version_string, "samples": samples, "seconds": seconds}


def set_up_cycles(scene: Any, size: int, samples: int, path: Path) -> None:
    """One thread, all samples, sRGB as it is, a pixel is the mean over its square."""
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = samples
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.use_denoising = False
    scene.cycles.use_light_tree = False  # which three lights do not need: it takes a third more time
    scene.cycles.max_bounces = BOUNCES
    scene.cycles.diffuse_bounces = scene.cycles.glossy_bounces = scene.cycles.transmission_bounces = BOUNCES
    scene.cycles.pixel_filter_type = "BOX"
    scene.cycles.filter_width = 1.0
    scene.view_settings.view_transform = "Standard"
    scene.render.threads_mode = "FIXED"
    scene.render.threads = 1
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    scene.render.dither_intensity = 0.0
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"
    scene.render.filepath = str(path)


def build(bpy: Any, description: dict[str, Any], scene: dict[str, Any]) -> None:
    """Puts one scene of the description into Blender's empty one."""
    add_camera(bpy, scene["camera"])
    for light in scene["lights"]:
        add_light(bpy, light)
    add_room(bpy, description["room"])
    add_ground(bpy, description["ground"], description["room"])
    for thing in scene["objects"]:
        solid = description["solids"][thing["shape"]]
        if solid["kind"] == "revolve":
            placed = add_mesh(bpy, *revolved(solid["polygons"][0]))
        elif solid["kind"] == "taper" or is_box(solid):
            placed = add_mesh(bpy, *tapered(solid["polygons"][0], solid["height"], solid["top"]))
            add_bevel(placed, solid["rounding"])
        else:
            placed = add_prism(bpy, solid)
        placed.data.materials.clear()
        placed.data.materials.append(principled(bpy, thing["color"], thing["material"]))
        placed.location = to_blender(thing["center"])
        placed.scale = (thing["scale"],) * 3
        placed.rotation_euler = (math.pi / 2 if solid["kind"] == "stand" else 0.0, 0.0, -thing["yaw"])


def is_box(solid: dict[str, Any]) -> bool:
    """Whether all edges of a prism are rounded, not only its caps', as the 3-D renderer does with boxes."""
    return len(solid["polygons"]) == 1 and len(solid["polygons"][0]) == 4


def add_camera(bpy: Any, camera: dict[str, Any]) -> None:
    """The description's camera, which sees a square."""
    from mathutils import Matrix, Vector

    right, up, forward = (Vector(to_blender(camera[name])) for name in ("right", "up", "forward"))
    data = bpy.data.cameras.new("camera")
    data.angle = 2 * math.atan(right.length / forward.length)
    placed = link(bpy, data)
    placed.matrix_world = Matrix.Translation(to_blender(camera["eye"])) @ (
        Matrix((right.normalized(), up.normalized(), -forward.normalized())).transposed().to_4x4()
    )
    bpy.context.scene.camera = placed


def add_light(bpy: Any, light: dict[str, Any]) -> None:
    """A luminous ball. A lamp of power P gives a white matte surface at distance d the radiance P / (2 pi d)^2."""
    distance = math.dist(light["place"], (0, 0, 0))
    data = bpy.data.lights.new("light", "POINT")
    data.energy = light["strength"] * (2 * math.pi * distance) ** 2
    data.shadow_soft_size = light["radius"]
    link(bpy, data).location = to_blender(light["place"])


def add_room(bpy: Any, room: dict[str, float]) -> None:
    """Even light for matte surfaces; mirrors see it darken upward, as the 3-D renderer's do."""
    world = bpy.data.worlds.new("room")
    bpy.context.scene.world = world
    world.cycles.sampling_method = "NONE"  # what lights matte surfaces is even, which needs no rays of its own
    nodes, wire = world.node_tree.nodes, world.node_tree.links.new
    up = nodes.new("ShaderNodeSeparateXYZ")
    wire(nodes.new("ShaderNodeTexCoord").outputs["Generated"], up.inputs[0])
    root = math_node(nodes, wire, "POWER", math_node(nodes, wire, "MAXIMUM", up.outputs["Z"], 0.0), 0.5)
    fall = math_node(nodes, wire, "MULTIPLY", root, room["zenith"] - room["horizon"])
    mirrored = math_node(nodes, wire, "ADD", fall, room["horizon"])
    path = nodes.new("ShaderNodeLightPath")
    excess = math_node(nodes, wire, "SUBTRACT", mirrored, room["ambient"])
    even = math_node(nodes, wire, "SUBTRACT", 1.0, path.outputs["Is Diffuse Ray"])
    level = math_node(nodes, wire, "ADD", math_node(nodes, wire, "MULTIPLY", excess, even), room["ambient"])
    wire(level, nodes["Background"].inputs["Strength"])
    nodes["Background"].inputs["Color"].default_value = (1.0, 1.0, 1.0, 1.0)


def add_ground(bpy: Any, ground: dict[str, Any], room: dict[str, float]) -> None:
    """A matte plane that passes into the backdrop far away. The backdrop lights nothing."""
    half = GROUND_SIDE / 2
    corners = np.array([(-half, -half, 0), (half, -half, 0), (half, half, 0), (-half, half, 0)])
    placed = add_mesh(bpy, corners, [[0, 1, 2, 3]])
    material = bpy.data.materials.new("ground")
    nodes, wire = material.node_tree.nodes, material.node_tree.links.new
    nodes.remove(nodes["Principled BSDF"])
    matte, far, mix = (nodes.new(f"ShaderNode{kind}") for kind in ("BsdfDiffuse", "Emission", "MixShader"))
    matte.inputs["Color"].default_value = (*[ground["albedo"]] * 3, 1.0)
    far.inputs["Strength"].default_value = room["backdrop"]
    away = nodes.new("ShaderNodeVectorMath")
    away.operation = "LENGTH"
    wire(nodes.new("ShaderNodeNewGeometry").outputs["Position"], away.inputs[0])
    share = nodes.new("ShaderNodeMapRange")
    share.interpolation_type = "SMOOTHSTEP"
    wire(away.outputs["Value"], share.inputs["Value"])
    share.inputs["From Min"].default_value, share.inputs["From Max"].default_value = ground["fade"]
    seen = math_node(nodes, wire, "SUBTRACT", 1.0, nodes.new("ShaderNodeLightPath").outputs["Is Diffuse Ray"])
    wire(math_node(nodes, wire, "MULTIPLY", share.outputs["Result"], seen), mix.inputs["Fac"])
    wire(matte.outputs[0], mix.inputs[1])
    wire(far.outputs[0], mix.inputs[2])
    wire(mix.outputs[0], nodes["Material Output"].inputs["Surface"])
    placed.data.materials.append(material)


def math_node(nodes: Any, wire: Any, operation: str, first: Any, second: Any) -> Any:
    """The output of a node that computes with two numbers or outputs."""
    node = nodes.new("ShaderNodeMath")
    node.operation = operation
    for socket, value in zip(node.inputs, (first, second)):
        if isinstance(value, float):
            socket.default_value = value
        else:
            wire(value, socket)
    return node.outputs[0]


def principled(bpy: Any, color: list[float], name: str) -> Any:
    """Blender's standard surface, as the material of this name has it."""
    material = bpy.data.materials.new(name)
    inputs = material.node_tree.nodes["Principled BSDF"].inputs
    if "Transmission Weight" in SURFACES[name]:
        color = [level**0.25 for level in color]  # twice, on the way in and out: the root, as in the 3-D renderer
    inputs["Base Color"].default_value = (*color, 1.0)
    for key, value in SURFACES[name].items():
        inputs[key].default_value = value
    return material


def add_mesh(bpy: Any, vertices: np.ndarray, faces: list[list[int]]) -> Any:
    """An object of these vertices and faces, smooth but for its sharp edges."""
    data = bpy.data.meshes.new("mesh")
    data.from_pydata([tuple(v) for v in vertices.tolist()], [], faces)
    smooth(data)
    return link(bpy, data)


def add_bevel(placed: Any, width: float) -> None:
    """Rounds the sharp edges of an object."""
    bevel = placed.modifiers.new("rounding", "BEVEL")
    bevel.width, bevel.segments, bevel.limit_method, bevel.angle_limit = width, 3, "ANGLE", SHARP


def add_prism(bpy: Any, solid: dict[str, Any]) -> Any:
    """An outline with its holes, upright along z, as thick as the solid is high, its caps' edges rounded."""
    curve = bpy.data.curves.new("outline", "CURVE")
    curve.dimensions, curve.fill_mode = "2D", "BOTH"
    curve.extrude = solid["height"] / 2 - solid["rounding"]
    curve.bevel_depth, curve.bevel_resolution, curve.offset = solid["rounding"], 2, -solid["rounding"]
    for polygon in solid["polygons"]:
        points = [p for p, q in zip(polygon, polygon[1:] + polygon[:1]) if math.dist(p, q) > 1e-6]
        spline = curve.splines.new("POLY")
        spline.points.add(len(points) - 1)
        for point, (x, y) in zip(spline.points, points):
            point.co = (x, -y, 0.0, 1.0)
        spline.use_cyclic_u = True
    outline = bpy.data.objects.new("outline", curve)
    data = bpy.data.meshes.new_from_object(outline)
    weld(data)
    smooth(data)
    return link(bpy, data)


def weld(data: Any) -> None:
    """Joins the vertices of a mesh that lie in one place, so that its normals know all faces around them."""
    import bmesh

    mesh = bmesh.new()
    mesh.from_mesh(data)
    bmesh.ops.remove_doubles(mesh, verts=mesh.verts, dist=1e-5)
    bmesh.ops.recalc_face_normals(mesh, faces=mesh.faces)
    mesh.to_mesh(data)
    mesh.free()


def smooth(data: Any) -> None:
    """Smooth normals, but for sharp edges."""
    data.polygons.foreach_set("use_smooth", [True] * len(data.polygons))
    data.set_sharp_from_angle(angle=SHARP)


def link(bpy: Any, data: Any) -> Any:
    """An object that holds these data, in the scene."""
    placed = bpy.data.objects.new(data.name, data)
    bpy.context.scene.collection.objects.link(placed)
    return placed


def main(arguments: list[str]) -> None:
    """Reads, draws, and writes the seconds."""
    description = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    folder = Path(arguments[1])
    report = draw(description, folder, int(arguments[2]))
    unfinished = folder / "unfinished-seconds.json"
    unfinished.write_text(json.dumps(report), encoding="utf-8")
    os.replace(unfinished, folder / "seconds.json")


if __name__ == "__main__":
    main(sys.argv[1:])

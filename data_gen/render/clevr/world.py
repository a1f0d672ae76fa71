"""What the kernels are told of a scene, as Warp's structures, and the constants that they share.

World: x to the right, y up, z toward the viewer; the ground is y = 0. Object space: the solid's own frame, in which its
outline has radius 1, turned by the yaw about the vertical axis.
"""

import warp as wp

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
    "sphere": SPHERE,
    "box": BOX,
    "cylinder": CYLINDER,
    "cone": CONE,
    "torus": TORUS,
    "extrude": EXTRUDE,
    "revolve": REVOLVE,
    "taper": TAPER,
    "stand": STAND,
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

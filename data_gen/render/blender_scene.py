"""What the 3-D renderer draws, in plain numbers: the scene description that Blender draws too (see blender.py).

A description is one JSON object. World as in the 3-D renderer: x to the right, y up, z toward the viewer; the ground is
y = 0. Light and colours are linear; a white matte surface under light of strength 1 has brightness 1.

    format      1
    size        side of the pictures in pixels
    ground      {"albedo", "fade": [near, far]}: its colour passes into the backdrop between these distances from 0
    room        {"ambient", "backdrop", "horizon", "zenith"}: light from all around; the far ground; what mirrors see
    solids      name -> {"kind", "polygons", "height", "rounding", "top"}, as in shapes.Solid, x right and y down
    scenes      list of {"camera", "lights", "objects"}:
      camera    {"eye", "forward", "right", "up"}: right and up reach to the picture's borders at distance 1
      lights    list of {"place", "strength", "radius"}: round, white; the strength is the one at the point 0
      objects   list of {"shape", "material", "pattern", "color", "center", "scale", "yaw"}: the outline's unit circle
                has radius `scale`; `yaw` in radians, clockwise seen from above
"""

from typing import Any

import numpy as np

from data_gen.render.clevr.renderer import AMBIENT, BACKDROP, DEFAULTS, GROUND, ClevrRenderer, Setting
from data_gen.render.clevr.solids import solid_numbers
from data_gen.render.materials import MATERIALS
from data_gen.render.patterns import PATTERNS
from data_gen.render.profiles import PROFILES
from data_gen.render.shapes import SOLIDS
from dualenc.scenes import Scenes

FORMAT = 1
_FADE = (5.0, 17.0)  # as `fade` in clevr/light.py
_HORIZON, _ZENITH = 0.85, 0.25  # shares of the backdrop, as `room` in clevr/light.py
_DIGITS = 6


def describe(renderer: ClevrRenderer, scenes: Scenes, split: str, numbers: np.ndarray) -> dict[str, Any]:
    """The description of what `renderer` draws for these scenes, numbers `numbers` [n] of `split`."""
    setting = renderer.setting(scenes, split, numbers)
    shapes = _shapes(scenes)
    used = sorted({name for row in shapes for name in row})
    return {
        "format": FORMAT,
        "size": renderer.picture.size,
        "ground": {"albedo": GROUND, "fade": list(_FADE)},
        "room": {
            "ambient": AMBIENT,
            "backdrop": BACKDROP,
            "horizon": _HORIZON * BACKDROP,
            "zenith": _ZENITH * BACKDROP,
        },
        "solids": {name: _solid(name) for name in used},
        "scenes": [_scene(setting, i, names) for i, names in enumerate(shapes)],
    }


def _shapes(scenes: Scenes) -> list[list[str]]:
    """The shapes of the objects of every scene."""
    space, counts = scenes.space, scenes.counts.tolist()
    if "shape" not in space.names:
        return [[DEFAULTS["shape"]] * count for count in counts]
    k = space.names.index("shape")
    return [[space.values[k][v] for v in row[:count, k]] for row, count in zip(scenes.values, counts)]


def _solid(name: str) -> dict[str, Any]:
    solid = SOLIDS[name]
    return {
        "kind": solid.kind,
        "polygons": [_plain(polygon) for polygon in PROFILES[solid.profile].polygons()],
        "height": solid.height,
        "rounding": solid.rounding,
        "top": solid.top,
    }


def _scene(setting: Setting, i: int, shapes: list[str]) -> dict[str, Any]:
    look, things = setting.look, setting.things[i]
    distances = np.linalg.norm(look.places[i], axis=-1)
    return {
        "camera": {name: _plain(getattr(look, name)[i]) for name in ("eye", "forward", "right", "up")},
        "lights": [
            {"place": _plain(place), "strength": _plain(strength), "radius": _plain(spread * distance)}
            for place, strength, spread, distance in zip(look.places[i], look.strengths[i], look.spreads, distances)
        ],
        "objects": [
            {
                "shape": name,
                "material": list(MATERIALS)[thing["material"]],
                "pattern": list(PATTERNS)[thing["pattern"]],
                "color": _plain(thing["color"]),
                "center": _plain(thing["center"]),
                "scale": _plain(thing["radius"] / solid_numbers(SOLIDS[name]).unit),
                "yaw": _plain(np.arctan2(thing["sin"], thing["cos"])),
            }
            for name, thing in zip(shapes, things)
        ],
    }


def _plain(values: Any) -> Any:
    """Numbers of numpy as JSON's, rounded to what a picture can show."""
    return np.round(np.asarray(values, dtype=np.float64), _DIGITS).tolist()

"""The colours, as one table: name -> sRGB. The eight of CLEVR first; a config that asks for n gets the first n.

The eight values are CLEVR's (arXiv 1612.06890). The next four were chosen by eye. The other 38 began as plain English
names; each was then moved by at most 0.06 from its name's usual place in OKLab, the perceptual space of
https://bottosson.github.io/posts/oklab/, so that the nearest two of all 50, and of any and the light grey ground, are
as far apart as possible however brightness varies by a tenth, lightness counting 0.8 times, and so that it takes as
large a change of brightness as possible to bring one colour nearer to another in sRGB. They stand in farthest-point
order: each is the one farthest from all before it.
"""

import numpy as np

COLORS: dict[str, tuple[int, int, int]] = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
    "orange": (255, 138, 20),
    "pink": (255, 120, 200),
    "lime": (120, 230, 40),
    "black": (16, 16, 16),
    "fuchsia": (255, 0, 244),
    "navy": (0, 0, 82),
    "plum": (85, 2, 95),
    "ash": (153, 150, 142),
    "cerulean": (1, 153, 219),
    "indigo": (63, 0, 145),
    "lilac": (180, 173, 248),
    "ultramarine": (0, 0, 162),
    "grape": (116, 59, 102),
    "forest": (0, 57, 4),
    "cobalt": (23, 54, 123),
    "maroon": (63, 0, 32),
    "jade": (0, 169, 87),
    "magenta": (180, 5, 151),
    "chocolate": (81, 30, 0),
    "straw": (239, 251, 170),
    "peach": (255, 168, 163),
    "clay": (196, 101, 92),
    "scarlet": (255, 73, 0),
    "violet": (219, 91, 255),
    "rose": (228, 69, 118),
    "periwinkle": (96, 132, 250),
    "sky": (137, 204, 246),
    "raspberry": (150, 0, 78),
    "avocado": (159, 173, 0),
    "mint": (92, 255, 157),
    "ocean": (63, 139, 144),
    "denim": (90, 92, 146),
    "mauve": (165, 118, 151),
    "teal": (0, 88, 112),
    "sage": (132, 179, 126),
    "ochre": (169, 124, 0),
    "orchid": (200, 131, 235),
    "olive": (98, 117, 62),
    "amethyst": (127, 90, 211),
    "pistachio": (169, 255, 212),
    "tan": (232, 184, 105),
    "charcoal": (46, 51, 51),
}


def second_tone(linear: np.ndarray) -> np.ndarray:
    """The other tone of a pattern, on linear light [..., 3] in 0..1: darker on light colours, lighter on dark ones."""
    light = (linear @ [0.2126, 0.7152, 0.0722])[..., None]
    return np.where(light > 0.18, 0.22 * linear, 0.45 * linear + 0.4)


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """Linear light of sRGB, both in 0..1."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """sRGB of linear light, both in 0..1."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)

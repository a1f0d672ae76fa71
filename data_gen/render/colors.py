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


def oklab(rgb: np.ndarray) -> np.ndarray:
    """OKLab coordinates [..., 3] of sRGB colours [..., 3] in 0..255."""
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(_linear(rgb) @ np.array(to_lms).T) @ np.array(to_lab).T


def second_tone(rgb: np.ndarray) -> np.ndarray:
    """The other tone of a pattern on sRGB colours [..., 3] in 0..255: darker on light colours, lighter on dark ones."""
    linear = _linear(rgb)
    light = (linear @ [0.2126, 0.7152, 0.0722])[..., None]
    return _srgb(np.where(light > 0.18, 0.22 * linear, 0.45 * linear + 0.4))


def _linear(rgb: np.ndarray) -> np.ndarray:
    """Linear light in 0..1 of sRGB in 0..255."""
    c = np.asarray(rgb, dtype=np.float64) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def _srgb(linear: np.ndarray) -> np.ndarray:
    """sRGB in 0..255 of linear light in 0..1."""
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)

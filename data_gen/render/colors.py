"""The colours, as one table: name -> sRGB. The eight of CLEVR first; a config that asks for n gets the first n.

The eight values are CLEVR's (arXiv 1612.06890). The next four were chosen by eye. The other 38 began as plain English
names; each was then moved by up to 0.05 from its name's usual place in OKLab, the perceptual space of
https://bottosson.github.io/posts/oklab/, so that the nearest two of all 50, and of any and the light grey ground, are
as far apart as possible however brightness varies by a tenth, lightness counting 0.8 times; and they stand in
farthest-point order: each is the one farthest from all before it.
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
    "cerulean": (0, 150, 226),
    "maroon": (92, 0, 39),
    "navy": (0, 0, 66),
    "ash": (156, 152, 151),
    "ultramarine": (0, 0, 157),
    "grape": (127, 63, 106),
    "indigo": (62, 0, 138),
    "jade": (0, 169, 93),
    "lilac": (184, 175, 255),
    "magenta": (184, 1, 147),
    "rose": (235, 90, 115),
    "plum": (87, 2, 90),
    "cobalt": (32, 57, 125),
    "scarlet": (255, 74, 0),
    "chocolate": (79, 32, 0),
    "sky": (134, 201, 245),
    "periwinkle": (105, 130, 255),
    "forest": (11, 59, 8),
    "denim": (92, 98, 154),
    "ocean": (70, 139, 156),
    "violet": (219, 90, 255),
    "raspberry": (195, 0, 96),
    "sage": (136, 175, 122),
    "peach": (255, 172, 160),
    "avocado": (162, 177, 0),
    "mauve": (185, 129, 168),
    "mint": (119, 251, 151),
    "clay": (184, 112, 98),
    "teal": (0, 88, 110),
    "orchid": (197, 128, 229),
    "amethyst": (138, 94, 217),
    "tan": (228, 179, 112),
    "straw": (241, 248, 158),
    "ochre": (172, 123, 0),
    "charcoal": (46, 51, 51),
    "pistachio": (179, 252, 204),
    "olive": (110, 118, 0),
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

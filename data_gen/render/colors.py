"""The colours, as one table: name -> sRGB. The eight of CLEVR first; a config that asks for n gets the first n.

The eight values are CLEVR's (arXiv 1612.06890); those after them are chosen far from all before in OKLab, the
perceptual space of https://bottosson.github.io/posts/oklab/, and far from the light grey background.
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
}


def oklab(rgb: np.ndarray) -> np.ndarray:
    """OKLab coordinates [..., 3] of sRGB colours [..., 3] in 0..255."""
    c = np.asarray(rgb, dtype=np.float64) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
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
    return np.cbrt(linear @ np.array(to_lms).T) @ np.array(to_lab).T

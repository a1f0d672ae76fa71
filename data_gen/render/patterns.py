"""Surface patterns of both styles, as one table: name -> periodic tile.

A tile is a float32 array [64, 64] in [0, 1]: how much of the object's own colour shows, the rest is a lighter or darker
tone of it (`colors.second_tone`). The first row follows the last, the first column the last, so a tile repeats without
a seam. To add a pattern, add a line to `_make_patterns`.
"""

from functools import lru_cache

import numpy as np

TILE = 64


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Coordinates x, y of the tile's pixels in [0, 1), each [TILE, TILE]; y goes down."""
    y, x = (np.mgrid[:TILE, :TILE] + 0.5) / TILE
    return x, y


def _make_patterns() -> dict[str, np.ndarray]:
    x, y = _grid()
    vertical, level = (x % 0.5) < 0.25, (y % 0.5) < 0.25
    from_dots = np.hypot((x % 0.5) - 0.25, (y % 0.5) - 0.25)
    patterns = {
        "plain": np.ones((TILE, TILE), dtype=bool),
        "striped": vertical,
        "checked": vertical ^ level,
        "dotted": from_dots > 0.15,
        "banded": level,
        "slanted": ((x + y) % 0.5) < 0.25,
        "gridded": ((x % 0.5) > 0.14) & ((y % 0.5) > 0.14),
        "wavy": ((y + 0.07 * np.sin(4 * np.pi * x)) % 0.5) < 0.25,
    }
    return {name: tile.astype(np.float32) for name, tile in patterns.items()}


PATTERNS: dict[str, np.ndarray] = _make_patterns()


@lru_cache(maxsize=64)
def blurred(name: str, widths: tuple[int, ...]) -> np.ndarray:
    """float32 [len(widths), TILE, TILE]: a tile averaged over squares of these widths, in pixels of the tile."""
    spectrum = np.fft.fft2(PATTERNS[name])
    frequency = np.fft.fftfreq(TILE)
    averaged = []
    for width in widths:
        offsets = np.arange(width) - (width - 1) / 2
        response = np.cos(2 * np.pi * frequency[:, None] * offsets).mean(axis=1)
        averaged.append(np.fft.ifft2(spectrum * response[:, None] * response).real)
    return np.clip(np.stack(averaged), 0, 1).astype(np.float32)

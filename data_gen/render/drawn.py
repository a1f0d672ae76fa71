"""What a renderer says of each object that it has drawn, the same in all styles."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Drawn:
    """What the id buffer says of one object of a picture.

    size: its diameter in pixels; visible_pixels: the number of its pixels; box: [x0, y0, x1, y1] around them, half
    open; mask: bool [y1 - y0, x1 - x0], which pixels of the box are its own (left out when two are compared).
    """

    size: float
    visible_pixels: int
    box: list[int]
    mask: np.ndarray = field(compare=False, repr=False)


def scene_numbers(start: int | np.ndarray, num_scenes: int) -> np.ndarray:
    """int64 [num_scenes]: the scenes' numbers, given the first of consecutive ones or all of them."""
    return np.arange(start, start + num_scenes) if isinstance(start, int) else np.asarray(start, dtype=np.int64)

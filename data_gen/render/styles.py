"""The renderers by the name of their style; the 3-D one is imported only where it is asked for."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from data_gen.config import PictureConfig
from data_gen.render.drawn import Drawn
from data_gen.render.flat import FlatRenderer
from dualenc.scenes import ConceptSpace, Scenes


class Renderer(Protocol):
    """What every style can do. Places are in the unit square; see the renderers' own words."""

    @property
    def margin(self) -> float:
        """Least distance of a centre to the border of the unit square."""

    @property
    def min_distance(self) -> float:
        """Least distance of two centres in the unit square."""

    def shows(self, drawn: list[Drawn]) -> bool:
        """Whether a picture, by what `draw` says of its objects, shows every one of them whole and well enough."""

    def draw(self, scenes: Scenes, split: str, start: int | np.ndarray) -> Iterator[tuple[np.ndarray, list[Drawn]]]:
        """For scenes of `split`, number start.. or numbers `start` [n]: uint8 [size, size, 3] pixels, and what is seen
        of every object."""


def make_renderer(style: str, space: ConceptSpace, picture: PictureConfig, *, max_objects: int, seed: int) -> Renderer:
    """The renderer of a style, `flat` or `clevr`, for the scenes of a concept space."""
    if style == "flat":
        return FlatRenderer(space, picture, max_objects=max_objects, seed=seed)
    from data_gen.render.clevr.renderer import ClevrRenderer

    return ClevrRenderer(space, picture, max_objects=max_objects, seed=seed)

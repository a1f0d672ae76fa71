"""The surface materials of the 3-D style, as one table: name -> what light does there.

Rubber and metal are CLEVR's. Ceramic is the same diffuse body under a sharp clear coat; glass shows, tinted, what is
behind it. The numbers are chosen by eye so that the four can be told apart on objects a dozen pixels wide.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Material:
    """How a surface answers light.

    diffuse: share of the object's colour that is scattered.
    gloss: strength of the highlights of the lights, roughness: their width (0 sharp, 1 as wide as the surface), to
        which the lights' own width adds. White, but in the object's colour where the surface mirrors.
    coat: how much of the room shows in the surface, straight on; more at grazing angles (Schlick's law).
    mirror: share of the light that is mirrored, tinted by the colour; one bounce sees the room, the ground and other
        objects, and the highlights stand for the lights.
    transmission: share of the light that comes from behind, tinted by the colour.
    """

    diffuse: float
    gloss: float
    roughness: float
    coat: float
    mirror: float
    transmission: float


MATERIALS: dict[str, Material] = {
    "rubber": Material(diffuse=1.0, gloss=0.05, roughness=0.55, coat=0.0, mirror=0.0, transmission=0.0),
    "metal": Material(diffuse=0.02, gloss=1.0, roughness=0.28, coat=0.0, mirror=1.0, transmission=0.0),
    "ceramic": Material(diffuse=0.9, gloss=0.6, roughness=0.14, coat=0.1, mirror=0.0, transmission=0.0),
    "glass": Material(diffuse=0.12, gloss=0.5, roughness=0.12, coat=0.06, mirror=0.0, transmission=0.95),
}

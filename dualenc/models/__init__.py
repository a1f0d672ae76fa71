"""Towers and the dual encoder that joins two of them."""

from dualenc.models.dual_encoder import DualEncoder
from dualenc.models.parameter_groups import no_decay, parameter_groups
from dualenc.models.towers import Readout, SymbolicTower, TextTower, TokenTower, VisionTower
from dualenc.models.transformer import Transformer

__all__ = [
    "DualEncoder",
    "Readout",
    "SymbolicTower",
    "TextTower",
    "TokenTower",
    "Transformer",
    "VisionTower",
    "no_decay",
    "parameter_groups",
]

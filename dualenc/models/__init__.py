"""Towers and the dual encoder that joins two of them."""

from dualenc.models.compiling import CompiledEncoder, check_compiler, explain_cut_cache
from dualenc.models.dual_encoder import DualEncoder
from dualenc.models.flops import embedded_flops, step_flops
from dualenc.models.multiplicative import MultiplicativeTower
from dualenc.models.parameter_groups import no_decay, parameter_groups
from dualenc.models.towers import ObjectTower, Readout, SymbolicTower, TextTower, TokenTower, VisionTower
from dualenc.models.transformer import Transformer

__all__ = [
    "CompiledEncoder",
    "DualEncoder",
    "MultiplicativeTower",
    "ObjectTower",
    "Readout",
    "SymbolicTower",
    "TextTower",
    "TokenTower",
    "Transformer",
    "VisionTower",
    "check_compiler",
    "embedded_flops",
    "explain_cut_cache",
    "no_decay",
    "parameter_groups",
    "step_flops",
]

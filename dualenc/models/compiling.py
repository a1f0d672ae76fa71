"""torch.compile of the towers' calls, beside the model: its weights keep their places and names."""

import shutil

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from dualenc.errors import InputError
from dualenc.models.dual_encoder import DualEncoder
from dualenc.models.towers import PAD, TokenTower

MULTIPLE = 8
"""Compiled towers see lengths that are multiples of this, since every length is compiled on its own."""


def check_compiler() -> None:
    """Points torch.compile to a C++ compiler. InputError where there is none; call it before any long work."""
    from torch._inductor import config as inductor

    asked = inductor.cpp.cxx if isinstance(inductor.cpp.cxx, list | tuple) else [inductor.cpp.cxx]
    found = next((name for name in (*asked, "g++", "clang++") if name and shutil.which(name)), None)
    if found is None:
        raise InputError(
            "trainer.compile: no C++ compiler (g++ or clang++) found; install one or set trainer.compile=false"
        )
    inductor.cpp.cxx = (None, found)  # by itself torch looks for g++ alone


def explain_cut_cache(error: BaseException) -> None:
    """Raises InputError where `error` comes from compiled code that a killed process left half-written on the disk."""
    if any(sign in str(error) for sign in ("file too short", "invalid ELF header")):
        from torch._inductor.runtime.cache_dir_utils import cache_dir

        raise InputError(
            f"trainer.compile: torch's cache of compiled code, {cache_dir()}, holds a file that was cut short when a "
            "process was killed; remove that folder and run the same command again"
        ) from None


class CompiledEncoder:
    """The calls of a `DualEncoder` and their gradients, compiled at first use; any number of rows, few lengths."""

    def __init__(self, model: DualEncoder) -> None:
        self._model = model
        self._encode_scenes = torch.compile(model.encode_scenes)
        self._encode_queries = torch.compile(model.encode_queries)

    def encode_scenes(self, scenes: Num[Tensor, "n *scene"]) -> Float[Tensor, "n d"]:
        """As `DualEncoder.encode_scenes`."""
        return self._encode_scenes(_prepared(scenes, self._model.scene_tower))

    def encode_queries(self, tokens: Int[Tensor, "n t"]) -> Float[Tensor, "n d"]:
        """As `DualEncoder.encode_queries`."""
        return self._encode_queries(_prepared(tokens, self._model.query_tower))


def _prepared(inputs: Tensor, tower: nn.Module) -> Tensor:
    """Tokens padded to a multiple of `MULTIPLE`, or to all that the tower takes; the number of rows left open."""
    from torch._dynamo import maybe_mark_dynamic  # a second to import, which only compiling should cost

    if isinstance(tower, TokenTower):
        length = inputs.shape[1]
        padded = min(-(-length // MULTIPLE) * MULTIPLE, tower.max_length)
        inputs = F.pad(inputs, (0, max(padded - length, 0)), value=PAD)
    maybe_mark_dynamic(inputs, 0)
    return inputs

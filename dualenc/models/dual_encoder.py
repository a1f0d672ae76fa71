"""Two towers and a temperature."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from dualenc.models.transformer import Transformer


class DualEncoder(nn.Module):
    """A scene tower and a query tower into one space, compared by cosine similarity times a learnable scale, plus a
    learnable offset where ``initial_logit_bias`` is given.

    A tower is any module with an ``output_dim`` that maps a batch to [n, output_dim]; the two may be of any kind.

    Raises ValueError if the towers' output dimensions differ.
    """

    def __init__(
        self,
        scene_tower: nn.Module,
        query_tower: nn.Module,
        *,
        initial_logit_scale: float = 1 / 0.07,
        max_logit_scale: float = 100.0,
        initial_logit_bias: float | None = None,
    ) -> None:
        super().__init__()
        if scene_tower.output_dim != query_tower.output_dim:
            raise ValueError(
                f"output_dim is {scene_tower.output_dim} for the scene tower and {query_tower.output_dim} for the "
                "query tower: give both the same"
            )
        self.scene_tower = scene_tower
        self.query_tower = query_tower
        self.max_logit_scale = max_logit_scale
        self.log_logit_scale = nn.Parameter(torch.tensor(math.log(initial_logit_scale)))
        # Only a sigmoid loss has a use for an offset: a softmax does not see it.
        self.logit_bias = None if initial_logit_bias is None else nn.Parameter(torch.tensor(initial_logit_bias))

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """The inverse temperature, at most ``max_logit_scale``.

        The limit acts on the value only: the gradient passes as if there were none, since a plain clamp has gradient
        zero above the limit and would hold the parameter there for ever. :meth:`clamp_` keeps it from drifting off.
        """
        scale = self.log_logit_scale.exp()
        return scale - (scale - self.max_logit_scale).clamp(min=0).detach()

    @torch.no_grad()
    def clamp_(self) -> None:
        """Brings the temperature parameter back to its limit; call it after every optimiser step."""
        self.log_logit_scale.clamp_(max=math.log(self.max_logit_scale))

    def encode_scenes(self, scenes: Num[Tensor, "n *scene"]) -> Float[Tensor, "n d"]:
        """L2-normalised embeddings of pictures or scene tokens, float32 also under autocast."""
        return _normalize(self.scene_tower(scenes))

    def encode_queries(self, tokens: Int[Tensor, "n t"]) -> Float[Tensor, "n d"]:
        """L2-normalised embeddings of query tokens, float32 also under autocast."""
        return _normalize(self.query_tower(tokens))

    def forward(
        self, scenes: Num[Tensor, "n *scene"], tokens: Int[Tensor, "m t"]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"], Float[Tensor, ""]]:
        """Scene embeddings, query embeddings and the logit scale: what a contrastive loss takes."""
        return self.encode_scenes(scenes), self.encode_queries(tokens), self.logit_scale

    def set_activation_checkpointing(self, enabled: bool) -> None:
        """Whether the towers' blocks keep no activations and compute them anew for the gradient: less memory, the
        same numbers, about a third more time."""
        for module in self.modules():
            if isinstance(module, Transformer):
                module.checkpointing = enabled

    def num_parameters(self) -> dict[str, int]:
        """Parameters of each tower."""
        return {
            "scene": sum(parameter.numel() for parameter in self.scene_tower.parameters()),
            "query": sum(parameter.numel() for parameter in self.query_tower.parameters()),
        }


def _normalize(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)

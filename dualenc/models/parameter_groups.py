"""Which parameters weight decay acts on."""

from typing import TypedDict

from torch import nn

_DECAYED = (nn.Linear, nn.Conv2d)


class ParameterGroup(TypedDict):
    """One entry of an optimiser's list of parameter groups."""

    params: list[nn.Parameter]
    weight_decay: float


def no_decay(module: nn.Module) -> set[str]:
    """Names of the parameters without weight decay: all but the weight matrices of linear and patch layers.

    That is gains, biases, embeddings of tokens, positions and classes, and temperatures.
    """
    decayed = {id(child.weight) for child in module.modules() if isinstance(child, _DECAYED)}
    return {name for name, parameter in module.named_parameters() if id(parameter) not in decayed}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[ParameterGroup]:
    """The trainable parameters in the two groups AdamW takes: with ``weight_decay``, and with none."""
    plain = no_decay(model)
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for name, parameter in trainable if name not in plain], "weight_decay": weight_decay},
        {"params": [parameter for name, parameter in trainable if name in plain], "weight_decay": 0.0},
    ]

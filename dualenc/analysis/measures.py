"""Shares with their bootstrap intervals, and R^2, as the rows of a study's tables."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from dualenc.metrics import object_bootstrap


def share(
    name: str, outcomes: Shaped[np.ndarray, "n"], objects: Int[np.ndarray, "n m"], *, seed: int
) -> dict[str, Any]:
    """`name` and `name_interval`: the mean of per-scene outcomes and its 95% interval over objects; None without
    scenes."""
    if not len(outcomes):
        return {name: None, f"{name}_interval": None}
    interval = object_bootstrap(outcomes, objects, seed=seed)
    return {name: float(outcomes.mean()), f"{name}_interval": interval and list(interval)}


def r2(
    target: Float[Tensor, "n d"], found: Float[Tensor, "n d"], objects: Int[np.ndarray, "n m"], *, seed: int
) -> dict[str, Any]:
    """`r2` = 1 - SS_res / SS_tot over all rows and dimensions, SS_tot around zero: centre `target` first; and its
    interval over objects. None where there is nothing to explain."""
    left = ((target - found) ** 2).sum(1).double().cpu().numpy()
    total = (target.double() ** 2).sum(1).cpu().numpy()
    if not len(total) or not total.sum():
        return {"r2": None, "r2_interval": None}
    interval = object_bootstrap(left, objects, denominators=total, seed=seed)
    bounds = None if interval is None else [1 - interval[1], 1 - interval[0]]
    return {"r2": float(1 - left.sum() / total.sum()), "r2_interval": bounds}

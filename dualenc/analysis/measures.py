"""Shares with their bootstrap intervals, and R^2, as the rows of a study's tables."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from dualenc.metrics import object_bootstrap

RESAMPLES = 400


def share(
    name: str, outcomes: Shaped[np.ndarray, "n"], objects: Int[np.ndarray, "n m"], *, seed: int
) -> dict[str, Any]:
    """`name` and `name_interval`: the mean of per-scene outcomes and its 95% interval over objects; None without
    scenes."""
    if not len(outcomes):
        return {name: None, f"{name}_interval": None}
    interval = _interval(outcomes, np.ones(len(outcomes)), objects, seed=seed)
    return {name: float(outcomes.mean()), f"{name}_interval": interval}


def r2(
    target: Float[Tensor, "n d"], found: Float[Tensor, "n d"], objects: Int[np.ndarray, "n m"], *, seed: int
) -> dict[str, Any]:
    """`r2` = 1 - SS_res / SS_tot over all rows and dimensions, SS_tot around zero: centre `target` first; and its
    interval over objects. None where there is nothing to explain."""
    left = ((target - found) ** 2).sum(1).double().cpu().numpy()
    total = (target.double() ** 2).sum(1).cpu().numpy()
    if not len(total) or not total.sum():
        return {"r2": None, "r2_interval": None}
    interval = _interval(left, total, objects, seed=seed)
    return {
        "r2": float(1 - left.sum() / total.sum()),
        "r2_interval": interval and [1 - bound for bound in interval[::-1]],
    }


def _interval(
    outcomes: Shaped[np.ndarray, "n"], totals: Float[np.ndarray, "n"], objects: Int[np.ndarray, "n m"], *, seed: int
) -> list[float] | None:
    """Of sum(outcomes) / sum(totals) when objects are resampled. Scenes of one object set have one weight in every
    resample, so that their sums can stand for them: the same interval from fewer rows."""
    sets, place = np.unique(np.sort(objects, axis=1), axis=0, return_inverse=True)
    sums, counts = (np.bincount(place.reshape(-1), weights=values) for values in (outcomes, totals))
    interval = object_bootstrap(sums, sets, denominators=counts, num_resamples=RESAMPLES, seed=seed)
    return None if interval is None else list(interval)
